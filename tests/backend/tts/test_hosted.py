"""A hosted inference API: every sound file it may send, and what its refusals mean."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from backend.core.speech import Sound
from backend.errors import SpeechError
from backend.tts.hosted import HostedInferenceService

URL = "https://api.example/models/csm"
TONE = (np.sin(np.arange(16_000) / 9) * 8000).astype(np.int16)


def file(kind: str, *, channels: int = 1) -> bytes:
    out = io.BytesIO()
    # Floats: libsndfile writes int16 in stereo wrongly to MP3.
    samples = np.repeat(TONE[:, None] / 32768, channels, axis=1)
    soundfile.write(out, samples, 16_000, format=kind)
    return out.getvalue()


def service(response: httpx.Response, seen: list[httpx.Request] | None = None, **options: Any) -> Any:
    def answer(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return response

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return HostedInferenceService(URL, http=http, **options)


async def said(service: HostedInferenceService, text: str = "Hello.") -> list[Sound]:
    return [sound async for sound in service.speak(text)]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
async def test_every_sound_file_is_heard(kind: str, channels: int) -> None:
    (sound,) = await said(service(httpx.Response(200, content=file(kind, channels=channels))))
    heard = np.frombuffer(sound.data, "<i2")
    assert (sound.encoding, sound.rate_hz) == ("pcm16", 16_000)
    assert len(heard) == pytest.approx(len(TONE), abs=2500), "mp3 pads"
    assert np.abs(heard).max() == pytest.approx(8000, rel=0.2)


async def test_the_request_is_of_the_agreed_shape() -> None:
    seen: list[httpx.Request] = []
    voice = service(httpx.Response(200, content=file("WAV")), seen, api_key="k", parameters={"speaker_id": 2})
    await said(voice)
    assert json.loads(seen[0].content) == {"inputs": "Hello.", "parameters": {"speaker_id": 2}}
    assert seen[0].headers["authorization"] == "Bearer k"


@pytest.mark.parametrize(
    ("response", "reason", "hint"),
    [
        (
            httpx.Response(503, json={"error": "Loading", "estimated_time": 19.6}),
            "not_ready",
            "20 s",
        ),
        (httpx.Response(401, json={"error": "Invalid token"}), "unauthorized", "SESAME_API_KEY"),
        (httpx.Response(402, json={"error": "exceeded your credits"}), "quota", "credit"),
        (httpx.Response(404, json={"error": "Not Found"}), "not_found", "SESAME_URL"),
        (httpx.Response(429, json={"error": "Rate limit"}), "rate_limited", "plan"),
        (httpx.Response(400, json={"error": "inputs too long"}), "bad_request", "too long"),
        (httpx.Response(500, json={"error": "CUDA"}), "generation_failed", "CUDA"),
        (httpx.Response(200, json={"error": "broken"}), "generation_failed", "broken"),
        (httpx.Response(200, content=b"<html>"), "protocol", "no sound file"),
        (httpx.Response(200, content=b"RIFFxxxx"), "protocol", "header"),
        (httpx.Response(200, content=b""), "no_audio", "6 characters"),
    ],
)
async def test_what_it_answers_and_what_that_means(response: httpx.Response, reason: str, hint: str) -> None:
    with pytest.raises(SpeechError) as caught:
        await said(service(response))
    assert (caught.value.reason, caught.value.route) == (reason, "sesame_hosted")
    assert hint in str(caught.value)


@pytest.mark.parametrize(("status", "refused"), [(200, False), (404, False), (405, False), (401, True)])
async def test_warming_asks_for_no_speech(status: int, refused: bool) -> None:
    seen: list[httpx.Request] = []
    voice = service(httpx.Response(status), seen)
    if refused:
        with pytest.raises(SpeechError, match="SESAME_API_KEY"):
            await voice.connect()
    else:
        await voice.connect()
    assert seen[0].method == "OPTIONS"
