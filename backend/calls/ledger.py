"""A call's record, here and in the database; the call goes on while the database is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from backend.calls.ports import Clock, Observer, Store
from backend.calls.talking.recorder import TurnRecorder
from backend.core.cost import Meter, Prices
from backend.core.records import CallRecord, TurnRecord
from backend.errors import StorageError

log = logging.getLogger(__name__)

_LIST_PRICES = Prices()
_STORE_TRIES, _HURRIED_TRIES = 8, 4  # a database that is started anew takes its half minute
_FIRST_WAIT_S = 0.2  # then twice as long, and so on
_STORE_S = 60.0  # all of them: one that hangs takes its time to fail
_TURNS_S, _HURRIED_TURNS_S = 30.0, 5.0


class Ledger:
    """One call's. `turns` takes its turns, and is run by whoever owns the call's tasks."""

    def __init__(
        self,
        record: CallRecord,
        store: Store,
        observer: Observer,
        *,
        prices: Prices = _LIST_PRICES,
        clock: Clock = lambda: 0.0,
    ) -> None:
        self.record, self.clock = record, clock
        self.meter = Meter(prices, outbound=record.direction == "outbound")
        """What the call costs, by `clock`."""
        self.turns = TurnRecorder(store, record.id, on_turn=self._agent_spoke)
        self.error: str | None = None
        """What went wrong, for the record; stored with the end."""
        self.stored = True
        """Whether the database knows this call; if not, it is told again with every change."""
        self._store, self._observer = store, observer
        self._ended_ms: float | None = None

    def note(self, **changes: object) -> None:
        """Change the call's record here; the database is told with the end."""
        before = self.record.state
        self.record = replace(self.record, **changes)  # type: ignore[arg-type]
        if "ended_at" in changes:
            self._ended_ms = self.clock()  # what is stored only later has not lasted longer
        if self.record.state != before:
            self._observer.call_moved(self.record.direction, before, self.record.state)

    async def update(self, **changes: object) -> bool:
        """Change the call's record, here and in the database; False when that could not be told."""
        self.note(**changes)
        try:
            if self.stored:
                await self._store.update(self.record.id, **changes)
            else:
                await self._store.create(self.record)
                self.stored = True
        except StorageError as error:
            log.error("call %s: not stored: %s: %s", self.record.id, changes, error)
            return False
        return True

    async def store_the_end(self, variables: Mapping[str, str], *, hurry: bool = False) -> None:
        """The turns, then the record: whoever reads that a call is over reads all there is of it.

        Everything is told once more, so that whatever the database missed meanwhile is put right.
        `hurry`: the process may be killed any moment, so that the record comes first.
        """
        if not self.stored:
            await self.update()  # turns need their call's row
        if hurry:
            await self._store_record(variables, _HURRIED_TRIES)
        await self._store_turns(_HURRIED_TURNS_S if hurry else _TURNS_S)
        if not hurry:
            await self._store_record(variables, _STORE_TRIES)

    async def _store_turns(self, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                await self.turns.flush()
        except TimeoutError:
            log.error("call %s: turns are missing from the database: it took too long", self.record.id)

    async def _store_record(self, variables: Mapping[str, str], tries: int) -> None:
        ended_ms = self.clock() if self._ended_ms is None else self._ended_ms
        estimated_usd = self.meter.usd(ended_ms)
        with suppress(TimeoutError):
            async with asyncio.timeout(_STORE_S):
                for attempt in range(tries):
                    if attempt:
                        await asyncio.sleep(_FIRST_WAIT_S * 2 ** (attempt - 1))
                    if await self._store_record_once(variables, estimated_usd):
                        return
        log.error("call %s: its end is not in the database: %s", self.record.id, self.record)

    async def _store_record_once(self, variables: Mapping[str, str], estimated_usd: float | None) -> bool:
        ended = self.record  # as it is now: a dial's ids may come late
        return await self.update(
            state=ended.state,
            call_control_id=ended.call_control_id,
            call_session_id=ended.call_session_id,
            call_leg_id=ended.call_leg_id,
            answered_at=ended.answered_at,
            ended_at=ended.ended_at,
            hangup_cause=ended.hangup_cause,
            hangup_source=ended.hangup_source,
            answered_by=ended.answered_by,
            voicemail=ended.voicemail,
            estimated_usd=estimated_usd,
            error=self.error,
            variables=dict(variables),
            nodes=self.turns.nodes,
        )

    def _agent_spoke(self, turn: TurnRecord) -> None:
        self._observer.turn_answered(turn.timings)
        for part in turn.spoken:
            self.meter.spoke(part.route, len(part.text))


def now() -> datetime:
    """As records tell the time."""
    return datetime.now(UTC)
