"""Writes what happens in a call to the database beside it, so that speaking never waits for a disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from backend.calls.ports import Store
from backend.core.records import CallRecording, ToolUse, TurnRecord
from backend.errors import StorageError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Visited:
    nodes: tuple[str, ...]

    @property
    def index(self) -> int:
        return len(self.nodes) - 1


_Item = TurnRecord | ToolUse | CallRecording | _Visited
_MAX_WAITING = 1_000
_TRIES = 18  # half a minute: a database that is started anew is back by then
_LONGEST_WAIT_S = 2.0


class TurnRecorder:
    """One call's turns, nodes, uses of tools and recordings on their way to the store, in order.

    At most 1,000 wait; beyond that the newest is dropped and the log says so, text and all.
    """

    def __init__(
        self, store: Store, call_id: str, on_turn: Callable[[TurnRecord], None] | None = None
    ) -> None:
        """`on_turn` is told of each turn of the agent's."""
        self._store, self._call_id, self._on_turn = store, call_id, on_turn
        self._queue: asyncio.Queue[_Item] = asyncio.Queue(_MAX_WAITING)
        self.count = 0
        self.tools = 0
        self.nodes: tuple[str, ...] = ()
        """The nodes entered so far."""

    def visit(self, node_id: str) -> None:
        """The call is at this node; returns at once. Kept when it was not there before."""
        if node_id not in self.nodes[-1:]:
            self.nodes += (node_id,)
            self._put(_Visited(self.nodes))

    def add(self, turn: TurnRecord) -> None:
        """Keep a turn; returns at once."""
        self.count = max(self.count, turn.index + 1)
        if self._on_turn is not None and turn.role == "agent":
            self._on_turn(turn)
        self._put(turn)

    def add_tool(self, tool: ToolUse) -> None:
        """Keep what a tool did; returns at once."""
        self.tools = max(self.tools, tool.index + 1)
        self._put(tool)

    def add_recording(self, told: CallRecording) -> None:
        """Keep what is told of a recording; returns at once."""
        self._put(told)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            item = await self._queue.get()
            try:
                await self._write(item)
            except Exception:
                # A bug in storing one thing must cost neither the call nor what comes after.
                log.exception("call %s: not stored: %s %d", self._call_id, type(item).__name__, item.index)
            finally:
                self._queue.task_done()

    async def flush(self) -> None:
        """Returns when everything added so far is stored or given up."""
        await self._queue.join()

    def _put(self, item: _Item) -> None:
        try:
            self._queue.put_nowait(item)
        except asyncio.QueueFull:
            log.error("call %s: not stored, %d are waiting: %s", self._call_id, _MAX_WAITING, item)

    async def _write(self, item: _Item) -> None:
        for attempt in range(_TRIES):
            try:
                match item:
                    case TurnRecord():
                        await self._store.add_turn(self._call_id, item)
                    case ToolUse():
                        await self._store.add_tool(self._call_id, item)
                    case CallRecording():
                        await self._store.keep_recording(self._call_id, item)
                    case _Visited():
                        await self._store.update(self._call_id, nodes=item.nodes)
                return
            except StorageError as error:
                if isinstance(item, _Visited):
                    return  # the next one tells of this node, too, and so does the call's end
                kind = type(item).__name__
                log.warning("call %s: %s %d not stored yet: %s", self._call_id, kind, item.index, error)
                await asyncio.sleep(min(0.1 * 2**attempt, _LONGEST_WAIT_S))
        log.error("call %s: lost after %d tries: %s", self._call_id, _TRIES, item)
