"""A language model that misbehaves, by the real adapter: the caller gets a sentence, and the call goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from backend.calls.boards.llm_board import LlmBoard
from backend.core.agent import Agent
from backend.llm.openai import OpenAiModel
from backend.settings import load_settings
from backend.simulator.llm import LlmStandIn, running
from backend.simulator.llm_script import LlmScript
from backend.thinking import Thinking
from tests.backend.calls.fakes import agent, now_ms, until
from tests.backend.calls.talks import BYE, HOURS, LLM, ScriptedTools, Talk, node, talk, to


def flow(**llm: Any) -> Agent:
    return agent(
        node(
            "help",
            "How can I help?",
            prompt="Answer questions about opening hours.",
            transitions=[to("bye", keywords=["bye"]), to("bye", intent="is done")],
            tools=["hours"],
        ),
        BYE,
        tools=[HOURS],
        llm={**LLM["llm"], **llm},
    )


FLOW = flow()
ASKED_AGAIN = "Sorry, I didn't catch that. How can I help?"
FAILURES: dict[str, dict[str, Any]] = {
    "a server error": {"refuse": {"status": 500}},
    "a refused key": {"refuse": {"status": 401}},
    "too many requests": {"refuse": {"status": 429}},
    "silence": {"reply": [{"stall": True}]},
    "no answer at all": {"reply": "late", "after_ms": 5_000},
    "a broken connection": {"reply": [{"cut": True}]},
    "events that are no JSON": {"reply": [{"malformed": True}]},
    "an error in the stream": {"reply": [{"error": {"status": 500}}]},
    "nothing": {"reply": [{"say": ""}]},
    "only signs": {"reply": "*** … 🙂"},
    "a choice that is none": {"reply": [{"call": "go_to", "arguments": {"choice": "vault"}}]},
    "broken arguments": {"reply": [{"call": "go_to", "arguments": '{"choice": "is d'}]},
    "arguments that are no object": {"reply": [{"call": "go_to", "arguments": "[1, 2]"}]},
    "a tool there is not": {"reply": [{"call": "transfer", "arguments": {"to": "+19005550000"}}]},
    "tools without end": {"reply": [{"call": "hours", "arguments": {}}]},
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_the_caller_gets_a_sentence_and_the_call_goes_on(failure: str) -> None:
    whens: list[dict[str, Any]] = [{"tool": {"regex": "."}}, {"user": "open"}]
    script = LlmScript.model_validate({"rules": [{"when": when, **FAILURES[failure]} for when in whens]})
    async with running(LlmStandIn(script)) as url:
        model = OpenAiModel(url, None, "m", first_token_timeout_s=0.4, timeout_s=2.0)
        try:
            async with talk(FLOW, model=model, tools=ScriptedTools()) as call:
                await call.heard("You said: (The caller waits for you to speak.)")
                call.words("When are you open?")
                await call.heard(ASKED_AGAIN)
                call.words("Hello?")
                await call.heard("You said: Hello?")
                call.words("Bye.")
                await call.end()
            assert call.said[-1] == ("agent", "Goodbye.")
        finally:
            await model.aclose()


async def test_a_reply_that_breaks_off_is_kept_as_far_as_it_came() -> None:
    reply = [{"say": "We are open. Until"}, {"cut": True}]
    script = LlmScript.model_validate({"rules": [{"when": {"user": "open"}, "reply": reply}]})
    async with running(LlmStandIn(script)) as url:
        model = OpenAiModel(url, None, "m")
        try:
            async with talk(FLOW, model=model) as call:
                await call.heard("speak.)")
                call.words("When are you open?")
                await call.heard("We are open.")
                call.words("Until when, please?")
                await call.heard("You said: Until when, please?")
        finally:
            await model.aclose()


class Mind:
    """A process's language models, by a stand-in, on a clock that can be put forward."""

    def __init__(self, url: str) -> None:
        self.forward_ms = 0.0
        settings = load_settings(None, openai_base_url=url, openai_api_key=None)
        self.board = LlmBoard(lambda: now_ms() + self.forward_ms)
        self.thinking = Thinking(settings, {}, self.board)

    @asynccontextmanager
    async def call(self, talker: Agent) -> AsyncIterator[Talk]:
        model = self.thinking.language_model(talker)
        async with talk(talker, model=model, tools=ScriptedTools()) as call:
            yield call


async def _answer(call: Talk, words: str, then: str) -> list[str]:
    """What the agent says to `words` until it has said `then`."""
    turns, said = len(call.turns), len(call.said)
    call.words(words)
    await until(lambda: any(call.turns[at].heard_text.endswith(then) for at in list(call.turns)[turns + 1 :]))
    return [text for who, text in call.said[said:] if who == "agent"]


HUNG = LlmScript.model_validate({"rules": [{"reply": [{"stall": True}]}]})
WELL = LlmScript()


async def test_a_model_that_hangs_is_bridged_then_left_alone_by_all_calls_and_comes_back_by_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    stand_in = LlmStandIn(WELL)
    async with running(stand_in) as url:
        mind = Mind(url)
        async with mind.call(FLOW) as one, mind.call(FLOW) as two:
            opening = "You said: (The caller waits for you to speak.)"
            await asyncio.gather(one.heard(opening), two.heard(opening))
            stand_in.use(HUNG)
            answers = await asyncio.gather(
                *(_answer(call, "When are you open?", ASKED_AGAIN) for call in (one, two))
            )
            assert answers == [["One moment, please.", ASKED_AGAIN]] * 2
            asked = len(stand_in.asked)
            assert await _answer(one, "Hello there?", ASKED_AGAIN) == [ASKED_AGAIN], "at once"
            async with mind.call(FLOW) as three:
                await three.heard("How can I help?")
            assert len(stand_in.asked) == asked, "nobody asks it meanwhile"
            stand_in.use(WELL)
            mind.forward_ms = 5_000
            two.words("Are you there now?")
            await two.heard("You said: Are you there now?")
            one.words("And for me?")
            await one.heard("You said: And for me?")
        await mind.thinking.aclose()
    told = [r.getMessage() for r in caplog.records if r.name == "backend.calls.boards.llm_board"]
    assert len(told) == 2 and "left alone for now" in told[0] and told[1].endswith("works again")


async def test_calls_go_to_the_fallback_at_once_while_a_model_is_left_alone() -> None:
    hung, well = LlmStandIn(HUNG), LlmStandIn(WELL)
    async with running(hung) as url, running(well) as elsewhere:
        mind = Mind(url)
        talker = flow(fallback_base_url=elsewhere)
        opening = "You said: (The caller waits for you to speak.)"
        async with mind.call(talker) as one, mind.call(talker) as two:
            await asyncio.gather(one.heard(opening), two.heard(opening))
            assert one.said[0] == ("agent", f"One moment, please. {opening}")
            for call, words in ((one, "When are you open?"), (two, "And where?")):
                assert await _answer(call, words, words) == [f"You said: {words}"], "at once"
        assert len(hung.asked) == 2
        await mind.thinking.aclose()
