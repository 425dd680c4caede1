"""A whole spoken call: real voice, real ears, real sockets; the test is the agent."""

from __future__ import annotations

import asyncio
import base64
import io
import wave

import numpy as np
import pytest
import telnyx

from backend.core.g711 import Codec
from backend.simulator.orders import CallTimes
from backend.simulator.voice import CallerVoice


@pytest.fixture
async def voice():
    one = CallerVoice()
    yield one
    one.close()


def kinds(call, kind):
    return [event["data"] for event in call["record"]["events"] if event["kind"] == kind]


async def frames_with_sound(stream, after: int) -> int:
    """Wait for the caller to be heard after frame `after` → how many frames there are then."""
    while True:
        frame = await stream.until("media", count=after + 1)
        if base64.b64decode(frame["media"]["payload"]).strip(b"\xff\x7f"):
            return after
        after += 1


async def test_a_call_is_spoken_heard_interrupted_and_recorded(start, voice, ears):
    greeting = (await voice.say("How can I help you?", pitch=1, speed=1)).pcm16
    long = (
        await voice.say(
            "We are open from nine to five on weekdays, and on Saturdays until noon.", pitch=1, speed=1
        )
    ).pcm16
    steps = [
        {"wait_for": ["something else", "how can I help"]},
        {"wait_until_quiet": True, "quiet_ms": 400},
        {"say": "When are you open?"},
        {"interrupt_after_ms": 900, "say": "That is enough."},
        {"press": "1#"},
        {"hang_up": True},
    ]
    async with start(voice=voice, ears=ears) as stand_in:
        ccid, stream = await stand_in.answered(*steps)
        await stream.play(Codec.PCMU.encode(greeting))
        await stream.mark("greeting")
        asked_at = await frames_with_sound(stream, 0)
        await stream.until("media", count=asked_at + 60)
        await stream.play(Codec.PCMU.encode(long))
        await stream.mark("hours")
        interrupted_at = await frames_with_sound(stream, len(stream.of("media")))
        await stream.until("media", count=interrupted_at + 5)
        await stream.clear()
        assert (await stand_in.webhooks.wait("call.dtmf.received", count=2)).payload["digit"] == "#"
        hangup = (await stand_in.webhooks.wait("call.hangup")).payload
        call = await stand_in.ended(ccid)
        wav = (await stand_in.http.get(f"/sim/calls/{ccid}/audio.wav")).content
    assert call["script_error"] is None
    assert (hangup["hangup_cause"], hangup["hangup_source"]) == ("normal_clearing", "caller")
    assert [frame["dtmf"]["digit"] for frame in stream.of("dtmf")] == ["1", "#"]

    heard = kinds(call, "agent_speech")
    assert "how can i help" in " ".join(one["text"] for one in heard).lower()
    assert heard[0]["start_ms"] == kinds(call, "first_audio")[0]["ms"]

    question, enough = kinds(call, "caller_speech")
    assert question["text"] == "When are you open?"
    [interrupt] = kinds(call, "interrupt")
    assert interrupt["speech_start_ms"] == enough["start_ms"]
    answer_start_ms = next(one["start_ms"] for one in heard if one["start_ms"] > question["end_ms"])
    assert enough["start_ms"] - answer_start_ms == pytest.approx(900, abs=60)
    assert 60 < interrupt["last_agent_audio_ms"] - interrupt["speech_start_ms"] < len(long) / 8

    with wave.open(io.BytesIO(wav)) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, 8000)
        both = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2).astype(int)
    caller = np.nonzero(np.abs(both[:, 0]) > 150)[0] / 8
    assert caller[0] == pytest.approx(question["start_ms"], abs=2)
    assert caller[caller < enough["start_ms"] - 5][-1] == pytest.approx(question["end_ms"], abs=2)
    agent = np.nonzero(np.abs(both[:, 1]) > 150)[0] / 8
    assert agent[-1] == pytest.approx(interrupt["last_agent_audio_ms"], abs=1)
    assert len(both) / 8 == pytest.approx(call["record"]["duration_ms"], abs=21)


