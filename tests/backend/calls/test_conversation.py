"""The talk of a call: a real flow and a real speaker on an in-memory line; the caller is a list of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from backend.calls.conversation import Conversation, Event, KeyPressed, LineLost, LineRestored, SayRequest
from backend.calls.recorder import TurnRecorder
from backend.calls.speaker import Speaker
from backend.core.agent import Agent
from backend.core.flow import Flow
from backend.core.g711 import Codec
from backend.core.records import TurnRecord
from backend.core.steps import Action, Hangup, SendDtmf, Transfer
from backend.core.turns import BargeIn, Expects, SpeechStarted, TurnEnded
from backend.errors import FlowError, SpeechError
from tests.backend.calls.fakes import (
    Line,
    MemoryStore,
    Script,
    ScriptedRoute,
    agent,
    now_ms,
    tone,
    until,
    voice_of,
)


class Talk:
    """A conversation under way and everything a test asks of it."""

    def __init__(self, talker: Agent, route: ScriptedRoute, variables: dict[str, str]) -> None:
        self.line, self.route = Line(), route
        self.voice = voice_of(route)
        self.speaker = Speaker(self.line.send, self.voice, codec=Codec.PCMU, clock=now_ms)
        self.line.on_mark = self.speaker.mark_returned
        self.turns: dict[int, TurnRecord] = {}
        self.acts: list[Action] = []
        self.expected: list[Expects] = []
        self.problem: Callable[[Action], str | None] = lambda action: None
        recorder = TurnRecorder(MemoryStore(), "call")
        recorder.add = self._record  # type: ignore[method-assign]
        self.conversation = Conversation(
            flow=Flow(talker, variables),
            speaker=self.speaker,
            recorder=recorder,
            perform=self._perform,
            expect=self.expected.append,
            clock=now_ms,
        )
        self.result: asyncio.Task[str] = asyncio.create_task(self.conversation.run())

    def _record(self, turn: TurnRecord) -> None:
        assert turn.index not in self.turns, "an index given twice"
        self.turns[turn.index] = turn

    async def _perform(self, action: Action) -> str | None:
        self.acts.append(action)
        return self.problem(action)

    def tell(self, *events: Event) -> None:
        for event in events:
            self.conversation.notify(event)

    def words(self, text: str) -> None:
        """The caller said something, heard as a whole turn."""
        at_ms = now_ms()
        self.tell(SpeechStarted(at_ms - 600), TurnEnded(text, at_ms - 600, at_ms - 300, at_ms - 100, 300))

    async def asked(self, text: str) -> None:
        """Returns when the voice is asked for `text`."""
        await until(lambda: text in self.route.asked, f"{text!r} of {self.route.asked}")

    async def listening_after(self, text: str) -> None:
        """Returns when `text` was heard to its end."""
        await until(lambda: any(turn.heard_text.endswith(text) for turn in self.turns.values()), text)

    async def end(self) -> str:
        async with asyncio.timeout(10):
            return await self.result

    @property
    def said(self) -> list[tuple[str, str]]:
        assert sorted(self.turns) == list(range(len(self.turns))), "indices without gaps"
        return [(self.turns[index].role, self.turns[index].heard_text) for index in sorted(self.turns)]


@asynccontextmanager
async def talk(talker: Agent, route: ScriptedRoute | None = None, **variables: str) -> AsyncIterator[Talk]:
    under_way = Talk(talker, route or ScriptedRoute(), variables)
    sender = asyncio.create_task(under_way.speaker.run())
    try:
        async with asyncio.timeout(20):
            yield under_way
    finally:
        under_way.result.cancel()
        await asyncio.wait([under_way.result])
        sender.cancel()
        await asyncio.wait([sender])
        await under_way.voice.aclose()
        await under_way.line.close()


def node(id_: str, *say: str, **fields: Any) -> dict[str, Any]:
    return {"id": id_, "say": list(say), **fields}


def to(target: str, **when: Any) -> dict[str, Any]:
    return {"to": target, "when": when or {"otherwise": True}}


BYE = node("bye", "Goodbye.", actions=[{"type": "hangup"}])
YES_NO = agent(
    node("ask", "Shall we?", transitions=[to("yes", keywords=["yes"]), to("bye", keywords=["no"])]),
    node("yes", "Very well.", transitions=[to("bye")]),
    BYE,
    greeting="Hello.",
)
LONG = "One two three four five six seven. Eight nine ten eleven twelve."


def long_ask(**fields: Any) -> Agent:
    first = node(
        "ask", LONG, transitions=[to("bye", keywords=["stop"]), to("bye", digits="[0-9]{2}")], **fields
    )
    return agent(first, BYE)


def slow_voice(text: str = "One two three four five six seven.", ms: float = 1500) -> ScriptedRoute:
    return ScriptedRoute({text: Script([tone(ms)])})


# --- along the flow ------------------------------------------------------------------------------------


async def test_greeting_question_answer_goodbye() -> None:
    async with talk(YES_NO) as call:
        await call.listening_after("Shall we?")
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
        await call.listening_after("Shall we?")
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
        await call.listening_after("Shall we?")
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
        await call.listening_after("Where to?")
        call.words("there")
        with pytest.raises(FlowError, match="nowhere"):
            await call.end()
    assert call.said[-1] == ("caller", "there")


# --- the caller interrupts -----------------------------------------------------------------------------


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
        await call.listening_after(LONG)
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
    async with talk(long_ask(interruptible=False), slow_voice(ms=150)) as call:
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
    async with talk(long_ask(interruptible=False), slow_voice(ms=150)) as call:
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
        await call.listening_after("Shall I go?")
        call.words("Yes.")
        await call.end()
    assert [heard for role, heard in call.said if role == "caller"] == ["Yes, hello", "Yes."]


# --- keys ----------------------------------------------------------------------------------------------


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
        await call.listening_after(LONG)
        call.tell(KeyPressed("4"), KeyPressed("2"))
        await call.end()
    assert call.said[1:] == [("caller", "42"), ("agent", "Goodbye.")]
    assert call.turns[2].timings.turn_ended_ms is not None


async def test_unfinished_keys_time_out_into_a_reprompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.calls.conversation._KEY_PAUSE_MS", 60.0)
    async with talk(long_ask()) as call:
        await call.listening_after(LONG)
        call.tell(KeyPressed("4"))
        await until(lambda: len(call.turns) == 3, "asked again")
        call.tell(KeyPressed("1"), KeyPressed("2"))
        await call.end()
    assert [heard for role, heard in call.said if role == "caller"] == ["4", "12"]


async def test_a_burst_of_wrong_keys_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.calls.conversation._SLIP_PAUSE_MS", 60.0)
    async with talk(long_ask()) as call:
        await call.listening_after(LONG)
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
        await call.listening_after("Press one.")
        call.tell(KeyPressed("1"), KeyPressed("2"))
        await call.end()
    assert [heard for role, heard in call.said if role == "caller"] == ["1", "2"]


# --- silence -------------------------------------------------------------------------------------------


def quiet(**turns: Any) -> Agent:
    talker = agent(
        node("ask", "Shall we?", transitions=[to("bye", keywords=["yes"])]),
        BYE,
        turns=turns,
    )
    # Less patient than an agent's file may be, so that tests are quick.
    return talker.model_copy(update={"turns": talker.turns.model_copy(update={"idle_ms": 200})})


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


async def test_a_caller_who_is_speaking_is_not_prompted() -> None:
    async with talk(quiet(idle_prompts=["Still there?"])) as call:
        await call.listening_after("Shall we?")
        call.tell(SpeechStarted(now_ms()))
        await asyncio.wait([call.result], timeout=0.35)
        assert len(call.turns) == 1
        call.words("yes")
        await call.end()
    assert [heard for _, heard in call.said] == ["Shall we?", "yes", "Goodbye."]


# --- said on request -----------------------------------------------------------------------------------


async def test_said_on_request_after_the_sentence_under_way() -> None:
    async with talk(YES_NO, slow_voice("Shall we?", 200)) as call:
        await call.asked("Shall we?")
        call.tell(SayRequest("By the way.", interrupt=False))
        await call.listening_after("By the way.")
        call.words("no")
        await call.end()
    assert [heard for _, heard in call.said] == ["Hello. Shall we?", "By the way.", "no", "Goodbye."]
    assert call.turns[1].node_id is None


async def test_said_on_request_at_once() -> None:
    async with talk(long_ask(), slow_voice()) as call:
        await until(lambda: call.line.audio_ms >= 200, "some of the sentence")
        call.tell(SayRequest("Listen.", interrupt=True))
        await call.listening_after("Listen.")
        call.words("stop")
        await call.end()
    assert call.turns[0].interrupted
    assert [heard for _, heard in call.said[1:]] == ["Listen.", "stop", "Goodbye."]


@pytest.mark.parametrize("interrupt", [False, True])
async def test_said_on_request_while_listening(interrupt: bool) -> None:
    async with talk(YES_NO) as call:
        await call.listening_after("Shall we?")
        call.tell(SayRequest("Hurry up.", interrupt=interrupt))
        await call.listening_after("Hurry up.")
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
        await call.listening_after("By the way.")
        call.words("stop")
        await call.end()


async def test_a_request_that_comes_just_as_the_sentence_ends_is_not_lost() -> None:
    for interrupt in (False, True):
        async with talk(YES_NO) as call:
            await until(lambda call=call: call.line.kinds.count("mark") >= 3, "all sent")  # type: ignore[misc]
            assert call.speaker.last is not None
            await call.speaker.last.done.wait()  # heard to its end; nobody knows yet
            call.tell(SayRequest("Wait.", interrupt=interrupt))
            await call.listening_after("Wait.")
            assert call.said[0] == ("agent", "Hello. Shall we?")


async def test_a_request_is_interrupted_by_the_caller_like_anything_else() -> None:
    async with talk(YES_NO, slow_voice("A long story.", 1500)) as call:
        await call.listening_after("Shall we?")
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
        await call.listening_after(LONG)
        call.tell(SayRequest("By the way.", interrupt=False))
        await call.asked("By the way.")
        call.tell(KeyPressed("4"), KeyPressed("2"))
        await call.end()
    assert [heard for role, heard in call.said if role == "caller"] == ["42"]


# --- the line ------------------------------------------------------------------------------------------


async def test_a_line_lost_in_mid_sentence_is_waited_for_and_the_sentence_said_again() -> None:
    first, second = "One two three four five six seven.", "Eight nine ten eleven twelve."
    async with talk(long_ask(actions=[{"type": "dtmf", "digits": "9"}]), slow_voice(second)) as call:
        await call.asked(second)
        await asyncio.wait([call.result], timeout=0.2)
        call.tell(LineLost())
        await until(lambda: len(call.turns) == 1, "the cut turn on record")
        assert call.acts == []
        call.route.scripts[second] = Script([tone(40)])
        call.tell(KeyPressed("4"), LineRestored())
        await call.listening_after(second)
        assert call.acts == [SendDtmf("9")]
        call.tell(KeyPressed("2"))
        await call.end()
    assert call.route.asked == [first, second, second, "Goodbye."]
    assert [heard for role, heard in call.said if role == "caller"] == ["42"]


async def test_a_line_lost_while_listening_stops_the_clock_of_silence() -> None:
    async with talk(quiet(idle_prompts=["Still there?"])) as call:
        await call.listening_after("Shall we?")
        call.tell(LineLost())
        await asyncio.wait([call.result], timeout=0.35)
        assert len(call.turns) == 1, "nobody is asked whether they are there while we are not"
        call.tell(LineRestored())
        await call.listening_after("Still there?")
        call.words("yes")
        await call.end()


async def test_words_recognised_after_the_line_was_lost_are_answered() -> None:
    async with talk(YES_NO) as call:
        await call.listening_after("Shall we?")
        call.tell(LineLost())
        call.words("no")
        await until(lambda: len(call.turns) == 2, "the words on record")
        assert "Goodbye." not in call.route.asked
        call.tell(LineRestored())
        await call.end()
    assert [heard for _, heard in call.said] == ["Hello. Shall we?", "no", "Goodbye."]


async def test_a_line_lost_during_a_request_has_it_said_again() -> None:
    async with talk(YES_NO, slow_voice("By the way.", 1500)) as call:
        await call.listening_after("Shall we?")
        call.tell(SayRequest("By the way.", interrupt=False))
        await until(lambda: call.line.audio_ms > 300, "some of it")
        call.tell(LineLost())
        await until(lambda: len(call.turns) == 2)
        call.route.scripts["By the way."] = Script([tone(40)])
        call.tell(LineRestored())
        await call.listening_after("By the way.")
        call.words("no")
        await call.end()


# --- what fails ----------------------------------------------------------------------------------------


async def test_an_action_that_fails_is_told_to_the_caller() -> None:
    flow = agent(
        node("move", "One moment.", actions=[{"type": "transfer", "to": "+15552223333"}], transitions=[]),
    )
    async with talk(flow) as call:
        call.problem = lambda action: "I could not connect you."
        await call.end()
    assert call.acts == [Transfer("+15552223333")]
    assert [heard for _, heard in call.said] == ["One moment.", "I could not connect you."]


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
        await call.listening_after("Shall we?")
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


async def test_too_many_events_are_dropped_not_kept() -> None:
    async with talk(YES_NO) as call:
        for _ in range(1000):
            call.tell(SpeechStarted(0.0))
        await call.listening_after("Shall we?")
        call.words("no")
        await call.end()
