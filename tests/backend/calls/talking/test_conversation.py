"""The talk of a call along its flow: words, keys, silence, actions."""

from __future__ import annotations

import asyncio

import pytest

from backend.calls.talking.events import KeyPressed
from backend.core.steps import Hangup, SendDtmf, Transfer
from backend.core.turns import SpeechStarted
from backend.errors import FlowError
from tests.backend.calls.fakes import agent, now_ms, until
from tests.backend.calls.talks import (
    BYE,
    LONG,
    YES_NO,
    long_ask,
    node,
    quiet,
    slow_voice,
    talk,
    to,
)


async def test_greeting_question_answer_goodbye() -> None:
    async with talk(YES_NO) as call:
        await call.heard("Shall we?")
        call.words("Yes, please.")
        assert "bye" in await call.end()
    assert call.said == [
        ("agent", "Hello. Shall we?"),
        ("caller", "Yes, please."),
        ("agent", "Very well."),
        ("agent", "Goodbye."),
    ]
    assert [turn.node_id for _, turn in sorted(call.turns.items())] == ["ask", "ask", "yes", "bye"]
    assert call.acts == [Hangup()]
    assert call.expected == ["yes_no", "any", "any"]


async def test_the_timings_of_an_answer_follow_each_other() -> None:
    async with talk(YES_NO) as call:
        await call.heard("Shall we?")
        call.words("No.")
        await call.end()
    at = call.turns[2].timings
    steps = [
        at.caller_speech_ended_ms,
        at.recognised_ms,
        at.turn_ended_ms,
        at.text_ready_ms,
        at.first_chunk_ms,
        at.first_frame_ms,
    ]
    assert None not in steps
    assert steps == sorted(steps, key=lambda step: step or 0)
    assert at.heard_ms is not None
    assert call.turns[2].route == "sesame_ws"
    first = call.turns[0].timings
    assert (first.caller_speech_ended_ms, first.turn_ended_ms) == (None, None)
    caller = call.turns[1]
    assert caller.started_ms < caller.ended_ms
    assert caller.timings.recognised_ms is not None


async def test_words_that_fit_nothing_are_asked_again_then_the_call_ends_politely() -> None:
    async with talk(YES_NO) as call:
        for number in range(3):
            await until(
                lambda number=number: sum(t.role == "agent" for t in call.turns.values()) == number + 1  # type: ignore[misc]
            )
            call.words("Purple.")
        assert await call.end()
    assert [heard for role, heard in call.said if role == "agent"][
        1
    ] == "Sorry, I didn't catch that. Shall we?"
    assert call.acts == [Hangup()]


async def test_a_sound_without_words_changes_nothing() -> None:
    async with talk(YES_NO) as call:
        await call.heard("Shall we?")
        call.words("")
        call.words("no")
        await call.end()
    assert [heard for _, heard in call.said] == ["Hello. Shall we?", "no", "Goodbye."]


async def test_a_node_without_words_acts_and_proceeds() -> None:
    flow = agent(node("keys", actions=[{"type": "dtmf", "digits": "1w2"}], transitions=[to("bye")]), BYE)
    async with talk(flow) as call:
        await call.end()
    assert call.acts == [SendDtmf("1w2"), Hangup()]
    assert call.said == [("agent", "Goodbye.")]


async def test_a_dead_end_is_a_flow_error() -> None:
    flow = agent(
        node("ask", "Where to?", transitions=[to("there", keywords=["there"])]),
        node("there", "Moving you.", actions=[{"type": "transfer", "to": "{{number}}"}]),
        variables={"number": ""},
    )
    async with talk(flow, number="nowhere") as call:
        await call.heard("Where to?")
        call.words("there")
        with pytest.raises(FlowError, match="nowhere"):
            await call.end()
    assert call.said[-1] == ("caller", "there")


# --- keys -----------------------------------------------------------------------------------------------


async def test_keys_interrupt_and_the_pattern_completes_them() -> None:
    async with talk(long_ask(), slow_voice()) as call:
        await until(lambda: call.line.kinds, "the first frame")
        call.tell(KeyPressed("4"))
        await until(lambda: "clear" in call.line.kinds, "silence")
        call.tell(KeyPressed("2"))
        await call.end()
    assert [(t.via, t.text) for t in call.turns.values() if t.role == "caller"] == [("dtmf", "42")]


async def test_keys_while_listening() -> None:
    async with talk(long_ask()) as call:
        await call.heard(LONG)
        call.tell(KeyPressed("4"), KeyPressed("2"))
        await call.end()
    assert call.said[1:] == [("caller", "42"), ("agent", "Goodbye.")]
    assert call.turns[2].timings.turn_ended_ms is not None


async def test_unfinished_keys_time_out_into_a_reprompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.calls.talking.conversation._KEY_PAUSE_MS", 60.0)
    async with talk(long_ask()) as call:
        await call.heard(LONG)
        call.tell(KeyPressed("4"))
        await until(lambda: len(call.turns) == 3, "asked again")
        call.tell(KeyPressed("1"), KeyPressed("2"))
        await call.end()
    assert [heard for role, heard in call.said if role == "caller"] == ["4", "12"]


