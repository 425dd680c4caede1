"""A language model that misbehaves, by the real adapter: the caller gets a sentence, and the call goes on."""

from __future__ import annotations

from typing import Any

import pytest

from backend.llm.openai import OpenAiModel
from backend.simulator.llm import LlmStandIn, running
from backend.simulator.llm_script import LlmScript
from tests.backend.calls.fakes import agent
from tests.backend.calls.talks import BYE, HOURS, LLM, ScriptedTools, node, talk, to

FLOW = agent(
    node(
        "help",
        "How can I help?",
        prompt="Answer questions about opening hours.",
        transitions=[to("bye", keywords=["bye"]), to("bye", intent="is done")],
        tools=["hours"],
    ),
    BYE,
    tools=[HOURS],
    **LLM,
)
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
