"""How words get to the caller: what cuts them, what they are taken up after, what is on record of them."""

from __future__ import annotations

import asyncio

import pytest

from backend.calls.talking.events import KeyPressed, LineLost, LineRestored, SayRequest
from backend.core.steps import Hangup, SendDtmf
from backend.core.turns import BargeIn, SpeechStarted, TurnEnded
from backend.errors import SpeechError
from tests.backend.calls.fakes import Script, ScriptedRoute, agent, now_ms, takes_ms, tone, until
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

# --- the caller interrupts ------------------------------------------------------------------------------


async def test_barge_in_then_words() -> None:
    async with talk(long_ask(), slow_voice()) as call:
        await until(lambda: call.line.audio_ms >= 600, "some of the sentence")
        call.tell(BargeIn(now_ms()))
        await until(lambda: "clear" in call.line.kinds, "silence")
        call.words("stop")
        await call.end()
    first = call.turns[0]
    assert first.interrupted
    assert LONG.startswith(first.heard_text)
    assert first.heard_text != LONG
    assert first.text == LONG
    assert [heard for _, heard in call.said[1:]] == ["stop", "Goodbye."]


@pytest.mark.parametrize("sound", ["", "Uh-huh."])
async def test_after_a_cough_or_a_sign_of_listening_the_speech_goes_on_where_it_was_cut(sound: str) -> None:
    acting = long_ask(actions=[{"type": "dtmf", "digits": "9"}])
    async with talk(acting, slow_voice()) as call:
        await until(lambda: call.line.audio_ms >= 800, "some of the sentence")
        call.tell(BargeIn(now_ms()))
        await until(lambda: "clear" in call.line.kinds, "silence")
        before_ms = call.line.audio_ms
        at_ms = now_ms()
        call.tell(SpeechStarted(at_ms - 300), TurnEnded(sound, at_ms - 300, at_ms, at_ms, 160, aside=True))
        await until(lambda: call.line.audio_ms > before_ms, "the voice again")
        await call.heard(LONG)
        call.words("stop")
        await call.end()
    agents = [turn for turn in call.turns.values() if turn.role == "agent"]
    assert (agents[0].heard_text, agents[0].interrupted) == (LONG, False)
    assert call.route.asked.count("One two three four five six seven.") == 1, "nothing is synthesised twice"
    assert call.acts == [SendDtmf("9"), Hangup()], "what was done is not done again"


async def test_a_yes_over_the_question_it_answers_is_an_answer() -> None:
    async with talk(YES_NO, slow_voice("Shall we?", 2_000)) as call:
        await call.asked("Shall we?")
        await until(lambda: call.line.audio_ms >= 1_200, "some of the question")
        await asyncio.wait([call.result], timeout=1.2)
        call.tell(BargeIn(now_ms()))
        await until(lambda: "clear" in call.line.kinds, "silence")
        at_ms = now_ms()
        call.tell(SpeechStarted(at_ms - 300), TurnEnded("Yes.", at_ms - 300, at_ms, at_ms, 160, aside=True))
        await call.end()
    assert call.turns[0].interrupted
    assert ("caller", "Yes.") in call.said
    assert ("agent", "Very well.") in call.said


@pytest.mark.parametrize("hello", ["Hello?", "Yes, hello?", "Hello? Is anybody there?"])
async def test_a_hello_over_the_greeting_lets_it_go_on(hello: str) -> None:
    async with talk(YES_NO, slow_voice("Hello.", 1_500)) as call:
        await until(lambda: call.line.audio_ms >= 400, "some of the greeting")
        at_ms = now_ms()
        call.tell(SpeechStarted(at_ms), BargeIn(at_ms))
        await until(lambda: "clear" in call.line.kinds, "silence")
        call.tell(TurnEnded(hello, at_ms, now_ms(), now_ms(), 300))
        await call.heard("Shall we?")
        call.words("no")
        await call.end()
    assert call.said == [
        ("agent", "Hello. Shall we?"),
        ("caller", hello),
        ("caller", "no"),
        ("agent", "Goodbye."),
    ]


