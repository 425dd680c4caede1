"""Writes a call's turns to the database beside the call, so that speaking never waits for a disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from backend.calls.ports import Store
from backend.core.records import TurnRecord, TurnTimings
from backend.errors import StorageError

log = logging.getLogger(__name__)

_MAX_WAITING = 1_000
_TRIES = 5


class TurnRecorder:
    """One call's turns on their way to the store.

    At most 1,000 wait; beyond that the newest is dropped and the log says so, text and all.
    """

    def __init__(
        self, store: Store, call_id: str, on_turn: Callable[[TurnTimings], None] | None = None
    ) -> None:
        """`on_turn` is told the timings of each turn of the agent's."""
        self._store, self._call_id, self._on_turn = store, call_id, on_turn
        self._queue: asyncio.Queue[TurnRecord] = asyncio.Queue(_MAX_WAITING)
        self.count = 0

    def add(self, turn: TurnRecord) -> None:
        """Keep a turn; returns at once."""
        self.count = max(self.count, turn.index + 1)
        if self._on_turn is not None and turn.role == "agent":
            self._on_turn(turn.timings)
        try:
            self._queue.put_nowait(turn)
        except asyncio.QueueFull:
            log.error("call %s: turn not stored, %d are waiting: %s", self._call_id, _MAX_WAITING, turn)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            turn = await self._queue.get()
            try:
                await self._write(turn)
            finally:
                self._queue.task_done()

    async def flush(self) -> None:
        """Returns when everything added so far is stored or given up."""
        await self._queue.join()

    async def _write(self, turn: TurnRecord) -> None:
        for attempt in range(_TRIES):
            try:
                await self._store.add_turn(self._call_id, turn)
                return
            except StorageError as error:
                log.warning("call %s: turn %d not stored yet: %s", self._call_id, turn.index, error)
                await asyncio.sleep(0.1 * 2**attempt)
        log.error("call %s: turn lost after %d tries: %s", self._call_id, _TRIES, turn)
