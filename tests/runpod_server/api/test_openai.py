from __future__ import annotations

import asyncio
import base64
import json
import sys
import threading
from typing import Any

import numpy as np
import pytest

from runpod_server import errors
from runpod_server.api.openai import OPENAI_VOICES
from runpod_server.engine.request import SpeechRequest
from tests.runpod_server.conftest import CommandedEngine, CommandedStream
from tests.runpod_server.decoding import decoded, main_hz

ASK = {"model": "tts-1", "input": "Hello, this is a test.", "voice": "alloy"}
TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "aac": "audio/aac",
}


@pytest.mark.parametrize("form", TYPES)
async def test_every_format_is_readable(server, form: str) -> None:
    async with server.client() as http:
        answer = await http.post("/v1/audio/speech", json={**ASK, "response_format": form})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == TYPES[form]
    samples, rate_hz = decoded(answer.content, form)
    assert 1.0 < len(samples) / rate_hz < 3.0
    assert np.abs(samples).max() > 0.1


async def test_mp3_is_the_default_and_pcm_is_bare(server) -> None:
    async with server.client() as http:
        assert (await http.post("/v1/audio/speech", json=ASK)).headers["content-type"] == "audio/mpeg"
        pcm = await http.post("/v1/audio/speech", json={**ASK, "response_format": "pcm"})
    assert pcm.headers["content-type"].startswith("audio/pcm")
    assert 24_000 < len(pcm.content) // 2 < 24_000 * 3
    assert np.abs(np.frombuffer(pcm.content, "<i2")).max() > 3000


async def test_sse(server) -> None:
    async with server.client() as http:
        answer = await http.post(
            "/v1/audio/speech", json={**ASK, "response_format": "pcm", "stream_format": "sse"}
        )
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    *deltas, done = events
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    assert len(deltas) > 2
    assert sum(len(base64.b64decode(event["audio"])) for event in deltas) > 48_000
    assert done["type"] == "speech.audio.done"
    usage = done["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


@pytest.mark.parametrize("voice", ["alloy", "nova", "heart", "moss", "3", {"id": "birch"}])
async def test_voices(server, voice: Any) -> None:
    async with server.client() as http:
        answer = await http.post("/v1/audio/speech", json={**ASK, "voice": voice, "response_format": "pcm"})
    assert answer.status_code == 200


OPENAI_NAMES = "alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse".split()


async def test_each_of_openais_thirteen_names_is_a_voice(server) -> None:
    """With the default settings, of the preview engine and of CSM alike: every speaker is bound."""
    assert sorted(OPENAI_VOICES) == OPENAI_NAMES
    bound = (await server.health())["speakers"]
    assert all(str(speaker) in bound for speaker in OPENAI_VOICES.values())
    assert set(OPENAI_VOICES.values()) == set(range(10))


@pytest.mark.parametrize("speed", [0.25, 0.5, 1.5, 2.0, 4.0])
async def test_speed(server, speed: float) -> None:
    async def length(speed: float) -> int:
        body = {**ASK, "response_format": "pcm", "speed": speed}
        async with server.client() as http:
            return len((await http.post("/v1/audio/speech", json=body)).content)

    assert await length(speed) == pytest.approx(await length(1) / speed, rel=0.1)


@pytest.mark.parametrize(
    "change, param",
    [({"input": ""}, "input"), ({"input": "?!"}, "input"), ({"input": None}, "input"),
     ({"voice": "nobody"}, "voice"),
     ({"speed": 0.24}, "speed"), ({"speed": 4.01}, "speed"), ({"speed": "2"}, "speed"),
     ({"response_format": "ogg"}, "response_format"), ({"sample_rate": 12_345}, "sample_rate"),
     ({"stream_format": "x"}, "stream_format")],
)  # fmt: skip
async def test_mistakes_have_openais_shape(server, change: dict[str, Any], param: str) -> None:
    async with server.client() as http:
        answer = await http.post("/v1/audio/speech", json={**ASK, **change})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "bad_request", param)


