"""ElevenLabs over HTTP, through its official SDK: text in, μ-law for the line out, as it is made.

Knows nothing of telephones or routing; what its refusals mean stands in core/elevenlabs.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, cast

import httpx

from backend.core.agent_secrets import without_key
from backend.core.elevenlabs import refusal
from backend.core.speech import RouteName, Sound
from backend.errors import SpeechError, SpeechFailure
from backend.tts.http import failure, make_client, shown, within

RATE_HZ = 8_000
_ERROR_BODY_BYTES = 1 << 16


class ElevenLabsRestService:
    """ElevenLabs, one request an utterance. Utterances may overlap. `http` is used when given, stays open.

    Making the first one in a process imports the SDK: half a second.
    """

    name: RouteName = "elevenlabs_rest"

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str,
        voice_id: str,
        model_id: str = "eleven_flash_v2_5",
        voice_settings: Mapping[str, Any] | None = None,
        language: str | None = None,
        http: httpx.AsyncClient | None = None,
        connect_timeout_s: float = 5.0,
        first_audio_timeout_s: float = 8.0,
        chunk_timeout_s: float = 4.0,
    ) -> None:
        """`voice_settings`: stability, speed, …; `language` as in "en-US", for the models that take it."""
        from elevenlabs import VoiceSettings
        from elevenlabs.client import AsyncElevenLabs

        self.base_url = base_url
        self._http, self._given = http or make_client(), http is not None
        # Explicit: the SDK reads ELEVENLABS_API_KEY when it is imported.
        self._key = api_key
        self._client = AsyncElevenLabs(base_url=base_url, api_key=api_key, httpx_client=self._http)
        self._speech = self._client.text_to_speech.with_raw_response  # imported at first use: now
        self._voice_id = voice_id
        self._arguments: dict[str, Any] = {"model_id": model_id, "output_format": "ulaw_8000"}
        if voice_settings:
            self._arguments["voice_settings"] = VoiceSettings(**voice_settings)
        if language and "v2_5" in model_id:  # the others refuse it
            self._arguments["language_code"] = language.partition("-")[0]
        self._closed = False
        self._connect_timeout_s = connect_timeout_s
        self._first_audio_timeout_s, self._chunk_timeout_s = first_audio_timeout_s, chunk_timeout_s

    async def connect(self) -> None:
        """Open a connection; check the key and its credit, which costs nothing. Raises SpeechError."""
        self._must_be_open()
        from elevenlabs.core.api_error import ApiError

        try:
            async with asyncio.timeout(self._connect_timeout_s):
                subscription = await self._client.user.subscription.get(request_options={"max_retries": 0})
        except ApiError as error:
            told = self._refused(error)
            if "permission" in str(error.body):
                return  # the key may speak, but not look at the account
            raise told from error
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise self._error(*failure(error)) from error
        used, limit = subscription.character_count, subscription.character_limit
        if used >= limit and not subscription.max_credit_limit_extension:
            raise self._error("quota", f"out of credit: {used} of {limit} are used")

    async def speak(self, text: str, *, before: str = "") -> AsyncGenerator[Sound]:
        """μ-law for `text`, said as what follows `before`. Closing it early hangs up. Raises SpeechError."""
        if not text.strip():
            return
        self._must_be_open()
        heard = False
        chunks = within(self._chunks(text, before), self._first_audio_timeout_s, self._chunk_timeout_s)
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    heard = True
                    yield Sound(chunk, "ulaw", RATE_HZ)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise self._error(*failure(error)) from error
        if not heard:
            raise self._error("no_audio", f"no sound for {len(text)} characters: is the credit used up?")

    async def aclose(self) -> None:
        """Close the connections, unless they were given."""
        self._closed = True
        if not self._given:
            await self._http.aclose()

    async def _chunks(self, text: str, before: str) -> AsyncGenerator[bytes]:
        from elevenlabs.core.api_error import ApiError

        arguments = dict(self._arguments)
        if before.strip():
            arguments["previous_text"] = before
        try:
            async with self._speech.stream(
                self._voice_id,
                text=text,
                # The SDK would hold sound back until it has 1024 bytes.
                request_options=cast(Any, {"chunk_size": None, "max_retries": 0}),
                **arguments,
            ) as response:
                kind = response.headers.get("content-type", "")
                if "json" in kind:
                    raise self._error(*refusal(None, await _decoded(response.data)))
                if kind.startswith("text/"):
                    raise self._error("protocol", f"it answered with {kind} in place of sound")
                async for chunk in response.data:
                    yield chunk
        except ApiError as error:
            raise self._refused(error) from error

    def _must_be_open(self) -> None:
        if self._closed:
            raise self._error("closed", "this voice was closed when its call ended")

    def _refused(self, error: Any) -> SpeechError:
        return self._error(*refusal(error.status_code, error.body))

    def _error(self, reason: SpeechFailure, what: str) -> SpeechError:
        what = without_key(what, self._key)
        return SpeechError(f"ElevenLabs at {shown(self.base_url)}: {what}", route=self.name, reason=reason)


async def _decoded(chunks: AsyncIterator[bytes]) -> object:
    """JSON that came in place of sound."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > _ERROR_BODY_BYTES:
            break
    try:
        decoded: object = json.loads(body)
    except ValueError:
        return None
    return decoded
