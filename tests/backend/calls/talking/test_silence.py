"""Words and our own breaking of the silence that fall together."""

from __future__ import annotations

import asyncio

import pytest

from backend.core.turns import SpeechStarted, TurnEnded
from tests.backend.calls.fakes import Script, ScriptedRoute, agent, now_ms, tone, until
from tests.backend.calls.talks import BYE, node, talk, to

ASKS = agent(
    node("name", "Who is calling?", collect={"name": "who", "type": "name"}, transitions=[to("thanks")]),
    node("thanks", "Thank you, {{who}}.", transitions=[to("bye")]),
    BYE,
    turns={"idle_ms": 1_000, "idle_prompts": ["Are you still there?"]},
)


@pytest.mark.parametrize("begun", [False, True])
async def test_an_answer_begun_before_an_idle_prompt_is_heard_is_an_answer(begun: bool) -> None:
    not_yet = asyncio.Event()
    route = ScriptedRoute({"Are you still there?": Script([not_yet, tone(400)])})
    async with talk(ASKS, route) as call:
        await call.asked("Are you still there?")
        at_ms = now_ms()
        if begun:
            call.tell(SpeechStarted(at_ms))
            before_ms = call.line.audio_ms
            not_yet.set()
            await until(lambda: call.line.audio_ms > before_ms, "the first of it")
            call.tell(TurnEnded("Ann.", at_ms, at_ms + 10, now_ms(), 300))
        else:
            call.words("Ann.")
            not_yet.set()
        await call.heard("Thank you, Ann.")
    assert route.asked.count("Are you still there?") == 1
    assert "Sorry, I didn't catch that." not in route.asked
