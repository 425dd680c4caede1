"""What the adapter tells of each request, by real connections, and whom it asks when one is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from backend.core.llm import Message, TextDelta
from backend.errors import LlmError
from backend.llm.openai import OpenAiModel
from backend.simulator.llm import LlmStandIn, running
from backend.simulator.llm_script import parse_llm_script

HELLO = [Message("user", "Hello there")]
STALL = {"reply": [{"stall": True}]}


class Watched:
    """A gate that keeps what it is told."""

    def __init__(self, *, allowed: bool = True) -> None:
        self.allowed = allowed
        self.told: list[str] = []

    def allows(self) -> bool:
        return self.allowed

    def began(self) -> None:
        self.told.append("began")

    def answered(self, first_word_ms: float) -> None:
        assert 0 <= first_word_ms < 10_000
        self.told.append("answered")

    def failed(self, error: LlmError, after_ms: float) -> None:
        assert 0 <= after_ms < 10_000
        self.told.append(error.reason)

    def gave_up(self) -> None:
        self.told.append("gave up")


@asynccontextmanager
async def asking(
    *rules: dict[str, Any], gates: Sequence[Watched], **options: Any
) -> AsyncIterator[tuple[OpenAiModel, LlmStandIn]]:
    stand_in = LlmStandIn(parse_llm_script({"rules": list(rules)}))
    async with running(stand_in) as url:
        fallback = "second" if len(gates) == 2 else None
        model = OpenAiModel(url, None, "first", fallback_model=fallback, gates=gates, **options)
        try:
            yield model, stand_in
        finally:
            await model.aclose()


async def said_by(model: OpenAiModel) -> str:
    return "".join([event.text async for event in model.reply(HELLO) if isinstance(event, TextDelta)])


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"reply": "Good day."}, ["answered"]),
        ({"reply": [{"call": "book", "arguments": {"day": "x"}}]}, ["answered"]),
        ({"reply": [{"say": ""}]}, ["answered"]),  # with nothing to say
        ({"reply": [{"say": "Well,"}, {"cut": True}]}, ["answered", "unreachable"]),
        ({"reply": [{"cut": True}]}, ["unreachable"]),
        (STALL, ["timeout"]),
        ({"refuse": {"status": 503}}, ["server"]),
        ({"refuse": {"status": 429}}, ["rate_limited"]),
        ({"refuse": {"status": 401}}, ["unauthorized"]),
        ({"refuse": {"status": 400}}, ["bad_request"]),
    ],
)
async def test_what_came_of_a_request_is_told(rule: dict[str, Any], told: list[str]) -> None:
    gate = Watched()
    patience_s = 0.2 if rule is STALL else 5.0
    async with asking(rule, gates=[gate], first_token_timeout_s=patience_s) as (model, _):
        await asyncio.gather(said_by(model), return_exceptions=True)
    assert gate.told == ["began", *told]


async def test_who_lets_go_before_the_first_word_tells_nothing() -> None:
    gate = Watched()
    async with asking(STALL, gates=[gate]) as (model, stand_in):
        reading = asyncio.create_task(said_by(model))
        await asyncio.wait_for(stand_in.request(0), 5)
        reading.cancel()
        await asyncio.wait([reading])
    assert gate.told == ["began", "gave up"]


async def test_who_lets_go_after_the_first_word_was_answered() -> None:
    gate = Watched()
    rule = {"reply": [{"say": "A long story"}, {"stall": True}]}
    async with asking(rule, gates=[gate]) as (model, _), aclosing(model.reply(HELLO)) as events:
        await anext(events)
    assert gate.told == ["began", "answered"]


async def test_the_fallback_is_asked_at_once_when_the_first_is_left_alone() -> None:
    first, second = Watched(allowed=False), Watched()
    async with asking({"reply": "Here I am."}, gates=[first, second]) as (model, stand_in):
        assert await said_by(model) == "Here I am."
        assert [item.body["model"] for item in stand_in.asked] == ["second"]
    assert (first.told, second.told) == ([], ["began", "answered"])


async def test_nobody_is_asked_when_all_are_left_alone() -> None:
    gates = [Watched(allowed=False), Watched(allowed=False)]
    async with asking({"reply": "Yes."}, gates=gates) as (model, stand_in):
        with pytest.raises(LlmError, match="language model first at 127.0.0.1: left alone") as caught:
            await said_by(model)
        assert caught.value.reason == "left_alone"
        assert stand_in.asked == []


async def test_why_the_first_failed_is_told_when_its_fallback_is_left_alone() -> None:
    gates = [Watched(), Watched(allowed=False)]
    async with asking({"refuse": {"status": 500}}, gates=gates) as (model, _):
        with pytest.raises(LlmError, match="first at") as caught:
            await said_by(model)
    assert caught.value.reason == "server"


async def test_a_fallback_is_not_blamed_for_the_time_the_first_used_up() -> None:
    first, second = Watched(), Watched()
    options = {"first_token_timeout_s": 0.3, "timeout_s": 0.4}
    async with asking(STALL, gates=[first, second], **options) as (model, _):
        with pytest.raises(LlmError):
            await said_by(model)
    assert first.told == ["began", "timeout"]
    assert second.told == ["began", "gave up"]


async def test_who_is_cut_off_while_it_speaks_is_not_to_blame_but_who_falls_silent_is() -> None:
    endless, silent = Watched(), Watched()
    story = {"reply": [{"say": "a long story that goes on and on", "pace_ms": 100}]}
    async with asking(story, gates=[endless], timeout_s=0.3) as (model, _):
        with pytest.raises(LlmError, match="not whole within 0.3 s"):
            await said_by(model)
    halting = {"reply": [{"say": "Well,"}, {"stall": True}]}
    async with asking(halting, gates=[silent], pause_s=0.2) as (model, _):
        with pytest.raises(LlmError, match="fell silent"):
            await said_by(model)
    assert endless.told == ["began", "answered"]
    assert silent.told == ["began", "answered", "timeout"]


@pytest.mark.parametrize(("fallback_allowed", "after_s"), [(True, "0.2"), (False, "0.4")])
async def test_one_with_a_fallback_is_waited_for_less(
    monkeypatch: pytest.MonkeyPatch, fallback_allowed: bool, after_s: str
) -> None:
    monkeypatch.setattr("backend.llm.openai._FIRST_WORD_BEFORE_FALLBACK_S", 0.2)
    monkeypatch.setattr("backend.llm.openai._FIRST_WORD_S", 0.4)
    told: list[str] = []
    first = Watched()
    first.failed = lambda error, after_ms: told.append(str(error))  # type: ignore[method-assign]
    rules = ({"when": {"model": "first"}, **STALL}, {"reply": "Here I am."})
    async with asking(*rules, gates=[first, Watched(allowed=fallback_allowed)]) as (model, _):
        await asyncio.gather(said_by(model), return_exceptions=True)
    assert f"no first word within {after_s} s" in told[0]
