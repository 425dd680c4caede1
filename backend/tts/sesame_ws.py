"""The Sesame speech server over its WebSocket: text in, 24 kHz PCM out, one connection kept for a call.

The wire is docs/reference/speech-server.md. Knows nothing of telephones, of routing or of what to do when
it fails: it raises SpeechError and leaves the connection either usable or closed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import websockets
from websockets.asyncio.client import ClientConnection

from backend.core.agent_secrets import without_key
from backend.core.speech import RouteName, Sound
from backend.errors import SpeechError, SpeechFailure
from backend.sockets import dial, hang_up, unreachable
from backend.tts.sesame_refusals import failure_of

log = logging.getLogger(__name__)

RATE_HZ = 24_000
_MAX_MESSAGE_BYTES = 1 << 20
_QUEUED_MESSAGES = (
    64  # unread chunks held here before the server is made to wait: 13 s of speech at the default size
)


class SesameWebSocketService:
    """One call's connection to a Sesame speech server.

    `speak` connects when need be; `connect` beforehand (while the telephone rings) saves that time.
    One utterance at a time: a second `speak` waits for the first to end or be closed.
    """

    name: RouteName = "sesame_ws"

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        speaker_id: int = 0,
        context_id: str | None = None,
        settings: Mapping[str, Any] | None = None,
        connect_timeout_s: float = 5.0,
        first_audio_timeout_s: float = 6.0,
        chunk_timeout_s: float = 4.0,
    ) -> None:
        """`url` is the server's `/ws/generate`; `settings` go into every request (temperature, voice, …).

        `context_id` names the conversation: its prosody then follows what was said before, until the
        connection closes. `speaker_id` is for `speak`.
        """
        self.url = url
        self.speaker_id, self.context_id = speaker_id, context_id
        self._key = api_key
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._settings = dict(settings or {})
        self._connect_timeout_s = connect_timeout_s
        self._first_audio_timeout_s, self._chunk_timeout_s = first_audio_timeout_s, chunk_timeout_s
        self._connection: ClientConnection | None = None
        self.server_first_audio_ms: float | None = None
        """How long the server says it took to the first sound of the last finished request."""
        self._closed = False
        self._turn = asyncio.Lock()
        self._numbers = itertools.count(1)

    async def connect(self) -> None:
        """Open the connection unless it is open. Raises SpeechError (unreachable, unauthorized, busy)."""
        async with self._turn:
            await self._open()

    async def speak(self, text: str, *, before: str = "") -> AsyncGenerator[Sound]:
        """`stream_tts` as Sound. `before` is not needed: the server remembers it by the `context_id`."""
        async with aclosing(self.stream_tts(text, self.speaker_id)) as chunks:
            async for chunk in chunks:
                yield Sound(chunk, "pcm16", RATE_HZ)

    async def stream_tts(self, text: str, speaker_id: int = 0) -> AsyncGenerator[bytes]:
        """Speech for `text`: int16 little-endian mono PCM at 24 kHz, in chunks as the server makes them.

        Closing the generator early cancels the request at the server. A stale connection is replaced once,
        before anything was heard. Raises SpeechError; `no_audio` when non-empty text gave no sound.
        """
        if not text.strip():
            return
        async with self._turn:
            request_id = f"u{next(self._numbers)}"
            first = await self._request(text, speaker_id, request_id)
            finished = False
            try:
                yield first
                while (message := await self._next(request_id, self._chunk_timeout_s)) is not None:
                    yield message
                finished = True
            except SpeechError:
                finished = True  # the server said so itself, or the connection is gone: nothing to cancel
                raise
            finally:
                if not finished:
                    await self._abandon(request_id)

    async def aclose(self) -> None:
        """Close the connection for good, within a second."""
        self._closed = True
        await self._drop()

    # --- one request -----------------------------------------------------------------------------------

    async def _request(self, text: str, speaker_id: int, request_id: str) -> bytes:
        """Ask, and wait for the first sound. A kept connection that has died is replaced once."""
        kept = self._connection is not None
        try:
            return await self._ask(text, speaker_id, request_id)
        except SpeechError as error:
            if not (kept and error.reason == "closed"):
                raise
        return await self._ask(text, speaker_id, request_id)

    async def _ask(self, text: str, speaker_id: int, request_id: str) -> bytes:
        connection = await self._open()
        request = {**self._settings, "text": text, "speaker_id": speaker_id, "request_id": request_id}
        if self.context_id is not None:
            request["context_id"] = self.context_id
        try:
            await self._put(connection, request)
            first = await self._next(request_id, self._first_audio_timeout_s)
        except asyncio.CancelledError:
            await self._abandon(request_id)
            raise
        if first is None:
            raise self._error("no_audio", f"the speech server gave no sound for {len(text)} characters")
        return first

    async def _put(self, connection: ClientConnection, request: Mapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await connection.send(json.dumps(request))
        except (TimeoutError, websockets.ConnectionClosed, OSError) as error:
            raise await self._lost(error) from error

    async def _next(self, request_id: str, timeout_s: float) -> bytes | None:
        """The next chunk, or None when the request is done. Talk without sound does not prolong the wait."""
        connection = self._connection
        if connection is None:
            raise self._error("closed", "the connection was closed while speaking")
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    message = await connection.recv()
                    if isinstance(message, bytes):
                        if len(message) % 2:
                            await self._drop()
                            raise self._error("protocol", "the speech server sent half a sample")
                        if message:
                            return message
                    elif await self._is_done(message, request_id):
                        return None
        except TimeoutError as error:
            await self._drop()
            raise self._error("timeout", f"no audio for {timeout_s:g} s") from error
        except (websockets.ConnectionClosed, OSError) as error:
            raise await self._lost(error) from error

    async def _is_done(self, message: str, request_id: str) -> bool:
        """Whether a text message ends our request. Raises SpeechError when it reports a failure."""
        try:
            reply = json.loads(message)
        except json.JSONDecodeError as error:
            await self._drop()
            raise self._error("protocol", "the speech server sent text that is not JSON") from error
        if not isinstance(reply, dict):
            return False
        about = reply.get("request_id")
        if about is not None and about != request_id:
            return False
        if "error" in reply:
            code, told = str(reply["error"]), str(reply.get("message", "no reason given"))
            raise self._error(failure_of(code, told, "generation_failed"), f"{code}: {told}")
        if reply.get("done"):
            told_ms = reply.get("first_audio_ms")
            self.server_first_audio_ms = float(told_ms) if isinstance(told_ms, int | float) else None
        return bool(reply.get("done"))

    async def _abandon(self, request_id: str) -> None:
        """Cancel a running request and read the line clean, so that the connection can be used again."""
        connection = self._connection
        if connection is None:
            return
        clean = False
        try:
            async with asyncio.timeout(1.0):
                await connection.send(json.dumps({"cancel": request_id}))
                while True:
                    message = await connection.recv()
                    if isinstance(message, str) and await self._is_done(message, request_id):
                        clean = True
                        return
        except (TimeoutError, SpeechError, websockets.ConnectionClosed, OSError) as error:
            log.debug("cancelled request not answered for, connection dropped: %s", error)
        finally:
            if not clean:
                # Sound of the old request would be taken for the next one's: a fresh connection is cheaper
                # than a doubtful one.
                await self._drop()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await hang_up(connection)

    # --- connection ------------------------------------------------------------------------------------

    async def _open(self) -> ClientConnection:
        if self._closed:
            raise self._error("closed", "this voice was closed when its call ended")
        if self._connection is not None:
            return self._connection
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                self._connection = await dial(
                    self.url,
                    headers=self._headers,
                    max_message_bytes=_MAX_MESSAGE_BYTES,
                    max_queue=_QUEUED_MESSAGES,
                )
        except TimeoutError as error:
            raise self._error("timeout", f"no connection within {self._connect_timeout_s:g} s") from error
        except websockets.InvalidStatus as error:
            raise self._refused(error) from error
        except (OSError, websockets.WebSocketException) as error:
            raise self._error(*unreachable(error)) from error
        return self._connection

    def _refused(self, error: websockets.InvalidStatus) -> SpeechError:
        status = error.response.status_code
        if status in (401, 403):
            return self._error("unauthorized", f"refused with HTTP {status}: check SESAME_API_KEY")
        if status in (429, 503):
            return self._error("busy", f"the server is full or starting (HTTP {status})")
        if status == 500:
            return self._error("generation_failed", "the server failed (HTTP 500): see its log")
        return self._error("unreachable", f"not a speech server, or the wrong address (HTTP {status})")

    async def _lost(self, error: Exception) -> SpeechError:
        await self._drop()
        if isinstance(error, websockets.ConnectionClosed) and error.rcvd is not None:
            if error.rcvd.code == 1008:
                return self._error("unauthorized", "the speech server refused the key: check SESAME_API_KEY")
            if error.rcvd.code == 1013:
                return self._error("busy", "the speech server is overloaded")
        return self._error("closed", f"the connection was lost: {error}")

    def _error(self, reason: SpeechFailure, what: str) -> SpeechError:
        what = without_key(what, self._key)
        return SpeechError(
            f"Sesame speech server at {_shown(self.url)}: {what}", route=self.name, reason=reason
        )


def _shown(url: str) -> str:
    """The address without what may be a secret in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
