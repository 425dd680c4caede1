"""One turn by the language model: its tools, what is said meanwhile, and its limits."""

from __future__ import annotations

import asyncio

import pytest

from backend.core.llm import Message, ToolCall
from backend.core.turns import BargeIn, SpeechStarted, TurnEnded
from backend.errors import ToolError
from tests.backend.calls.fakes import Script, ScriptedRoute, agent, now_ms, tone, until
from tests.backend.calls.talks import (
    BYE,
    DOWN,
    HELLO,
    HELP,
    HOURS,
    LLM,
    ScriptedModel,
    node,
    talk,
    to,
)


async def test_a_tool_and_its_result() -> None:
    model = ScriptedModel(HELLO, [ToolCall("t1", "hours", '{"day": "Monday"}')], ["Until six on Mondays."])
    async with talk(HELP, model=model) as call:
        call.tools.result = "9-18"
        await call.heard("help?")
        call.words("And on Mondays?")
        await call.heard("on Mondays.")
    assert call.tools.calls == [ToolCall("t1", "hours", '{"day": "Monday"}')]
    assert model.asked[2][0][-1] == Message("tool", "9-18", tool_call_id="t1")


async def test_a_failed_tool_is_told_to_the_model() -> None:
    model = ScriptedModel(HELLO, [ToolCall("t1", "hours", "{}")], ["I cannot look that up."])
    async with talk(HELP, model=model) as call:
        call.tools.result = ToolError("The hours cannot be had now.")
        await call.heard("help?")
        call.words("And on Mondays?")
        await call.heard("look that up.")
    assert model.asked[2][0][-1].text == "The hours cannot be had now."


async def test_a_slow_tool_is_bridged_with_words() -> None:
    model = ScriptedModel(HELLO, [ToolCall("t1", "hours", "{}")], ["Until six."])
    async with talk(HELP, model=model) as call:
        call.tools.gate.clear()
        await call.heard("help?")
        call.words("And on Mondays?")
        await until(lambda: "One moment, please." in call.route.asked, "the filler")
        call.tools.gate.set()
        await call.heard("Until six.")
    assert call.said[-1] == ("agent", "One moment, please. Until six.")


async def test_a_tool_that_stays_slow_is_bridged_again_and_nothing_lies_over_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backend.calls.talking.fillers.MORE_AFTER_S", 0.2)
    model = ScriptedModel(HELLO, [ToolCall("t1", "hours", "{}")], ["Until six."])
    async with talk(HELP, model=model) as call:
        call.tools.gate.clear()
        await call.heard("help?")
        call.words("And on Mondays?")
        await until(lambda: "Thank you for waiting, I am still on it." in call.route.asked, "the third")
        call.tools.gate.set()
        await call.heard("Until six.")
    assert call.said[-1][1] == (
        "One moment, please. It is taking a little longer. Please stay on the line. "
        "Thank you for waiting, I am still on it. Until six."
    )


async def test_a_caller_who_agrees_to_wait_does_not_give_up_the_tool() -> None:
    model = ScriptedModel(HELLO, [ToolCall("t1", "hours", "{}")], ["Until six."])
    async with talk(HELP, model=model) as call:
        call.tools.gate.clear()
        await call.heard("help?")
        call.words("And on Mondays?")
        await call.asked("One moment, please.")
        await until(lambda: call.speaker.heard_so_far and not call.speaker.speaking, "it was heard")
        await asyncio.wait([call.result], timeout=0.6)  # longer than an answer can be taken back
        call.words("Okay.")
        await until(lambda: ("caller", "Okay.") in [(t.role, t.text) for t in call.turns.values()])
        call.tools.gate.set()
        await call.heard("Until six.")
    assert len(call.tools.calls) == 1
    assert len(model.asked) == 3


