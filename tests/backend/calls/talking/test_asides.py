"""What others have the agent say, beside the talk with the caller."""

from __future__ import annotations

import asyncio

import pytest

from backend.calls.talking.events import SayRequest
from backend.core.turns import BargeIn, SpeechStarted
from tests.backend.calls.fakes import Script, ScriptedRoute, now_ms, tone, until
from tests.backend.calls.talks import YES_NO, talk


@pytest.mark.parametrize("over", [False, True])
async def test_an_answer_given_meanwhile_is_followed_before_anything_else_is_said(over: bool) -> None:
    not_yet = asyncio.Event()
    route = ScriptedRoute({"By the way.": Script([not_yet, tone(400)])})
    async with talk(YES_NO, route) as call:
        await call.heard("Shall we?")
        call.tell(SayRequest("By the way.", interrupt=False), SayRequest("And more.", interrupt=False))
        await call.asked("By the way.")
        if over:
            before_ms = call.line.audio_ms
            not_yet.set()
            await until(lambda: call.line.audio_ms >= before_ms + 100, "the first of it")
            call.tell(SpeechStarted(now_ms()), BargeIn(now_ms()))
        call.words("Yes.")
        not_yet.set()
        await call.heard("Very well.")
        order = [text for _, text in call.said if text]
    assert order.index("Yes.") < order.index("Very well.")
    assert "And more." not in order[: order.index("Very well.")]
