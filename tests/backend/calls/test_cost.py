"""A call's cost: reckoned while it goes on, billed afterwards, and an end to it when it is too much."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backend.core.cost import Prices
from tests.backend.calls.carrier import CCID, house
from tests.backend.calls.fakes import Script, ScriptedRoute, agent, tone, until

BILL = {"total_cost": "0.0090", "status": "success", "cost_parts": [{"call_part": "sip", "cost": "0.0090"}]}


def talker(**extra: Any) -> Any:
    return agent(
        {"id": "hello", "say": "Hello.", "transitions": [{"to": "bye", "when": {"digits": "1"}}]},
        {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]},
        **extra,
    )


async def test_the_estimate_comes_with_the_end_and_the_bill_after_it() -> None:
    async with house(talker(), prices=Prices(call_minute=60.0)) as h:
        h.carrier.ring()
        await h.heard("Hello.")
        assert h.store.only.estimated_usd is None
        h.carrier.hang_up()
        await h.calls_over()
        assert h.store.only.estimated_usd is not None and h.store.only.estimated_usd > 0.01
        assert h.store.only.billed_usd is None
        h.carrier.tell("call.cost", **BILL)
        await until(lambda: h.store.only.billed_usd)
    assert (h.store.only.billed_usd, h.store.only.billed_parts) == (0.009, {"sip": 0.009})


async def test_the_bill_of_somebody_it_was_transferred_to_is_not_the_calls() -> None:
    async with house(talker()) as h:
        h.carrier.ring()
        await h.heard("Hello.")
        h.carrier.hang_up()
        await h.calls_over()
        other = h.carrier.event("call.cost", "v3:other", **BILL)
        h.manager.accept_event(
            type(other)(other.id, other.event_type, "v3:other", "leg-2", "session", None, BILL)
        )
        h.carrier.tell("call.cost", CCID, **{**BILL, "total_cost": "0.5"})
        await until(lambda: h.store.only.billed_usd)
    assert h.store.only.billed_usd == 0.5


async def test_a_call_that_was_never_answered_has_no_estimate() -> None:
    async with house(talker()) as h:
        h.carrier.react["answer"] = lambda: h.carrier.hang_up()
        h.carrier.ring()
        await h.calls_over()
    assert h.store.only.estimated_usd is None


async def test_a_call_over_its_budget_ends_with_a_goodbye() -> None:
    limits = {"budget_usd": 0.02, "goodbye": "Our time is up."}
    async with house(talker(limits=limits), prices=Prices(call_minute=3.0)) as h:
        h.carrier.ring()
        await h.calls_over()
    assert h.store.spoken()[-1] == ("agent", "Our time is up.")
    assert h.carrier.done[-1] == "hangup"
    record = h.store.only
    assert record.error is None
    assert record.estimated_usd is not None and record.estimated_usd >= 0.02


async def test_a_budget_that_is_spent_while_the_longest_time_runs_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backend.calls.talk._LOOK_S", 0.01)
    limits = {"budget_usd": 1.0, "goodbye": "Our time is up."}
    route = ScriptedRoute({"Hello.": Script([tone(3000)])})
    spender = talker(limits=limits)
    spender = spender.model_copy(
        update={"limits": spender.limits.model_copy(update={"max_call_seconds": 0.3})}
    )
    async with house(spender, prices=Prices(million_prompt_tokens=1.0), route=route) as h:
        h.carrier.ring()
        await until(lambda: h.carrier.lines and h.carrier.line.audio_ms)
        cleared = h.carrier.line.hold("clear")
        await cleared.asked.wait()  # the time is up, and what was being said is cut
        (call,) = h.manager._calls.values()
        call.ledger.meter.thought(2_000_000, 0)
        (watch,) = (task for task in asyncio.all_tasks() if task.get_name() == "budget")
        await asyncio.wait([watch])
        cleared.granted.set()
        await h.calls_over()
    assert watch.exception() is None
    assert h.store.spoken()[-1] == ("agent", "Our time is up.")


async def test_a_budget_that_is_kept_changes_nothing() -> None:
    async with house(talker(limits={"budget_usd": 5.0})) as h:
        h.carrier.ring()
        await h.heard("Hello.")
        h.carrier.line.hear("dtmf", dtmf={"digit": "1"})
        await h.calls_over()
    assert h.store.spoken()[-1] == ("agent", "Goodbye.")