async def test_a_caller_who_asks_whether_anybody_is_there_is_told_and_the_tool_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backend.calls.talking.fillers.FIRST_AFTER_S", 60.0)
    model = ScriptedModel(HELLO, [ToolCall("t1", "hours", "{}")], ["Until six."])
    async with talk(HELP, model=model) as call:
        call.tools.gate.clear()
        await call.heard("help?")
        call.words("And on Mondays?")
        await until(lambda: call.tools.calls, "the tool")
        call.words("Hello?")
        await call.asked("One moment, please.")
        call.tools.gate.set()
        await call.heard("Until six.")
    assert len(call.tools.calls) == 1
    assert [text for role, text in call.said if role == "caller"] == ["And on Mondays?", "Hello?"]


async def test_a_tool_that_leads_on() -> None:
    flow = agent(
        node("ask", prompt="Look up the order.", tools=["hours"], transitions=[to("bye", tool="hours")]),
        BYE,
        tools=[HOURS],
        **LLM,
    )
    model = ScriptedModel(HELLO, [ToolCall("t1", "hours", "{}")])
    async with talk(flow, model=model) as call:
        await call.heard("help?")
        call.words("Order five.")
        await call.end()
    assert call.said[-1] == ("agent", "Goodbye.")
    assert len(model.asked) == 2


async def test_words_before_a_tool_are_no_answer_when_none_follows() -> None:
    model = ScriptedModel(HELLO, ["Let me look.", ToolCall("t1", "hours", "{}")], [DOWN])
    async with talk(HELP, model=model) as call:
        await call.heard("help?")
        call.words("When are you open?")
        await call.heard("Let me look.")
        await call.heard("Sorry, I didn't catch that.")


async def test_a_bug_in_a_tool_costs_a_sentence_not_the_call(caplog: pytest.LogCaptureFixture) -> None:
    model = ScriptedModel(HELLO, [ToolCall("t1", "hours", "{}")], ["I cannot look that up."])
    async with talk(HELP, model=model) as call:
        call.tools.result = KeyError("canary")
        await call.heard("help?")
        call.words("When are you open?")
        await call.heard("look that up.")
    assert "canary" not in caplog.text


async def test_a_caller_who_speaks_while_a_tool_works_does_not_make_it_forgotten() -> None:
    calls = [ToolCall("t1", "hours", '{"day": "Monday"}'), ToolCall("t2", "hours", "{}")]
    model = ScriptedModel(HELLO, calls, ["Very well."])
    async with talk(HELP, model=model) as call:
        await call.heard("help?")
        call.tools.holds_from = 2
        call.words("And on Mondays?")
        await until(lambda: len(call.tools.calls) == 2, "the second")
        call.words("Oh, never mind.")
        await call.heard("Very well.")
    results = {message.tool_call_id: message.text for message in model.asked[2][0] if message.tool_call_id}
    assert results["t1"] == "all well"
    assert "It may have been done" in results["t2"]


async def test_a_model_that_talks_without_end_is_cut_off() -> None:
    model = ScriptedModel(HELLO, ["There is no end. "] * 3_000)
    async with talk(HELP, ScriptedRoute(default_ms=20), model=model) as call:
        await call.heard("help?")
        call.words("When are you open?")
        await until(lambda: len(call.turns) == 3, "the answer is over")
        assert 1_900 < len(call.turns[2].text) < 2_400


async def test_a_caller_who_interrupts_a_tool_that_leads_on_is_led_on() -> None:
    flow = agent(
        node("ask", prompt="Look up the order.", tools=["hours"], transitions=[to("bye", tool="hours")]),
        BYE,
        tools=[HOURS],
        **LLM,
    )
    long = "One two three four five six seven."
    model = ScriptedModel(HELLO, [f"{long} ", ToolCall("t1", "hours", "{}")])
    async with talk(flow, ScriptedRoute({long: Script([tone(2000)])}), model=model) as call:
        await call.heard("help?")
        call.words("Order five.")
        await until(lambda: call.tools.calls and call.line.audio_ms >= 600, "some of it, and the tool")
        at_ms = now_ms()
        call.tell(
            SpeechStarted(at_ms), BargeIn(at_ms), TurnEnded("Thank you so much.", at_ms, at_ms, at_ms, 100)
        )
        await call.end()
    assert ("agent", "Goodbye.") in call.said
    assert len(call.tools.calls) == 1
