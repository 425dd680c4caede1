"""REST speech servers of every kind: ours, one that only knows base64, and answers that make no sense."""

from __future__ import annotations

import base64
import io
import json
import wave
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import numpy as np
import pytest

from backend.core.speech import Sound
from backend.errors import SpeechError
from backend.tts.sesame_rest import SesameRestService

URL = "http://user:hunter2@speech.example/generate?token=hunter2"
Handler = Callable[[httpx.Request], Awaitable[httpx.Response] | httpx.Response]


def wav(samples: np.ndarray, *, rate_hz: int = 24_000, channels: int = 1) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())
    return out.getvalue()


TONE = np.arange(1000) * 7 - 3000


def service(handler: Handler, **options: Any) -> SesameRestService:
    http = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    return SesameRestService(options.pop("url", URL), http=http, **options)


async def said(service: SesameRestService, text: str = "Hello.") -> list[Sound]:
    return [sound async for sound in service.speak(text)]


async def failure(service: SesameRestService) -> SpeechError:
    with pytest.raises(SpeechError) as caught:
        await said(service)
    return caught.value


async def test_the_request_carries_key_speaker_and_settings() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=wav(TONE), headers={"content-type": "audio/wav"})

    voice = service(answer, url="http://x/generate", api_key="k", speaker_id=3, settings={"temperature": 0.5})
    assert b"".join(s.data for s in await said(voice)) == TONE.astype("<i2").tobytes()
    assert json.loads(seen[0].content) == {
        "text": "Hello.", "speaker_id": 3, "temperature": 0.5, "format": "wav",
    }  # fmt: skip
    assert seen[0].headers["authorization"] == "Bearer k"


@pytest.mark.parametrize(("rate_hz", "channels"), [(8_000, 1), (22_050, 1), (48_000, 2)])
@pytest.mark.parametrize("kind", ["wav", "json"])
async def test_any_rate_and_two_channels(kind: str, rate_hz: int, channels: int) -> None:
    data = wav(np.repeat(TONE, channels), rate_hz=rate_hz, channels=channels)

    def answer(_: httpx.Request) -> httpx.Response:
        if kind == "wav":
            return httpx.Response(200, content=data, headers={"content-type": "application/octet-stream"})
        audio = base64.b64encode(data).decode()
        return httpx.Response(200, json={"success": True, "audio_data": audio, "sample_rate": rate_hz})

    sounds = await said(service(answer))
    assert {sound.rate_hz for sound in sounds} == {rate_hz}
    assert b"".join(s.data for s in sounds) == TONE.astype("<i2").tobytes()


async def test_a_server_that_refuses_the_format_is_asked_without_it_from_then_on() -> None:
    bodies: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        if "format" in bodies[-1]:
            return httpx.Response(422, json={"detail": [{"loc": ["body", "format"], "msg": "extra"}]})
        audio = "data:audio/wav;base64," + base64.b64encode(wav(TONE)).decode()
        return httpx.Response(200, json={"success": True, "audio_data": audio})

    voice = service(answer)
    assert await said(voice)
    assert await said(voice)
    assert ["format" in body for body in bodies] == [True, False, False]


@pytest.mark.parametrize(
    ("response", "reason", "hint"),
    [
        (httpx.Response(401, json={"error": "unauthorized"}), "unauthorized", "SESAME_FALLBACK_API_KEY"),
        (
            httpx.Response(400, json={"error": "bad_request", "message": "text is empty"}),
            "bad_request",
            "empty",
        ),
        (
            httpx.Response(
                400,
                json={"error": "bad_request", "message": "voice 'nora' is not known here; the voices are: a"},
            ),
            "unknown_voice",
            "'nora'",
        ),
        (httpx.Response(404, text="no such pod"), "unreachable", "404"),
        (httpx.Response(502, text="<html>"), "unreachable", "502"),
        (httpx.Response(503, json={"error": "not_ready", "message": "loading"}), "not_ready", "loading"),
        (httpx.Response(503, json={"error": "busy", "message": "full"}), "busy", "full"),
        (httpx.Response(507, json={"error": "out_of_memory", "message": "oh"}), "out_of_memory", "oh"),
        (httpx.Response(500, text="Internal Server Error"), "generation_failed", "500"),
        (httpx.Response(200, json={"success": False, "error": "busy", "message": "full"}), "busy", "full"),
        (httpx.Response(200, json=[1]), "generation_failed", "no reason"),
        (httpx.Response(200, json={"success": True, "audio_data": "%"}), "protocol", "base64"),
        (httpx.Response(200, json={"success": True, "audio_data": ""}), "protocol", "empty"),
        (httpx.Response(200, text="{", headers={"content-type": "application/json"}), "protocol", "JSON"),
        (httpx.Response(200, content=b"ID3 mp3"), "protocol", "RIFF"),
        (httpx.Response(200, content=wav(TONE)[:-100]), "protocol", "100 bytes"),
        (httpx.Response(200, content=wav(TONE[:0])), "no_audio", "6 characters"),
    ],
)
async def test_what_it_answers_and_what_that_means(response: httpx.Response, reason: str, hint: str) -> None:
    error = await failure(service(lambda _: response, name="sesame_fallback"))
    assert (error.reason, error.route) == (reason, "sesame_fallback")
    assert hint in str(error)
    assert "speech.example" in str(error)
    assert "hunter2" not in str(error)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(405, None), (200, None), (500, None), (404, "unreachable"), (401, "unauthorized"), (502, "unreachable"),
     (503, "busy")],
)  # fmt: skip
async def test_warming_asks_for_no_speech(status: int, reason: str | None) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.method == "OPTIONS"
        return httpx.Response(status)

    voice = service(answer)
    if reason is None:
        await voice.connect()
        return
    with pytest.raises(SpeechError) as caught:
        await voice.connect()
    assert caught.value.reason == reason


@pytest.mark.parametrize("url", ["nonsense", "ftp://x/generate", "http://", "http://[::1"])
async def test_an_address_that_is_none_is_unreachable(url: str) -> None:
    voice = SesameRestService(url)
    assert (await failure(voice)).reason == "unreachable"
    await voice.aclose()


async def test_a_client_that_was_given_stays_open() -> None:
    http = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=wav(TONE))))
    voice = SesameRestService(URL, http=http)
    await said(voice)
    await voice.aclose()
    assert not http.is_closed
    await http.aclose()