async def test_a_hello_that_an_agent_waits_for_is_an_answer() -> None:
    waits = agent(node("ask", LONG, transitions=[to("bye", keywords=["hello"])]), BYE)
    async with talk(waits, slow_voice()) as call:
        await until(lambda: call.line.audio_ms >= 400, "some of it")
        at_ms = now_ms()
        call.tell(SpeechStarted(at_ms), BargeIn(at_ms), TurnEnded("Hello?", at_ms, at_ms, at_ms, 300))
        await call.end()
    assert call.turns[0].interrupted


async def test_keys_while_held_are_an_interruption() -> None:
    async with talk(long_ask(), slow_voice()) as call:
        await until(lambda: call.line.audio_ms >= 600, "some of the sentence")
        call.tell(BargeIn(now_ms()))
        await until(lambda: "clear" in call.line.kinds, "silence")
        call.tell(KeyPressed("4"), KeyPressed("2"))
        await call.end()
    assert call.turns[0].interrupted
    assert [heard for role, heard in call.said if role == "caller"] == ["42"]


async def test_an_uninterruptible_node_speaks_on_but_a_key_is_kept() -> None:
    async with talk(long_ask(interruptible=False), slow_voice(ms=1_000)) as call:
        await until(lambda: call.line.kinds, "the first frame")
        call.tell(BargeIn(now_ms()), KeyPressed("1"), KeyPressed("2"))
        await call.end()
    assert "clear" not in call.line.kinds
    assert call.said == [("agent", LONG), ("caller", "12"), ("agent", "Goodbye.")]
    assert call.turns[1].via == "dtmf"


async def test_a_node_that_does_not_listen_is_not_interrupted() -> None:
    flow = agent(node("say", "One two.", transitions=[to("bye")]), BYE)
    async with talk(flow, slow_voice("One two.", 150)) as call:
        await until(lambda: call.line.kinds, "the first frame")
        call.tell(BargeIn(now_ms()), KeyPressed("1"))
        await call.end()
    assert [heard for _, heard in call.said] == ["One two.", "Goodbye."]


async def test_words_over_a_node_that_does_not_listen_are_on_record() -> None:
    flow = agent(node("say", "One two.", transitions=[to("bye")]), BYE)
    async with talk(flow, slow_voice("One two.", 150)) as call:
        await until(lambda: call.line.kinds, "the first frame")
        call.words("hang on")
        await call.end()
    assert ("caller", "hang on") in call.said


async def test_words_over_a_node_that_cannot_be_interrupted_are_followed_afterwards() -> None:
    async with talk(long_ask(interruptible=False), slow_voice(ms=1_000)) as call:
        await until(lambda: call.line.kinds, "the first frame")
        call.words("please stop it")
        await call.end()
    assert call.said == [("agent", LONG), ("caller", "please stop it"), ("agent", "Goodbye.")]


async def test_a_yes_before_the_question_is_no_answer_to_it() -> None:
    flow = agent(
        node("say", "One two.", transitions=[to("ask")]),
        node("ask", "Shall I go?", interruptible=False, transitions=[to("bye", keywords=["yes"])]),
        BYE,
    )
    async with talk(flow, slow_voice("One two.", 150)) as call:
        await until(lambda: call.line.kinds, "the first frame")
        call.words("Yes, hello")
        await call.heard("Shall I go?")
        call.words("Yes.")
        await call.end()
    assert [heard for role, heard in call.said if role == "caller"] == ["Yes, hello", "Yes."]


# --- said on request ------------------------------------------------------------------------------------


async def test_said_on_request_after_the_sentence_under_way() -> None:
    async with talk(YES_NO, slow_voice("Shall we?", 200)) as call:
        await call.asked("Shall we?")
        call.tell(SayRequest("By the way.", interrupt=False))
        await call.heard("By the way.")
        call.words("no")
        await call.end()
    assert [heard for _, heard in call.said] == ["Hello. Shall we?", "By the way.", "no", "Goodbye."]
    assert call.turns[1].node_id is None


