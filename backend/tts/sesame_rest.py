"""A speech server's `POST /generate`: text in, WAV out, streamed where the server can.

Ours streams; a foreign server may answer with base64 in JSON. Knows nothing of telephones or of routing.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import httpx

from backend.core.agent_secrets import without_key
from backend.core.speech import RouteName, Sound
from backend.core.wav import WavError, WavReader
from backend.errors import SpeechError, SpeechFailure
from backend.tts.http import KeptClient, error_body, let_go, shown, within
from backend.tts.sesame_refusals import failure_of

_MAX_JSON_BYTES = 64 << 20  # ten minutes of speech
_BY_STATUS: dict[int, SpeechFailure] = {
    401: "unauthorized", 403: "unauthorized", 404: "unreachable", 405: "not_found", 429: "busy",
    502: "unreachable", 503: "busy", 504: "unreachable",
}  # fmt: skip


class SesameRestService:
    """A speech server by REST, one request an utterance, over connections that are kept.

    Utterances may overlap. `http` is used when given, and stays open.
    """

    def __init__(
        self,
        url: str,
        *,
        name: RouteName = "sesame_rest",
        api_key: str | None = None,
        speaker_id: int = 0,
        settings: Mapping[str, Any] | None = None,
        http: httpx.AsyncClient | None = None,
        connect_timeout_s: float = 5.0,
        first_audio_timeout_s: float = 20.0,
        chunk_timeout_s: float = 4.0,
    ) -> None:
        """`url` is the server's `/generate`; `settings` go into every request (temperature, voice, …)."""
        self.name, self.url = name, url
        self._key_setting = "SESAME_FALLBACK_API_KEY" if name == "sesame_fallback" else "SESAME_API_KEY"
        self._key = api_key
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._settings = {"speaker_id": speaker_id, **(settings or {})}
        self._knows_wav = True
        self._client = KeptClient(url, headers, http, connect_timeout_s=connect_timeout_s, error=self._error)
        self._first_audio_timeout_s, self._chunk_timeout_s = first_audio_timeout_s, chunk_timeout_s

    async def connect(self) -> None:
        """Open a connection; see whether address and key are right. Makes no speech. Raises SpeechError."""
        try:
            response = await self._client.send("OPTIONS", None, self._client.connect_timeout_s)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise self._client.failed(error) from error
        try:
            # 405 is what a server says that knows the address, and wants a POST.
            refused = await self._refused(response)  # reads it to the end, so that the connection is kept
            if response.status_code in (401, 403, 404, 429) or response.status_code >= 502:
                raise refused
        finally:
            await let_go(response)

    async def speak(self, text: str, *, before: str = "") -> AsyncGenerator[Sound]:
        """Speech for `text`, at the server's own rate; `before` cannot be told to it.

        Closing the generator early hangs up, which cancels at the server. Raises SpeechError.
        """
        if not text.strip():
            return
        heard = False
        response: httpx.Response | None = None
        try:
            response = await self._ask(text)
            async with aclosing(self._sounds(response)) as sounds:
                async for sound in sounds:
                    heard = True
                    yield sound
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise self._client.failed(error) from error
        except WavError as error:
            raise self._error("protocol", f"what came is no WAV: {error}") from error
        finally:
            if response is not None:
                await let_go(response)
        if not heard:
            raise self._error("no_audio", f"no sound for {len(text)} characters")

    async def aclose(self) -> None:
        """Close the connections, unless they were given."""
        await self._client.aclose()

    async def _ask(self, text: str) -> httpx.Response:
        """A response of status 200. A server that does not know WAV is asked again without it, once."""
        body = {**self._settings, "text": text}
        if self._knows_wav:
            response = await self._client.send("POST", {**body, "format": "wav"}, self._first_audio_timeout_s)
            if response.status_code == 200:
                return response
            refused = await self._refused_and_closed(response)
            if response.status_code not in (400, 422) or "format" not in str(refused):
                raise refused
            self._knows_wav = False
        response = await self._client.send("POST", body, self._first_audio_timeout_s)
        if response.status_code != 200:
            raise await self._refused_and_closed(response)
        return response

    async def _sounds(self, response: httpx.Response) -> AsyncGenerator[Sound]:
        chunks = within(response.aiter_bytes(), self._first_audio_timeout_s, self._chunk_timeout_s)
        if "json" in response.headers.get("content-type", ""):
            chunks = _one(await self._from_json(chunks))
        wav = WavReader()
        async with aclosing(chunks):
            async for chunk in chunks:
                pcm16 = wav.push(chunk)
                if pcm16 and wav.rate_hz:
                    yield Sound(pcm16, "pcm16", wav.rate_hz)
        wav.finish()

    async def _from_json(self, chunks: AsyncGenerator[bytes]) -> bytes:
        body = bytearray()
        async with aclosing(chunks):
            async for chunk in chunks:
                body += chunk
                if len(body) > _MAX_JSON_BYTES:
                    raise self._error("protocol", f"its JSON is larger than {_MAX_JSON_BYTES >> 20} MB")
        try:
            reply = json.loads(body)
        except ValueError as error:
            raise self._error("protocol", "its JSON is broken") from error
        if not isinstance(reply, dict) or reply.get("success") is False or "audio_data" not in reply:
            raise self._told(reply, "generation_failed", "")
        try:
            # Some put a data URL there.
            return base64.b64decode(str(reply["audio_data"] or "").rpartition(",")[2], validate=True)
        except binascii.Error as error:
            raise self._error("protocol", "its audio is not base64") from error

    async def _refused_and_closed(self, response: httpx.Response) -> SpeechError:
        try:
            return await self._refused(response)
        finally:
            await let_go(response)

    async def _refused(self, response: httpx.Response) -> SpeechError:
        status = response.status_code
        by_status = _BY_STATUS.get(status, "bad_request" if 400 <= status < 500 else "generation_failed")
        return self._told(await error_body(response), by_status, f"HTTP {status}")

    def _told(self, reply: object, otherwise: SpeechFailure, where: str) -> SpeechError:
        """What a refusal says, in the server's own words where it has any."""
        words = reply if isinstance(reply, dict) else {}
        code = str(words.get("error", ""))
        said = str(words.get("message") or words.get("detail") or code or "no reason given")[:300]
        reason = failure_of(code, said, otherwise)
        if reason == "unauthorized":
            return self._error(reason, f"the key was refused ({where}): check {self._key_setting}")
        if reason in ("unreachable", "not_found"):
            return self._error(reason, f"no speech server answers there ({where})")
        return self._error(reason, f"{where + ': ' if where else ''}{said}")

    def _error(self, reason: SpeechFailure, what: str) -> SpeechError:
        what = without_key(what, self._key)
        return SpeechError(f"speech server at {shown(self.url)}: {what}", route=self.name, reason=reason)


async def _one(data: bytes) -> AsyncGenerator[bytes]:
    yield data
