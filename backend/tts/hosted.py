"""A hosted inference API of Hugging Face's shape: `{"inputs": text}` in, a sound file out.

It comes whole: WAV always, FLAC and MP3 where `soundfile` is installed. Knows nothing of telephones or of
routing.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import httpx
import numpy as np

from backend.core.agent_secrets import without_key
from backend.core.speech import RouteName, Sound
from backend.core.wav import WavError, WavReader
from backend.errors import SpeechError, SpeechFailure
from backend.extras import install_command
from backend.tts.http import KeptClient, error_body, let_go, shown, within

_MAX_BYTES = 64 << 20
_BY_STATUS: dict[int, SpeechFailure] = {
    401: "unauthorized", 402: "quota", 403: "unauthorized", 404: "not_found", 405: "not_found",
    429: "rate_limited", 502: "unreachable", 503: "not_ready", 504: "unreachable",
}  # fmt: skip
_ADVICE: dict[SpeechFailure, str] = {
    "unauthorized": "the key was refused: check SESAME_API_KEY",
    "quota": "out of credit",
    "not_found": "no such model answers there: check SESAME_URL",
    "unreachable": "the model cannot be reached there: check SESAME_URL",
    "rate_limited": "more requests than the plan allows",
    "not_ready": "the model is being loaded",
}


class HostedInferenceService:
    """One model behind a hosted API. Utterances may overlap. `http` is used when given, and stays open."""

    name: RouteName = "sesame_hosted"

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        http: httpx.AsyncClient | None = None,
        connect_timeout_s: float = 5.0,
        first_audio_timeout_s: float = 30.0,
        chunk_timeout_s: float = 4.0,
    ) -> None:
        """`url` is the model's own; `parameters` go into every request."""
        self.url, self._key = url, api_key
        headers = {"Accept": "audio/wav"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._parameters = dict(parameters or {})
        self._client = KeptClient(url, headers, http, connect_timeout_s=connect_timeout_s, error=self._error)
        self._first_audio_timeout_s, self._chunk_timeout_s = first_audio_timeout_s, chunk_timeout_s

    async def connect(self) -> None:
        """Open a connection; a wrong key is told where the API checks it for nothing. Raises SpeechError."""
        response: httpx.Response | None = None
        try:
            response = await self._client.send("OPTIONS", None, self._client.connect_timeout_s)
            refused = await self._refused(response)  # reads it to the end, so that the connection is kept
            if response.status_code in (401, 403):
                raise refused
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise self._client.failed(error) from error
        finally:
            if response is not None:
                await let_go(response)

    async def speak(self, text: str, *, before: str = "") -> AsyncGenerator[Sound]:
        """Speech for `text`, at the model's own rate; `before` cannot be told to it. Raises SpeechError."""
        if not text.strip():
            return
        response: httpx.Response | None = None
        try:
            body: dict[str, Any] = {"inputs": text}
            if self._parameters:
                body["parameters"] = self._parameters
            response = await self._client.send("POST", body, self._first_audio_timeout_s)
            sound = await self._sound(response)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise self._client.failed(error) from error
        finally:
            if response is not None:
                await let_go(response)
        if not sound.data:
            raise self._error("no_audio", f"no sound for {len(text)} characters")
        yield sound

    async def aclose(self) -> None:
        """Close the connections, unless they were given."""
        await self._client.aclose()

    async def _sound(self, response: httpx.Response) -> Sound:
        if response.status_code != 200:
            raise await self._refused(response)
        if "json" in response.headers.get("content-type", ""):
            raise self._told(await error_body(response), "generation_failed", "")
        data = bytearray()
        chunks = within(response.aiter_bytes(), self._first_audio_timeout_s, self._chunk_timeout_s)
        async with aclosing(chunks):
            async for chunk in chunks:
                data += chunk
                if len(data) > _MAX_BYTES:
                    raise self._error("protocol", f"its sound is larger than {_MAX_BYTES >> 20} MB")
        if not data:
            return Sound(b"", "pcm16", 24_000)
        try:
            if data[:4] == b"RIFF":
                return _wav(bytes(data))
            return await asyncio.to_thread(_decoded, bytes(data))
        except WavError as error:
            raise self._error("protocol", f"what came cannot be played: {error}") from error

    async def _refused(self, response: httpx.Response) -> SpeechError:
        status = response.status_code
        by_status = _BY_STATUS.get(status, "bad_request" if 400 <= status < 500 else "generation_failed")
        return self._told(await error_body(response), by_status, f" (HTTP {status})")

    def _told(self, reply: object, reason: SpeechFailure, where: str) -> SpeechError:
        words = reply if isinstance(reply, dict) else {}
        said = str(words.get("error") or "no reason given")[:300]
        wait_s = words.get("estimated_time")
        if isinstance(wait_s, int | float):
            reason, said = "not_ready", f"{said}; ready in about {wait_s:.0f} s"
        return self._error(reason, f"{_ADVICE.get(reason, 'it failed')}{where}: {said}")

    def _error(self, reason: SpeechFailure, what: str) -> SpeechError:
        what = without_key(what, self._key)
        return SpeechError(f"hosted model at {shown(self.url)}: {what}", route=self.name, reason=reason)


def _wav(data: bytes) -> Sound:
    wav = WavReader()
    pcm16 = wav.push(data)
    wav.finish()
    return Sound(pcm16, "pcm16", wav.rate_hz or 24_000)


def _decoded(data: bytes) -> Sound:
    """FLAC, MP3, Ogg … Raises WavError."""
    try:
        import soundfile
    except ImportError as error:
        raise WavError(f"it is no WAV, and for others: {install_command('local')}") from error
    try:
        # As floats: int16 would wrap around where a lossy format overshoots.
        samples, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise WavError("it is no sound file of a known kind") from error
    scaled = np.clip(np.rint(samples.mean(axis=1) * 32768), -32768, 32767)
    return Sound(scaled.astype("<i2").tobytes(), "pcm16", int(rate_hz))