async def test_said_on_request_at_once() -> None:
    async with talk(long_ask(), slow_voice()) as call:
        await until(lambda: call.line.audio_ms >= 200, "some of the sentence")
        call.tell(SayRequest("Listen.", interrupt=True))
        await call.heard("Listen.")
        call.words("stop")
        await call.end()
    assert call.turns[0].interrupted
    assert [heard for _, heard in call.said[1:]] == ["Listen.", "stop", "Goodbye."]


@pytest.mark.parametrize("interrupt", [False, True])
async def test_said_on_request_while_listening(interrupt: bool) -> None:
    async with talk(YES_NO) as call:
        await call.heard("Shall we?")
        call.tell(SayRequest("Hurry up.", interrupt=interrupt))
        await call.heard("Hurry up.")
        call.words("no")
        await call.end()
    assert [heard for _, heard in call.said] == ["Hello. Shall we?", "Hurry up.", "no", "Goodbye."]


async def test_a_request_does_not_make_the_agent_deaf_to_an_interruption() -> None:
    async with talk(long_ask(), slow_voice()) as call:
        await until(lambda: call.line.audio_ms >= 200, "some of the sentence")
        call.tell(SayRequest("By the way.", interrupt=False))
        call.tell(BargeIn(now_ms()))
        await until(lambda: "clear" in call.line.kinds, "silence")
        assert "By the way." not in call.route.asked, "the caller has the floor"
        call.route.scripts["One two three four five six seven."] = Script([tone(40)])
        call.words("")
        await call.heard("By the way.")
        call.words("stop")
        await call.end()


async def test_a_request_that_comes_just_as_the_sentence_ends_is_not_lost() -> None:
    for interrupt in (False, True):
        async with talk(YES_NO) as call:
            await until(lambda call=call: call.line.kinds.count("mark") >= 3, "all sent")  # type: ignore[misc]
            assert call.speaker.last is not None
            await call.speaker.last.done.wait()  # heard to its end; nobody knows yet
            call.tell(SayRequest("Wait.", interrupt=interrupt))
            await call.heard("Wait.")
            assert call.said[0] == ("agent", "Hello. Shall we?")


async def test_a_request_is_interrupted_by_the_caller_like_anything_else() -> None:
    async with talk(YES_NO, slow_voice("A long story.", 1500)) as call:
        await call.heard("Shall we?")
        call.tell(SayRequest("A long story.", interrupt=False))
        await call.asked("A long story.")
        await until(lambda: call.line.audio_ms > 300, "some of it")
        call.tell(BargeIn(now_ms()))
        await until(lambda: "clear" in call.line.kinds, "silence")
        call.words("no")
        await call.end()
    assert call.turns[1].interrupted
    assert [heard for _, heard in call.said[2:]] == ["no", "Goodbye."]


async def test_keys_pressed_during_a_request_count() -> None:
    async with talk(long_ask(), slow_voice("By the way.", 1500)) as call:
        await call.heard(LONG)
        call.tell(SayRequest("By the way.", interrupt=False))
        await call.asked("By the way.")
        call.tell(KeyPressed("4"), KeyPressed("2"))
        await call.end()
    assert [heard for role, heard in call.said if role == "caller"] == ["42"]


# --- the line -------------------------------------------------------------------------------------------