async def test_a_burst_of_wrong_keys_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.calls.talking.conversation._SLIP_PAUSE_MS", 60.0)
    async with talk(long_ask()) as call:
        await call.heard(LONG)
        call.tell(KeyPressed("*"), KeyPressed("*"), KeyPressed("#"))
        await until(lambda: len(call.turns) == 3, "asked again")
        call.tell(KeyPressed("4"), KeyPressed("2"))
        await call.end()
    assert [heard for role, heard in call.said if role == "caller"] == ["**#", "42"]


async def test_keys_typed_ahead_answer_the_next_node() -> None:
    flow = agent(
        node("first", "Press one.", transitions=[to("second", digits="1")]),
        node("second", "Press two.", transitions=[to("bye", digits="2")]),
        BYE,
    )
    async with talk(flow) as call:
        await call.heard("Press one.")
        call.tell(KeyPressed("1"), KeyPressed("2"))
        await call.end()
    assert [heard for role, heard in call.said if role == "caller"] == ["1", "2"]


async def test_a_late_pound_belongs_to_the_keys_it_ends() -> None:
    flow = agent(
        node("menu", "Press one.", transitions=[to("next", digits="1"), to("next", digits="2")]),
        node("next", LONG, transitions=[to("bye", digits="3")]),
        BYE,
    )
    async with talk(flow, slow_voice()) as call:
        await call.heard("Press one.")
        call.tell(KeyPressed("1"))
        await call.asked("One two three four five six seven.")
        frames = len(call.line.kinds)
        await until(lambda: len(call.line.kinds) > frames, "the answer begins")
        call.tell(KeyPressed("#"))
        await call.heard(LONG)
        call.tell(KeyPressed("3"), KeyPressed("#"))
        await call.end()
    assert call.said == [
        ("agent", "Press one."),
        ("caller", "1"),
        ("agent", LONG),
        ("caller", "3"),
        ("agent", "Goodbye."),
    ]
    assert "clear" not in call.line.kinds


async def test_a_pound_by_itself_still_cuts_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.calls.talking.conversation._SLIP_PAUSE_MS", 60.0)
    async with talk(long_ask(), slow_voice()) as call:
        await until(lambda: call.line.kinds, "the first frame")
        call.tell(KeyPressed("#"))
        await until(lambda: "clear" in call.line.kinds, "silence")
        await until(lambda: len(call.turns) == 3, "asked again")
        call.tell(KeyPressed("4"), KeyPressed("2"))
        await call.end()
    assert [heard for role, heard in call.said if role == "caller"] == ["#", "42"]


# --- silence --------------------------------------------------------------------------------------------


async def test_silence_is_prompted_then_ends_politely() -> None:
    async with talk(quiet(idle_prompts=["Still there?"], idle_goodbye="I hang up now.")) as call:
        assert await call.end()
    assert [heard for _, heard in call.said] == ["Shall we?", "Still there?", "I hang up now."]
    assert call.acts == [Hangup()]


async def test_a_silence_transition_is_taken() -> None:
    flow = agent(node("ask", "Shall we?", transitions=[to("bye", silence_ms=500)]), BYE)
    async with talk(flow) as call:
        began_ms = now_ms()
        await call.end()
        assert now_ms() - began_ms >= 500
    assert [heard for _, heard in call.said] == ["Shall we?", "Goodbye."]


async def test_a_hello_into_our_silence_has_the_question_repeated_and_costs_nothing() -> None:
    async with talk(YES_NO) as call:
        await call.heard("Shall we?")
        for number in range(2, 5):
            call.words("Hello? Are you there?")
            await until(lambda number=number: sum(t.role == "agent" for t in call.turns.values()) == number)  # type: ignore[misc]
        call.words("Purple.")
        await call.heard("Sorry, I didn't catch that. Shall we?")
        call.words("no")
        await call.end()
    assert [text for role, text in call.said if role == "agent"][:4] == ["Hello. Shall we?"] + [
        "Shall we?"
    ] * 3


async def test_a_caller_who_says_that_they_are_still_there_is_asked_again() -> None:
    async with talk(quiet(idle_prompts=["Still there?"])) as call:
        await call.heard("Still there?")
        call.words("Yes, I'm here.")
        await until(lambda: [text for _, text in call.said].count("Shall we?") == 2)
        call.words("yes")
        await call.end()


async def test_a_caller_who_is_speaking_is_not_prompted() -> None:
    async with talk(quiet(idle_prompts=["Still there?"])) as call:
        await call.heard("Shall we?")
        call.tell(SpeechStarted(now_ms()))
        await asyncio.wait([call.result], timeout=0.35)
        assert len(call.turns) == 1
        call.words("yes")
        await call.end()
    assert [heard for _, heard in call.said] == ["Shall we?", "yes", "Goodbye."]


# --- what fails -----------------------------------------------------------------------------------------
async def test_an_action_that_fails_is_told_to_the_caller() -> None:
    flow = agent(
        node("move", "One moment.", actions=[{"type": "transfer", "to": "+15552223333"}], transitions=[]),
    )
    async with talk(flow) as call:
        call.problem = lambda action: "I could not connect you."
        await call.end()
    assert call.acts == [Transfer("+15552223333")]
    assert [heard for _, heard in call.said] == ["One moment.", "I could not connect you."]


async def test_too_many_events_are_dropped_not_kept() -> None:
    async with talk(YES_NO) as call:
        for _ in range(1000):
            call.tell(SpeechStarted(0.0))
        await call.heard("Shall we?")
        call.words("no")
        await call.end()
