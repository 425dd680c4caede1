from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
import soundfile

from runpod_server import errors
from runpod_server.api.openai import OPENAI_VOICES

ASK = {"model": "tts-1", "input": "Hello, this is a test.", "voice": "alloy"}
TYPES = {"mp3": "audio/mpeg", "opus": "audio/ogg", "flac": "audio/flac", "wav": "audio/wav"}


@pytest.mark.parametrize("form", ["mp3", "opus", "flac", "wav"])
async def test_every_format_is_readable(server, form: str) -> None:
    async with server.client() as http:
        answer = await http.post("/v1/audio/speech", json={**ASK, "response_format": form})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == TYPES[form]
    samples, rate_hz = soundfile.read(io.BytesIO(answer.content), dtype="float32")
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


async def test_speed(server) -> None:
    async def length(speed: float) -> int:
        body = {**ASK, "response_format": "pcm", "speed": speed}
        async with server.client() as http:
            return len((await http.post("/v1/audio/speech", json=body)).content)

    assert await length(1.5) < 0.8 * await length(1)


@pytest.mark.parametrize(
    "change, param",
    [({"input": ""}, "input"), ({"input": "?!"}, "input"), ({"input": None}, "input"),
     ({"voice": "nobody"}, "voice"),
     ({"speed": 9}, "speed"), ({"response_format": "aac"}, "response_format"),
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