async def test_a_line_lost_in_mid_sentence_is_waited_for_and_the_sentence_said_again() -> None:
    first, second = "One two three four five six seven.", "Eight nine ten eleven twelve."
    async with talk(long_ask(actions=[{"type": "dtmf", "digits": "9"}]), slow_voice(second)) as call:
        await call.asked(second)
        await asyncio.wait([call.result], timeout=takes_ms(first) / 1000 + 0.15)
        call.tell(LineLost())
        await until(lambda: len(call.turns) == 1, "the cut turn on record")
        assert call.acts == []
        call.route.scripts[second] = Script([tone(1_000)])
        call.tell(KeyPressed("4"), LineRestored())
        await call.heard(second)
        assert call.acts == [SendDtmf("9")]
        call.tell(KeyPressed("2"))
        await call.end()
    assert call.route.asked == [first, second, second, "Goodbye."]
    assert [heard for role, heard in call.said if role == "caller"] == ["42"]


async def test_a_line_lost_while_listening_stops_the_clock_of_silence() -> None:
    async with talk(quiet(idle_prompts=["Still there?"])) as call:
        await call.heard("Shall we?")
        call.tell(LineLost())
        await asyncio.wait([call.result], timeout=0.35)
        assert len(call.turns) == 1, "nobody is asked whether they are there while we are not"
        call.tell(LineRestored())
        await call.heard("Still there?")
        call.words("yes")
        await call.end()


async def test_words_recognised_after_the_line_was_lost_are_answered() -> None:
    async with talk(YES_NO) as call:
        await call.heard("Shall we?")
        call.tell(LineLost())
        call.words("no")
        await until(lambda: len(call.turns) == 2, "the words on record")
        assert "Goodbye." not in call.route.asked
        call.tell(LineRestored())
        await call.end()
    assert [heard for _, heard in call.said] == ["Hello. Shall we?", "no", "Goodbye."]


async def test_a_line_lost_during_a_request_has_it_said_again() -> None:
    async with talk(YES_NO, slow_voice("By the way.", 1500)) as call:
        await call.heard("Shall we?")
        call.tell(SayRequest("By the way.", interrupt=False))
        await until(lambda: call.line.audio_ms > 300, "some of it")
        call.tell(LineLost())
        await until(lambda: len(call.turns) == 2)
        call.route.scripts["By the way."] = Script([tone(40)])
        call.tell(LineRestored())
        await call.heard("By the way.")
        call.words("no")
        await call.end()


# --- what fails -----------------------------------------------------------------------------------------


async def test_a_voice_that_fails_ends_the_talk_and_what_was_heard_is_on_record() -> None:
    failure = SpeechError("gone", route="scripted", reason="closed")
    route = ScriptedRoute({"Shall we?": Script([tone(60), failure])})
    async with talk(YES_NO, route) as call:
        with pytest.raises(SpeechError):
            await call.end()
    ((role, heard),) = call.said
    assert role == "agent"
    assert heard.startswith("Hello.")


async def test_a_request_that_the_voice_fails_on_is_on_record_too() -> None:
    failure = SpeechError("gone", route="scripted", reason="closed")
    route = ScriptedRoute({"By the way.": Script([failure])})
    async with talk(YES_NO, route) as call:
        await call.heard("Shall we?")
        call.tell(SayRequest("By the way.", interrupt=False))
        with pytest.raises(SpeechError):
            await call.end()
    assert call.turns[1].text == "By the way."


async def test_a_call_that_ends_in_mid_sentence_keeps_what_was_heard_of_it() -> None:
    async with talk(long_ask(), slow_voice()) as call:
        await until(lambda: call.line.audio_ms >= 600, "some of the sentence")
        await asyncio.wait([call.result], timeout=0.2)
        call.result.cancel()
        await asyncio.wait([call.result])
    ((role, heard),) = call.said
    assert role == "agent"
    assert 0 < len(heard.split()) < 12
    assert call.turns[0].interrupted
    assert call.turns[0].text == LONG


async def test_a_call_that_ends_while_nothing_was_said_yet_records_no_words() -> None:
    never = asyncio.Event()
    async with talk(YES_NO, ScriptedRoute({"Hello.": Script([never])})) as call:
        await call.asked("Hello.")
        call.result.cancel()
        await asyncio.wait([call.result])
    assert [heard for _, heard in call.said] == [""]
