"""Outbound calls that a machine answers: silence, the message, once, the end. People notice nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backend.calls.speaking.speaker import Speaker, Utterance
from backend.errors import RequestError, SpeechError
from tests.backend.calls.carrier import House, house
from tests.backend.calls.fakes import Script, ScriptedRoute, agent, tone, until

DETECTED, GREETED = "call.machine.detection.ended", "call.machine.greeting.ended"
HELLO = "Hello, am I speaking with Ann?"
MESSAGE = "This is the clinic. Please call {{who}} back."
SPOKEN = "This is the clinic. Please call us back."
NO_VOICE = SpeechError("no voice", route="sesame_ws", reason="unreachable")
PIECES = ("This is the clinic.", "Please call us back.")


def caller(message: str | None = MESSAGE, **extra: Any) -> Any:
    voicemail: dict[str, Any] = {"detect": True} | ({"message": message} if message else {})
    return agent(
        {"id": "hello", "say": HELLO, "transitions": [{"to": "bye", "when": {"digits": "1"}}]},
        {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]},
        variables={"who": "us"},
        voicemail=voicemail,
        **extra,
    )


async def answered(h: House, *, line: bool = True) -> None:
    await h.manager.place_call(
        agent_id="tester", to="+15553334444", from_number=None, variables={}, idempotency_key=None
    )
    await until(lambda: h.store.only.call_control_id)
    if not line:
        h.carrier.react["start_streaming"] = lambda: None
    h.carrier.tell("call.answered")
    if line:
        await until(lambda: h.carrier.lines)


def said(h: House) -> list[str]:
    return [text for role, text in h.store.spoken() if role == "agent" and text]


async def over(h: House) -> None:
    h.carrier.hang_up()
    await h.calls_over()


async def test_a_person_is_talked_to_at_once_and_all_the_time() -> None:
    async with house(caller()) as h:
        await answered(h)
        await h.heard(HELLO)
        h.carrier.tell(DETECTED, result="human")
        await until(lambda: h.store.only.answered_by == "human")
        h.carrier.tell(DETECTED, result="machine")  # it has thought better of it
        h.carrier.line.hear("dtmf", dtmf={"digit": "1"})
        await h.calls_over()
    assert h.carrier.last("dial")["machine_detection"] == "greeting_end"
    assert said(h) == [HELLO, "Goodbye."]
    assert (h.store.only.answered_by, h.store.only.voicemail) == ("human", None)


async def test_a_machine_hears_silence_and_then_the_message_from_its_start() -> None:
    route = ScriptedRoute({HELLO: Script([tone(8000)])})
    async with house(caller(), route=route) as h:
        await answered(h)
        await until(lambda: h.carrier.line.audio_ms > 0)
        h.carrier.tell(DETECTED, result="machine")
        await until(lambda: "clear" in h.carrier.line.kinds, "it falls silent")
        await until(lambda: h.store.only.voicemail == "waiting")
        with pytest.raises(RequestError):
            await h.manager.say(h.store.only.id, "Hello?", interrupt=True)
        assert not set(PIECES) & set(h.route.asked)
        sent = len(h.carrier.line.sent)
        h.carrier.tell(GREETED, result="beep_detected")
        h.carrier.tell(GREETED, result="beep_detected")
        await h.heard(SPOKEN)
        await h.calls_over()
        assert "media" in h.carrier.line.kinds[sent:]
    assert said(h)[-1] == SPOKEN
    assert said(h).count(SPOKEN) == 1
    assert h.carrier.done == ["dial", "start_streaming", "hangup"]
    record = h.store.only
    assert (record.answered_by, record.voicemail, record.state, record.error) == (
        "machine",
        "left",
        "ended",
        None,
    )


async def test_what_the_greeting_says_is_neither_answered_nor_an_interruption() -> None:
    async with house(caller()) as h:
        await answered(h)
        await h.heard(HELLO)
        h.carrier.tell(DETECTED, result="machine")
        await until(lambda: h.store.only.voicemail == "waiting")
        h.carrier.line.hear("dtmf", dtmf={"digit": "1"})
        h.carrier.tell(GREETED, result="ended")
        await h.heard(SPOKEN)
        await h.calls_over()
    assert said(h) == [HELLO, SPOKEN]


async def test_word_of_a_machine_before_the_line_is_up() -> None:
    async with house(caller()) as h:
        await answered(h, line=False)
        h.carrier.tell(GREETED, result="ended")
        await until(lambda: h.store.only.voicemail == "leaving")
        asked = h.carrier.last("start_streaming")
        h.carrier.connect(asked["stream_url"].rsplit("/", 1)[1], asked["auth_token"])
        await h.heard(SPOKEN)
        await h.calls_over()
    assert said(h) == [SPOKEN]
    assert h.store.only.voicemail == "left"


async def test_a_greeting_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.calls.voicemail.GREETING_S", 0.05)
    async with house(caller()) as h:
        await answered(h)
        h.carrier.tell(DETECTED, result="machine")
        await h.heard(SPOKEN)
        await h.calls_over()
    assert h.store.only.voicemail == "left"


@pytest.mark.parametrize(("result", "who"), [("machine", "machine"), ("fax_detected", "fax")])
async def test_without_a_message_it_is_hung_up_on(result: str, who: str) -> None:
    async with house(caller(message=None)) as h:
        await answered(h)
        h.carrier.tell(DETECTED, result=result)
        await h.calls_over()
    assert h.carrier.last("dial")["machine_detection"] == "detect"
    assert h.carrier.done[-1] == "hangup"
    assert h.store.only.answered_by == who


async def test_a_machine_that_hangs_up_first_leaves_its_trace() -> None:
    route = ScriptedRoute({PIECES[0]: Script([tone(8000)])})
    async with house(caller(), route=route) as h:
        await answered(h)
        h.carrier.tell(DETECTED, result="machine")
        h.carrier.tell(GREETED, result="ended")
        await h.says(PIECES[0])
        await over(h)
    assert h.store.only.voicemail == "leaving"
    async with house(caller()) as h:
        await answered(h)
        h.carrier.tell(DETECTED, result="machine")
        await over(h)
    assert (h.store.only.answered_by, h.store.only.voicemail) == ("machine", "waiting")


@pytest.fixture
def quick_to_reconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.core.call.LOST_MEDIA_S", 0.05)


def in_the_middle(h: House, lines: int = 1) -> bool:
    return len(h.carrier.lines) == lines and PIECES[0] in h.route.asked and h.carrier.line.audio_ms > 0


def long_message() -> ScriptedRoute:
    return ScriptedRoute({PIECES[0]: Script([tone(1500)])})


@pytest.mark.usefixtures("quick_to_reconnect")
async def test_a_line_lost_in_the_middle_of_the_message_has_it_said_again_from_its_start() -> None:
    async with house(caller(), route=long_message()) as h:
        await answered(h)
        h.carrier.tell(GREETED)
        await until(lambda: in_the_middle(h))
        h.route.scripts[PIECES[0]] = Script([tone(40)])
        h.carrier.line.drop()
        await h.heard(SPOKEN)
        await h.calls_over()
    assert h.route.asked.count(PIECES[0]) == 2
    assert (h.store.only.voicemail, h.store.only.error) == ("left", None)


async def test_a_message_cut_off_with_the_call_is_not_left() -> None:
    async with house(caller(), route=long_message()) as h:
        await answered(h)
        h.carrier.tell(GREETED)
        await until(lambda: in_the_middle(h))
        h.carrier.line.drop()
        await until(
            lambda: any(
                turn.interrupted and turn.text == SPOKEN
                for turn in h.store.turns.get(h.store.only.id, {}).values()
            )
        )
        await over(h)
    assert h.store.only.voicemail == "leaving"


@pytest.mark.usefixtures("quick_to_reconnect")
async def test_a_message_that_no_line_lasts_for_has_failed() -> None:
    async with house(caller(), route=long_message()) as h:
        await answered(h)
        h.carrier.tell(GREETED)
        for number in (1, 2, 3):
            await until(lambda number=number: in_the_middle(h, number))
            h.carrier.line.drop()
        await h.calls_over()
    assert h.store.only.voicemail == "failed"
    assert h.store.only.error == "the message was not said: the line was lost again and again"


async def test_a_message_without_a_voice() -> None:
    async with house(caller()) as h:
        await answered(h)
        await h.heard(HELLO)
        h.carrier.tell(DETECTED, result="machine")
        await until(lambda: h.store.only.voicemail == "waiting")
        for made in h.routes:
            made.failure = NO_VOICE
        h.carrier.tell(GREETED, result="ended")
        await h.calls_over()
    assert (h.store.only.voicemail, h.carrier.done[-1]) == ("failed", "hangup")
    assert h.store.only.error is not None and "the message was not said" in h.store.only.error


async def test_a_message_that_fails_in_an_unforeseen_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(caller()) as h:
        await answered(h)
        await h.heard(HELLO)

        async def say(speaker: Speaker, text: str) -> Utterance:
            raise RuntimeError("a bug")

        monkeypatch.setattr(Speaker, "say", say)
        h.carrier.tell(GREETED)
        await h.calls_over()
    record = h.store.only
    assert (record.state, record.hangup_cause, record.voicemail) == ("ended", "normal_clearing", "failed")
    assert record.error == "internal error: RuntimeError('a bug')"


@pytest.mark.parametrize("message", [None, MESSAGE])
async def test_a_verdict_on_a_call_that_was_handed_over_ends_nothing(message: str | None) -> None:
    async with house(caller(message)) as h:
        await answered(h)
        await h.heard(HELLO)
        await h.manager.transfer(h.store.only.id, "+15557778888")
        h.carrier.tell(DETECTED, result="machine")
        h.carrier.tell(GREETED)
        h.carrier.line.drop()  # as the carrier does then; and time for whatever might follow
        await until(lambda: h.carrier.line.closed.is_set())
        assert h.carrier.done == ["dial", "start_streaming", "transfer"]
        await over(h)
    assert said(h) == [HELLO]


async def test_an_agent_that_does_not_ask_is_not_told() -> None:
    plain = agent(
        {"id": "hello", "say": HELLO, "transitions": [{"to": "bye", "when": {"digits": "1"}}]},
        {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]},
    )
    async with house(plain) as h:
        await answered(h)
        h.carrier.tell(DETECTED, result="machine")
        await h.heard(HELLO)
        await over(h)
    assert h.carrier.last("dial")["machine_detection"] is None
    assert h.store.only.answered_by is None


async def test_a_database_that_is_away_learns_it_with_the_end() -> None:
    async with house(caller()) as h:
        await answered(h)
        await h.heard(HELLO)
        h.store.broken = True
        h.carrier.tell(DETECTED, result="human")
        async with asyncio.timeout(5):
            await until(lambda: h.store.refused)
        h.store.broken = False
        await over(h)
    assert h.store.only.answered_by == "human"
