"""A call's record while the database comes and goes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from backend.calls.ledger import Ledger
from backend.core.cost import Prices
from backend.core.records import CallRecord, TurnRecord
from tests.backend.calls.carrier import Counter
from tests.backend.calls.fakes import MemoryStore

RECORD = CallRecord("call_1", "inbound", "desk", "+1555", "+1666", "ringing", datetime.now(UTC))
PER_MINUTE = Prices(call_minute=1.0, inbound_minute=0.0, streaming_minute=0.0)
TURN = TurnRecord(0, "agent", "Hello.", "Hello.", 0.0, 400.0)


async def opened() -> tuple[Ledger, MemoryStore, Counter]:
    store, counter = MemoryStore(), Counter()
    await store.create(RECORD)
    return Ledger(RECORD, store, counter), store, counter


async def test_a_change_is_known_here_and_in_the_database_and_moves_are_counted() -> None:
    ledger, store, counter = await opened()
    assert await ledger.update(state="answered")
    assert await ledger.update(hangup_cause="busy")
    assert ledger.record.state == store.only.state == "answered"
    assert counter.moves == [("ringing", "answered")]


async def test_a_database_that_is_away_is_no_reason_to_forget() -> None:
    ledger, store, _ = await opened()
    store.broken = True
    assert not await ledger.update(state="answered")
    assert ledger.record.state == "answered"
    store.broken = False
    ledger.error = "cannot transfer"
    await ledger.store_the_end({"name": "Ann"})
    assert (store.only.state, store.only.error, store.only.variables) == (
        "answered",
        "cannot transfer",
        {"name": "Ann"},
    )


async def test_a_call_the_database_never_heard_of_is_told_whole() -> None:
    store = MemoryStore()
    ledger = Ledger(RECORD, store, Counter())
    ledger.stored = False
    assert await ledger.update(state="answered")
    assert store.only.state == "answered"
    assert ledger.stored


async def test_the_end_of_a_call_the_database_never_heard_of_has_its_turns() -> None:
    store = MemoryStore()
    ledger = Ledger(RECORD, store, Counter())
    ledger.stored = False

    async def add_turn(call_id: str, turn: TurnRecord) -> None:
        assert call_id in store.calls  # as a foreign key would have it
        await MemoryStore.add_turn(store, call_id, turn)

    store.add_turn = add_turn  # type: ignore[method-assign]
    ledger.turns.add(TURN)
    writer = asyncio.create_task(ledger.turns.run())
    ledger.note(state="ended")
    await ledger.store_the_end({})
    writer.cancel()
    assert store.turns == {RECORD.id: {0: TURN}}
    assert store.only.state == "ended"


@pytest.mark.parametrize(("hurry", "tries"), [(False, 8), (True, 4)])
async def test_a_database_that_is_started_anew_is_waited_for_unless_there_is_no_time(
    hurry: bool, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits_s: list[float] = []

    async def wait(seconds: float) -> None:
        waits_s.append(seconds)

    ledger, store, _ = await opened()
    store.broken = True
    ledger.note(state="ended")
    monkeypatch.setattr("backend.calls.ledger.asyncio.sleep", wait)
    await ledger.store_the_end({}, hurry=hurry)
    assert len(waits_s) == tries - 1
    assert sum(waits_s) == pytest.approx(1.4 if hurry else 25.4)


async def test_turns_wait_for_a_database_that_is_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, store, _ = await opened()
    store.broken, waited_s = True, 0.0

    async def wait(seconds: float) -> None:
        nonlocal waited_s
        waited_s += seconds
        store.broken = waited_s < 20

    monkeypatch.setattr("backend.calls.talking.recorder.asyncio.sleep", wait)
    ledger.turns.add(TURN)
    writer = asyncio.create_task(ledger.turns.run())
    await ledger.turns.flush()
    writer.cancel()
    assert store.turns == {RECORD.id: {0: TURN}}


async def test_an_id_that_comes_while_the_database_is_away_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger, store, _ = await opened()
    store.broken = True
    ledger.note(state="ended")

    async def wait(seconds: float) -> None:
        ledger.note(call_control_id="v3:late")
        store.broken = False

    monkeypatch.setattr("backend.calls.ledger.asyncio.sleep", wait)
    await ledger.store_the_end({})
    assert (store.only.state, store.only.call_control_id) == ("ended", "v3:late")


async def test_the_time_it_takes_to_store_the_end_costs_nothing() -> None:
    store, now_ms = MemoryStore(), 0.0
    await store.create(RECORD)
    ledger = Ledger(RECORD, store, Counter(), prices=PER_MINUTE, clock=lambda: now_ms)
    ledger.meter.answered(now_ms)
    now_ms = 59_000.0
    ledger.note(state="ended", ended_at=datetime.now(UTC))
    now_ms = 62_000.0  # the caller's last words were recognised, and turns stored
    await ledger.store_the_end({})
    assert store.only.estimated_usd == pytest.approx(1.0)


async def test_turns_that_are_never_written_do_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.calls.ledger._TURNS_S", 0.02)
    ledger, store, _ = await opened()
    ledger.turns.add(TURN)  # and nobody runs the writer
    async with asyncio.timeout(5):
        await ledger.store_the_end({})
    assert store.turns == {}


async def test_a_turn_that_cannot_be_written_costs_neither_the_next_nor_the_writer() -> None:
    ledger, store, _ = await opened()

    async def add_turn(call_id: str, turn: TurnRecord) -> None:
        if turn.index == 0:
            raise UnicodeError("half a character")
        await MemoryStore.add_turn(store, call_id, turn)

    store.add_turn = add_turn  # type: ignore[method-assign]
    writer = asyncio.create_task(ledger.turns.run())
    ledger.turns.add(TURN)
    ledger.turns.add(replace(TURN, index=1))
    async with asyncio.timeout(5):
        await ledger.turns.flush()
    assert list(store.turns["call_1"]) == [1]
    assert not writer.done()
    writer.cancel()