async def test_a_caller_may_be_played_by_another_program(start, voice, ears):
    question = (await voice.say("How can I help you?", pitch=1, speed=1)).pcm16
    async with start(voice=voice, ears=ears) as stand_in:
        ringing = await stand_in.ring()
        for what, body in (("say", {"text": "Hello."}), ("press", {"digits": "1"})):
            early = await stand_in.http.post(f"/sim/calls/{ringing}/{what}", json=body)
            assert early.json()["errors"][0]["code"] == "90034"
        assert (await stand_in.http.get(f"/sim/calls/{ringing}/line")).json()["state"] == "ringing"

        ccid, stream = await stand_in.answered()
        await stream.play(Codec.PCMU.encode(question))
        await stream.mark("question")
        await stream.until("mark")
        async with asyncio.timeout(20):
            while not (line := (await stand_in.http.get(f"/sim/calls/{ccid}/line")).json())["heard"]:
                await stream.until("media", count=len(stream.of("media")) + 5)
        assert "help you" in line["heard"][0].lower()
        later = await stand_in.http.get(f"/sim/calls/{ccid}/line", params={"after": line["next"]})
        assert later.json()["heard"] == []
        assert later.json()["quiet_ms"] > 0

        said = await stand_in.http.post(f"/sim/calls/{ccid}/say", json={"text": "When are you open?"})
        assert said.json()["duration_ms"] > 300
        line = (await stand_in.http.get(f"/sim/calls/{ccid}/line")).json()
        assert (line["caller_speaking"], line["quiet_ms"]) == (True, 0)
        assert (await stand_in.http.post(f"/sim/calls/{ccid}/press", json={"digits": "1#"})).is_success
        await stream.until("dtmf", count=2)
        unspoken = await stand_in.http.post(f"/sim/calls/{ccid}/say", json={"text": "…"})
        assert unspoken.status_code == 422
        assert "nothing to pronounce" in unspoken.json()["error"]["message"]
        await stand_in.http.post(f"/sim/calls/{ccid}/hangup")
        call = await stand_in.ended(ccid)
    assert [words["text"] for words in kinds(call, "caller_speech")] == ["When are you open?"]
    assert [key["digit"] for key in kinds(call, "dtmf")] == ["1", "#"]


async def test_a_caller_who_does_not_hear_what_they_wait_for_hangs_up_and_says_so(start):
    async with start() as stand_in:
        ccid, _ = await stand_in.answered({"wait_for": "never said", "timeout_ms": 100})
        call = await stand_in.ended(ccid)
    assert call["script_error"] == "script.steps[0]: waited 100 ms for 'never said'; heard: nothing"
    assert call["hangup_source"] == "caller"


async def test_the_carriers_own_voice_is_heard_on_the_line_without_a_stream(stand_in):
    ccid = await stand_in.ring()
    await stand_in.sdk.calls.actions.answer(ccid)
    await stand_in.sdk.calls.actions.speak(ccid, payload="sorry", voice="female", language="en-US")
    ended = await stand_in.webhooks.wait("call.speak.ended")
    assert ended.payload["status"] == "completed"
    await stand_in.http.post(f"/sim/calls/{ccid}/hangup")
    call = await stand_in.ended(ccid)
    assert kinds(call, "speak") == [{"text": "sorry"}]
    wav = (await stand_in.http.get(f"/sim/calls/{ccid}/audio.wav")).content
    right = np.frombuffer(wav[44:], "<i2").reshape(-1, 2)[:, 1]
    assert np.count_nonzero(np.abs(right.astype(int)) > 150) / 8 == pytest.approx(300, abs=40)


async def test_the_carriers_own_voice_can_be_cut_short(stand_in):
    ccid = await stand_in.ring()
    actions = stand_in.sdk.calls.actions
    await actions.answer(ccid)
    for text in ("one " * 60, "two " * 60):  # 18 s each
        await actions.speak(ccid, payload=text, voice="female")
    await stand_in.webhooks.wait("call.speak.started")
    await actions.stop_playback(ccid, stop="all")
    ended = await stand_in.webhooks.wait("call.speak.ended", count=2)
    assert ended.payload["status"] == "completed"
    assert stand_in.webhooks.types().count("call.speak.started") == 1, "what waited is dropped"
    with pytest.raises(telnyx.UnprocessableEntityError):
        await actions.stop_playback(ccid, stop="now")
    await actions.speak(ccid, payload="sorry", voice="female")
    await stand_in.webhooks.wait("call.speak.ended", count=3)
    await stand_in.http.post(f"/sim/calls/{ccid}/hangup")
    call = await stand_in.ended(ccid)
    assert call["record"]["duration_ms"] < 18_000, "not even the first was spoken to its end"


async def test_a_call_that_gets_no_media_still_has_a_clock(start):
    async with start(times=CallTimes(media_grace_s=0.05)) as stand_in:
        ccid = await stand_in.ring({"silent_ms": 100}, {"hang_up": True})
        await stand_in.sdk.calls.actions.answer(ccid)
        call = await stand_in.ended(ccid)
    assert call["record"]["duration_ms"] >= 80
    [answered] = [event for event in call["record"]["events"] if event["kind"] == "answered"]
    assert answered["t_ms"] < 0


async def test_speech_cut_off_by_the_agents_hangup_ends_where_the_line_ended(stand_in):
    ccid, stream = await stand_in.answered({"say": "x" * 50})
    await stream.until("media", count=20)
    await stand_in.sdk.calls.actions.hangup(ccid)
    call = await stand_in.ended(ccid)
    [speech] = kinds(call, "caller_speech")
    assert speech["end_ms"] <= call["record"]["duration_ms"] < 3000


async def test_an_event_can_be_waited_for(stand_in):
    waiting = asyncio.create_task(stand_in.http.get("/sim/events", params={"after": 0}))
    ccid = await stand_in.ring()
    events = (await waiting).json()["events"]
    assert (events[0]["kind"], events[0]["call_control_id"], events[0]["t_ms"]) == ("ringing", ccid, None)
