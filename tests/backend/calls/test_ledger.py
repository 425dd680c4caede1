"""A call's record while the database comes and goes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from backend.calls.ledger import Ledger
from backend.core.records import CallRecord, TurnRecord
from tests.backend.calls.carrier import Counter
from tests.backend.calls.fakes import MemoryStore

RECORD = CallRecord("call_1", "inbound", "desk", "+1555", "+1666", "ringing", datetime.now(UTC))
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


async def test_turns_that_are_never_written_do_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.calls.ledger._TURNS_S", 0.02)
    ledger, store, _ = await opened()
    ledger.turns.add(TURN)  # and nobody runs the writer
    async with asyncio.timeout(5):
        await ledger.store_the_end({})
    assert store.turns == {}
