"""Writes a call's turns and tools to the database beside the call: speaking never waits for a disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from backend.calls.ports import Store
from backend.core.records import ToolUse, TurnRecord, TurnTimings
from backend.errors import StorageError

log = logging.getLogger(__name__)

_MAX_WAITING = 1_000
_TRIES = 5


class TurnRecorder:
    """One call's turns, and what its tools did, on their way to the store.

    At most 1,000 wait; beyond that the newest is dropped and the log says so, text and all.
    """

    def __init__(
        self, store: Store, call_id: str, on_turn: Callable[[TurnTimings], None] | None = None
    ) -> None:
        """`on_turn` is told the timings of each turn of the agent's."""
        self._store, self._call_id, self._on_turn = store, call_id, on_turn
        self._queue: asyncio.Queue[TurnRecord | ToolUse] = asyncio.Queue(_MAX_WAITING)
        self.count = 0
        self.tools = 0

    def add(self, turn: TurnRecord) -> None:
        """Keep a turn; returns at once."""
        self.count = max(self.count, turn.index + 1)
        if self._on_turn is not None and turn.role == "agent":
            self._on_turn(turn.timings)
        self._put(turn)

    def add_tool(self, tool: ToolUse) -> None:
        """Keep what a tool did; returns at once."""
        self.tools = max(self.tools, tool.index + 1)
        self._put(tool)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            item = await self._queue.get()
            try:
                await self._write(item)
            finally:
                self._queue.task_done()

    async def flush(self) -> None:
        """Returns when everything added so far is stored or given up."""
        await self._queue.join()

    def _put(self, item: TurnRecord | ToolUse) -> None:
        try:
            self._queue.put_nowait(item)
        except asyncio.QueueFull:
            log.error("call %s: not stored, %d are waiting: %s", self._call_id, _MAX_WAITING, item)

    async def _write(self, item: TurnRecord | ToolUse) -> None:
        for attempt in range(_TRIES):
            try:
                if isinstance(item, TurnRecord):
                    await self._store.add_turn(self._call_id, item)
                else:
                    await self._store.add_tool(self._call_id, item)
                return
            except StorageError as error:
                kind = "turn" if isinstance(item, TurnRecord) else "use of a tool"
                log.warning("call %s: %s %d not stored yet: %s", self._call_id, kind, item.index, error)
                await asyncio.sleep(0.1 * 2**attempt)
        log.error("call %s: lost after %d tries: %s", self._call_id, _TRIES, item)
