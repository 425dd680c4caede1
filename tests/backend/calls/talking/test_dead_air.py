"""What a caller hears while a language model does not answer, and what the model is told of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from backend.calls.talking.events import LineLost, LineRestored, SayRequest
from backend.core.agent import Agent
from backend.core.agent_checks import find_errors
from backend.core.llm import ToolCall
from backend.core.turns import SpeechStarted, TurnEnded
from backend.errors import LlmError
from tests.backend.calls.fakes import agent, now_ms, until
from tests.backend.calls.talks import BYE, HELLO, HOURS, ScriptedModel, node, slow_voice, talk, to

MOMENT = "One moment, please."
ASKED_AGAIN = "Sorry, I didn't catch that."


def thinking(language: str = "en-US", **llm: Any) -> Agent:
    return agent(
        node(
            "help",
            prompt="Answer questions about opening hours.",
            transitions=[to("bye", keywords=["bye"]), to("bye", intent="is done")],
            tools=["hours"],
        ),
        BYE,
        tools=[HOURS],
        language=language,
        llm={"provider": "openai", "model": "m", "filler_ms": 80, **llm},
    )


async def test_a_reply_that_does_not_come_is_bridged_and_the_model_does_not_learn_to_say_so() -> None:
    gate = asyncio.Event()
    model = ScriptedModel(HELLO, [gate, "Until six."], ["Yes."])
    async with talk(thinking(), model=model) as call:
        await call.heard("help?")
        call.words("Until when are you open?")
        await call.heard_so_far(MOMENT)
        gate.set()
        await call.heard("Until six.")
        call.words("Really?")
        await call.heard("Yes.")
    assert ("agent", f"{MOMENT} Until six.") in call.said
    told = [message.text for message in model.asked[-1][0] if message.role == "assistant"]
    assert told == ["Hello, how can I help?", "Until six."]


async def test_a_quick_reply_needs_no_word_before_it() -> None:
    model = ScriptedModel(HELLO, ["Until six."])
    async with talk(thinking(filler_ms=1_000), model=model) as call:
        await call.heard("help?")
        call.words("Until when?")
        await call.heard("Until six.")
    assert MOMENT not in call.route.asked


async def test_once_it_has_begun_nothing_is_put_before_it() -> None:
    gate = asyncio.Event()
    model = ScriptedModel(HELLO, ["Un", gate, "til six."])
    async with talk(thinking(), model=model) as call:
        await call.heard("help?")
        call.words("Until when?")
        await until(lambda: len(model.asked) == 2)
        await asyncio.wait([call.result], timeout=0.3)
        gate.set()
        await call.heard("Until six.")
    assert MOMENT not in call.route.asked


async def test_a_model_that_fails_after_it_was_bridged_costs_a_sentence_and_is_told_nothing_of_it() -> None:
    gate = asyncio.Event()
    model = ScriptedModel(HELLO, [gate, LlmError("late", reason="timeout")], ["Until six."])
    async with talk(thinking(), model=model) as call:
        await call.heard("help?")
        call.words("Until when?")
        await call.heard_so_far(MOMENT)
        gate.set()
        await call.heard(ASKED_AGAIN)
        call.words("Until when are you open?")
        await call.heard("Until six.")
    told = [message.text for message in model.asked[-1][0] if message.role == "assistant"]
    assert told == ["Hello, how can I help?", ASKED_AGAIN]


async def test_a_tool_after_it_does_not_begin_with_the_same_again() -> None:
    gate, more = asyncio.Event(), "It is taking a little longer. Please stay on the line."
    model = ScriptedModel(HELLO, [gate, ToolCall("t1", "hours", "{}")], ["Until six."])
    async with talk(thinking(), model=model) as call:
        call.tools.gate.clear()
        await call.heard("help?")
        call.words("Until when?")
        await call.heard_so_far(MOMENT)
        gate.set()
        await until(lambda: call.tools.calls)
        await asyncio.wait([call.result], timeout=1.0)  # a tool's own first word would have come
        assert call.route.asked.count(MOMENT) == 1 and more not in call.route.asked
        call.tools.gate.set()
        await call.heard(f"{MOMENT} Until six.")


async def test_a_reply_after_a_tool_is_bridged_unless_the_turn_has_spoken_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backend.calls.talking.fillers.MORE_AFTER_S", 0.1)
    gate = asyncio.Event()
    use = ToolCall("t1", "hours", "{}")
    model = ScriptedModel(HELLO, [use], [gate, "Until six."], ["Let me look.", use], [gate, "Until noon."])
    async with talk(thinking(), model=model) as call:
        await call.heard("help?")
        call.words("Until when?")
        await call.heard_so_far(MOMENT)
        gate.set()
        await call.heard("Until six.")
        gate.clear()
        call.words("And on Sundays?")
        await until(lambda: len(model.asked) == 5)
        await asyncio.wait([call.result], timeout=0.3)
        gate.set()
        await call.heard("Let me look. Until noon.")
    assert call.said[-1] == ("agent", "Let me look. Until noon.")


async def test_a_caller_who_asks_whether_we_are_there_is_told_at_once() -> None:
    gate = asyncio.Event()
    model = ScriptedModel(HELLO, [gate, "Until six."])
    async with talk(thinking(filler_ms=20_000), model=model) as call:
        await call.heard("help?")
        call.words("Until when?")
        await until(lambda: len(model.asked) == 2)
        call.words("Hello?")
        await call.heard_so_far(MOMENT)
        gate.set()
        await call.heard(f"{MOMENT} Until six.")
    assert len(model.asked) == 2, "the request goes on"


@pytest.mark.parametrize("meanwhile", [False, True])
async def test_nothing_is_said_over_a_caller_nor_when_the_reply_came_meanwhile(meanwhile: bool) -> None:
    gate = asyncio.Event()
    model = ScriptedModel(HELLO, [gate, "Until six."])
    async with talk(thinking(), model=model) as call:
        await call.heard("help?")
        call.words("Until when?")
        await until(lambda: len(model.asked) == 2)
        call.tell(SpeechStarted(now_ms() + 5_000))  # no matter since when: they make a sound
        await asyncio.wait([call.result], timeout=0.4)
        assert MOMENT not in call.route.asked
        if meanwhile:
            gate.set()
            await asyncio.wait([call.result], timeout=0.1)
        call.tell(TurnEnded("", now_ms(), now_ms(), now_ms(), 100))  # a cough
        if not meanwhile:
            await call.heard_so_far(MOMENT)
            gate.set()
        await call.heard("Until six.")
    assert call.said[-1] == ("agent", "Until six." if meanwhile else f"{MOMENT} Until six.")


@pytest.mark.parametrize("words", ["On Sundays, I mean.", "", "Okay."])
async def test_a_caller_who_speaks_after_it_is_not_talked_over_by_the_answer(words: str) -> None:
    gate = asyncio.Event()
    model = ScriptedModel(HELLO, [gate, "Until six."], ["Until noon."])
    async with talk(thinking(), slow_voice(MOMENT, 800), model=model) as call:
        await call.heard("help?")
        call.words("Until when?")
        await call.heard_so_far(MOMENT)
        await until(lambda: not call.speaker.speaking)
        began_ms = now_ms()
        call.tell(SpeechStarted(began_ms))
        await until(lambda: not call.conversation._inbox.caller_quiet.is_set())
        gate.set()
        await asyncio.wait([call.result], timeout=0.3)
        assert "Until six." not in call.route.asked
        call.tell(TurnEnded(words, began_ms, began_ms + 300, now_ms(), 100))
        await call.heard("Until noon." if words.startswith("On") else "Until six.")


async def test_a_caller_who_goes_on_is_not_talked_over_and_the_old_request_is_given_up() -> None:
    never = asyncio.Event()
    model = ScriptedModel(HELLO, [never], ["Until noon."])
    async with talk(thinking(), model=model) as call:
        await call.heard("help?")
        call.words("Until when?")
        await call.heard_so_far(MOMENT)
        call.words("I mean on Sundays.")
        await call.heard("Until noon.")
    assert model.cancelled == 1
    assert model.user_texts()[-2:] == ["Until when?", "I mean on Sundays."]


async def test_what_the_api_says_meanwhile_does_not_cost_the_answer() -> None:
    never = asyncio.Event()
    model = ScriptedModel(HELLO, [never], ["Until six."])
    async with talk(thinking(), model=model) as call:
        await call.heard("help?")
        call.words("Until when?")
        await call.heard_so_far(MOMENT)
        call.tell(SayRequest("We close early today.", interrupt=True))
        await call.heard("We close early today.")
        await call.heard("Until six.")


async def test_nor_when_the_answer_was_about_to_be_said() -> None:
    gate = asyncio.Event()
    model = ScriptedModel(HELLO, [gate, "Until six."], ["Until six, as I said."])
    async with talk(thinking(), slow_voice(MOMENT, 800), model=model) as call:
        await call.heard("help?")
        call.words("Until when?")
        await call.asked(MOMENT)
        gate.set()
        await call.asked("Until six.")
        call.tell(SayRequest("We close early today.", interrupt=True))
        await call.heard("We close early today.")
        await call.heard("Until six, as I said.")
    assert model.user_texts()[-1] == "Until when?"


async def test_nor_does_a_line_that_is_lost_meanwhile() -> None:
    never = asyncio.Event()
    model = ScriptedModel(HELLO, [never], ["Until six."])
    async with talk(thinking(), model=model) as call:
        await call.heard("help?")
        call.words("Until when?")
        await call.heard_so_far(MOMENT)
        call.tell(LineLost())
        call.tell(LineRestored())
        await call.heard("Until six.")


@pytest.mark.parametrize("llm", [{"filler_ms": 0}, {"filler_ms": None}])
async def test_it_can_be_switched_off(llm: dict[str, Any]) -> None:
    gate = asyncio.Event()
    model = ScriptedModel(HELLO, [gate, "Until six."])
    async with talk(thinking(**llm), model=model) as call:
        await call.heard("help?")
        call.words("Until when?")
        await asyncio.wait([call.result], timeout=0.3)
        gate.set()
        await call.heard("Until six.")
    assert call.said[-1] == ("agent", "Until six.")


def test_its_words_are_the_agent_s_own_and_ours_only_in_english() -> None:
    assert thinking().llm.bridge("en-GB") == MOMENT
    assert thinking("de-DE").llm.bridge("de-DE") is None
    assert thinking("de-DE", filler="Moment, bitte.").llm.bridge("de-DE") == "Moment, bitte."
    assert thinking(filler="Moment, {{agent_name}}.").llm.filler
    problems = [field for field, _ in find_errors(thinking(filler="Moment, {{agent_name}}."))]
    assert "llm.filler" in problems
    with pytest.raises(ValidationError, match="filler_ms"):
        thinking(filler_ms=-1)
