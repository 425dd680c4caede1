"""The carrier's recordings: what is on them, where they lie, when they are refused."""

from __future__ import annotations

import asyncio
import base64
import io
import wave
from datetime import UTC, datetime

import httpx
import numpy as np
import pytest
import telnyx

from backend.core.g711 import Codec
from backend.simulator.line import Line, Utterance
from backend.simulator.orders import RecordingOrder
from backend.simulator.recording import Recorder
from tests.backend.simulator.conftest import g711_tone, tone

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def order(channels: str = "dual", audio_format: str = "wav") -> RecordingOrder:
    return RecordingOrder(channels, audio_format, "http://stand-in/")  # type: ignore[arg-type]


def samples(sound: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(sound)) as file:
        assert (file.getframerate(), file.getsampwidth()) == (8000, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())


def ticks(line: Line, ms: int) -> None:
    for _ in range(ms // 20):
        line.tick()


def loud(sound: np.ndarray) -> bool:
    return bool(np.abs(sound.astype(int)).max() > 4000)


def test_a_recording_holds_what_was_said_meanwhile_each_side_apart() -> None:
    line = Line(Codec.PCMU)
    recorder = Recorder(line)
    ticks(line, 100)
    recorder.start(order(), NOW)
    line.say(Utterance("hm", tone(100), 0, 800))
    ticks(line, 200)
    line.queue.push_audio(tone(100))
    ticks(line, 200)
    recorded = recorder.stop(NOW)
    ticks(line, 100)
    assert recorded is not None
    stereo = samples(recorder.sound(recorded))
    assert len(stereo) == 400 * 8
    assert loud(stereo[:1600, 0]) and not loud(stereo[:1600, 1])
    assert loud(stereo[1600:, 1]) and not loud(stereo[1600:, 0])
    assert recorder.stop(NOW) is None


def test_both_sides_mixed() -> None:
    line = Line(Codec.PCMA)
    recorder = Recorder(line)
    recorder.start(order("single"), NOW)
    line.say(Utterance("hm", tone(100, level=30_000), 0, 800))
    line.queue.push_audio(tone(100, level=30_000))
    ticks(line, 200)
    recorded = recorder.stop(NOW)
    assert recorded is not None
    mono = samples(recorder.sound(recorded))
    assert mono.shape[1] == 1
    assert np.abs(mono.astype(int)).max() >= 32_767, "clipped, not wrapped"


def test_mp3() -> None:
    line = Line(Codec.PCMU)
    recorder = Recorder(line)
    recorder.start(order("dual", "mp3"), NOW)
    line.say(Utterance("hm", tone(400), 0, 3200))
    ticks(line, 500)
    recorded = recorder.stop(NOW)
    assert recorded is not None
    sound = recorder.sound(recorded)
    assert sound[:3] == b"ID3" or (sound[0] == 0xFF and sound[1] & 0xE0 == 0xE0)
    assert recorded.url.endswith(f"{recorded.id}.mp3?signature={recorded.signature}")


async def test_a_recorded_call_is_told_of_and_fetched_afterwards(stand_in) -> None:
    ccid, stream = await stand_in.answered({"silent_ms": 60}, {"say": "hello"}, {"silent_ms": 2000})
    state = base64.b64encode(b"call_1").decode()
    actions = stand_in.sdk.calls.actions
    await actions.start_recording(ccid, channels="dual", format="wav", client_state=state, command_id="r1")
    await actions.start_recording(ccid, channels="dual", format="wav", client_state=state, command_id="r1")
    await stream.play(g711_tone(400))
    await stream.mark("end")
    await stream.until("mark")
    await actions.hangup(ccid)
    saved = (await stand_in.webhooks.wait("call.recording.saved")).payload
    assert "call_control_id" not in saved
    hangup = (await stand_in.webhooks.wait("call.hangup")).payload
    assert (saved["call_leg_id"], saved["call_session_id"]) == (
        hangup["call_leg_id"],
        hangup["call_session_id"],
    )
    assert (saved["client_state"], saved["channels"]) == (state, "dual")
    began, ended = (datetime.fromisoformat(saved[f"recording_{when}_at"]) for when in ("started", "ended"))
    assert ended > began
    async with httpx.AsyncClient() as http:
        url = saved["recording_urls"]["wav"]
        found = await http.get(url)
        assert (found.status_code, found.headers["content-type"]) == (200, "audio/wav")
        stereo = samples(found.content)
        assert loud(stereo[:, 0]) and loud(stereo[:, 1])
        for wrong in (url[:-1], url.partition("?")[0], url.replace(".wav", ".mp3")):
            assert (await http.get(wrong)).status_code == 403
    parts = (await stand_in.webhooks.wait("call.cost")).payload["cost_parts"]
    assert "call-recording" in [part["call_part"] for part in parts]
    record = (await stand_in.ended(ccid))["record"]
    assert [event["data"]["state"] for event in record["events"] if event["kind"] == "recording"] == [
        "started",
        "saved",
    ]


async def test_stopped_and_started_again(stand_in) -> None:
    ccid, _ = await stand_in.answered({"silent_ms": 5000})
    actions = stand_in.sdk.calls.actions
    for number in range(1, 3):
        await actions.start_recording(ccid, channels="single", format="wav")
        await actions.stop_recording(ccid)
        await stand_in.webhooks.wait("call.recording.saved", count=number)
    await actions.hangup(ccid)
    await stand_in.ended(ccid)
    assert stand_in.webhooks.types().count("call.recording.saved") == 2


async def test_what_is_refused(stand_in) -> None:
    actions = stand_in.sdk.calls.actions
    ccid = await stand_in.ring()

    async def refused(work, code: str) -> None:
        with pytest.raises(telnyx.APIStatusError) as caught:
            await work
        assert caught.value.status_code == 422
        assert caught.value.body["errors"][0]["code"] == code

    await refused(actions.start_recording(ccid, channels="dual", format="wav"), "90034")
    await stand_in.webhooks.wait("call.initiated")
    await actions.answer(ccid)
    await refused(actions.stop_recording(ccid), "10015")
    await refused(actions.start_recording(ccid, channels="triple", format="wav"), "10015")
    await refused(actions.start_recording(ccid, channels="dual", format=""), "10004")
    await actions.start_recording(ccid, channels="dual", format="wav")
    await refused(actions.start_recording(ccid, channels="dual", format="wav"), "10015")
    await actions.hangup(ccid)
    await refused(actions.start_recording(ccid, channels="dual", format="wav"), "90018")
    async with asyncio.timeout(20):
        await stand_in.webhooks.wait("call.recording.saved")