async def test_busy_is_429(start, commanded) -> None:
    server = start(commanded({"full": errors.Busy("full up")}))
    async with server.client() as http:
        answer = await http.post("/v1/audio/speech", json={"input": "full", "voice": "0"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "busy")
    assert int(answer.headers["retry-after"]) >= 1


async def test_models_and_voices(server) -> None:
    async with server.client() as http:
        models = (await http.get("/v1/models")).json()
        voices = (await http.get("/v1/audio/voices")).json()["voices"]
        model = models["data"][0]
        alone = await http.get(f"/v1/models/{model['id']}")
        unknown = await http.get("/v1/models/gpt-4o-mini-tts")
        audio_models = (await http.get("/v1/audio/models")).json()["models"]
    assert alone.json() == model
    assert unknown.status_code == 404
    assert model["id"] in unknown.json()["error"]["message"]
    assert [each["id"] for each in audio_models] == [model["id"]]
    assert models["object"] == "list"
    assert [model["object"] for model in models["data"]] == ["model"]
    assert [voice["speaker_id"] for voice in voices[:10]] == list(range(10))
    assert [voice["name"] for voice in voices[10:]] == sorted(voice["name"] for voice in voices[10:])
    assert voices[0]["id"] == voices[0]["name"] == "heart"


class GatedEngine(CommandedEngine):
    """Speaks a low tone of one frame, waits at a gate, then a high tone of ten frames."""

    def __init__(self) -> None:
        super().__init__({})
        self.gate = threading.Event()

    def open(self, request: SpeechRequest) -> GatedStream:
        return GatedStream(self, request)


class GatedStream(CommandedStream):
    engine: GatedEngine

    async def __anext__(self) -> bytes:
        self.pieces += 1
        if self.pieces == 1:
            return tone(LOW_HZ, 1920)
        await asyncio.to_thread(self.engine.gate.wait, 60)
        if self.pieces == 12:
            self.reason = "eos"
            raise StopAsyncIteration
        return tone(HIGH_HZ, 1920)


LOW_HZ, HIGH_HZ = 500, 1500


def tone(hz: float, samples: int) -> bytes:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(samples) / 24_000) * 32767).astype("<i2").tobytes()


@pytest.mark.parametrize("form", ["mp3", "opus", "aac", "wav", "pcm"])
@pytest.mark.parametrize("stream_format", ["audio", "sse"])
async def test_the_first_byte_leaves_before_the_next_sound_is_made(
    start, form: str, stream_format: str
) -> None:
    engine = GatedEngine()
    body = {"input": "Hello.", "voice": "0", "response_format": form, "stream_format": stream_format}
    try:
        async with (
            start(engine).client() as http,
            http.stream("POST", "/v1/audio/speech", json=body) as answer,
        ):
            arriving = answer.aiter_bytes()
            sound = await anext(arriving)
            assert sound, "the server sends it while the engine waits at the gate"
            engine.gate.set()
            sound += b"".join([piece async for piece in arriving])
    finally:
        engine.gate.set()
    if stream_format == "sse":
        events = [json.loads(line.removeprefix("data: ")) for line in sound.decode().split("\n\n") if line]
        sound = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    samples, rate_hz = decoded(sound, form)
    assert len(samples) / rate_hz == pytest.approx(11 * 0.08, abs=0.2)
    begins = int(np.argmax(np.abs(samples) > 0.1))
    first, last = samples[begins : begins + rate_hz // 20], samples[-rate_hz // 2 : -rate_hz // 4]
    assert main_hz(first, rate_hz) == pytest.approx(LOW_HZ, rel=0.05)
    assert main_hz(last, rate_hz) == pytest.approx(HIGH_HZ, rel=0.05)


@pytest.mark.parametrize("form", ["mp3", "opus", "aac", "flac", "wav", "pcm"])
@pytest.mark.parametrize("rate_hz", [8000, 16_000, 48_000])
async def test_sample_rate(server, form: str, rate_hz: int) -> None:
    body = {**ASK, "response_format": form, "sample_rate": rate_hz}
    async with server.client() as http:
        usual = await http.post("/v1/audio/speech", json={**ASK, "response_format": "pcm"})
        answer = await http.post("/v1/audio/speech", json=body)
    assert answer.status_code == 200
    if form == "pcm":
        assert answer.headers["content-type"] == f"audio/pcm;rate={rate_hz};encoding=signed-int;bits=16"
    samples, read_hz = decoded(answer.content, form, pcm_hz=rate_hz)
    assert read_hz == rate_hz
    assert len(samples) / rate_hz == pytest.approx(len(usual.content) / 48_000, abs=0.35)
    assert np.abs(samples).max() > 0.1


@pytest.mark.parametrize(
    "change, words",
    [({"sample_rate": 11_025}, "8000, 16000, 22050, 24000, 44100 or 48000"),
     ({"sample_rate": "8000"}, "8000, 16000, 22050, 24000, 44100 or 48000"),
     ({"sample_rate": 44_100, "response_format": "opus"}, "opus has no sample_rate of 44100")],
)  # fmt: skip
async def test_a_sample_rate_that_cannot_be_is_refused_with_those_that_can(
    server, change: dict[str, Any], words: str
) -> None:
    async with server.client() as http:
        answer = await http.post("/v1/audio/speech", json={**ASK, **change})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "sample_rate", "bad_request")
    assert words in error["message"]


async def test_without_pyav_aac_is_refused_and_the_extra_named(server, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    async with server.client() as http:
        answer = await http.post("/v1/audio/speech", json={**ASK, "response_format": "aac"})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "response_format", "bad_request")
    assert "extra `aac`" in error["message"]
