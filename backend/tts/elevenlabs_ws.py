"""ElevenLabs over its multi-context WebSocket: text in, μ-law for the line and its timing out.

One connection a call, one context an utterance, so that a stopped one costs no reconnect. Knows nothing of
telephones or routing; what refusals and alignments mean stands in core/elevenlabs.py.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import itertools
import json
import logging
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import websockets
from websockets.asyncio.client import ClientConnection

from backend.core.agent_secrets import without_key
from backend.core.elevenlabs import Aligner, decoded, refusal
from backend.core.speech import CharMark, RouteName, Sound
from backend.core.urls import websocket_url
from backend.errors import SpeechError, SpeechFailure
from backend.sockets import dial, hang_up, unreachable

log = logging.getLogger(__name__)

RATE_HZ = 8_000
_MAX_CONTEXTS = 5  # the vendor's limit for a connection
_MAX_MESSAGE_BYTES = 4 << 20
_QUEUED_MESSAGES = 64  # of one context, not yet taken: beyond it the connection is read no further
_LET_GO_S = 1.0
_INACTIVITY_TIMEOUT_S = 180  # the most the vendor takes


@dataclass(slots=True, eq=False)
class _Context:
    """One utterance at the vendor. Messages nobody wants any more are dropped as they come."""

    wanted: bool = True
    messages: deque[dict[str, Any]] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    room: asyncio.Event = field(default_factory=asyncio.Event)

    async def put(self, message: dict[str, Any]) -> None:
        while self.wanted and len(self.messages) >= _QUEUED_MESSAGES:
            self.room.clear()
            await self.room.wait()
        if self.wanted:
            self.messages.append(message)
            self.news.set()

    def give_up(self) -> None:
        self.wanted = False
        self.messages.clear()
        self.room.set()


@dataclass(slots=True, eq=False)
class _Link:
    """One connection, the contexts open on it, and why it ended."""

    connection: ClientConnection
    contexts: dict[str, _Context] = field(default_factory=dict)
    freed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: SpeechError | None = None
    reader: asyncio.Task[None] | None = None

    def end(self, error: SpeechError) -> None:
        """Nothing more comes; what came before is still taken."""
        self.ended = self.ended or error
        self.freed.set()
        for context in self.contexts.values():
            context.news.set()


class ElevenLabsWebSocketService:
    """One call's connection to ElevenLabs.

    `speak` connects when need be; `connect` beforehand (while the telephone rings) saves that time.
    Utterances may overlap, up to five; a sixth waits for one to end.
    """

    name: RouteName = "elevenlabs"

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str,
        voice_id: str,
        model_id: str = "eleven_flash_v2_5",
        voice_settings: Mapping[str, Any] | None = None,
        language: str | None = None,
        connect_timeout_s: float = 5.0,
        first_audio_timeout_s: float = 6.0,
        chunk_timeout_s: float = 4.0,
        keep_alive_s: float = 15.0,
    ) -> None:
        """`voice_settings`: stability, speed, …; `language` as in "en-US", for the models that take it."""
        query = {
            "model_id": model_id,
            "output_format": "ulaw_8000",
            "auto_mode": "true",  # whole clauses come: no waiting for more text
            "sync_alignment": "true",
            "inactivity_timeout": str(_INACTIVITY_TIMEOUT_S),
        }
        if language and "v2_5" in model_id:  # the others refuse it
            query["language_code"] = language.partition("-")[0]
        path = f"/v1/text-to-speech/{quote(voice_id, safe='')}/multi-stream-input"
        self.url = websocket_url(base_url, f"{path}?{urlencode(query)}")
        self._key = api_key
        self._headers = {"xi-api-key": api_key}
        self._voice_settings = dict(voice_settings or {})
        self._connect_timeout_s, self._keep_alive_s = connect_timeout_s, keep_alive_s
        self._first_audio_timeout_s, self._chunk_timeout_s = first_audio_timeout_s, chunk_timeout_s
        self._link: _Link | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        self._numbers = itertools.count(1)

    async def connect(self) -> None:
        """Open the connection unless it is open, and see that it answers. Raises SpeechError."""
        link = await self._open()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await (await link.connection.ping())
        except TimeoutError as error:
            await self._drop(link)
            raise self._error("timeout", f"no answer within {self._connect_timeout_s:g} s") from error
        except (websockets.ConnectionClosed, OSError) as error:
            await _ended(link)
            raise self._why(link) from error
        if link.ended is not None:
            raise self._why(link)

    async def speak(self, text: str, *, before: str = "") -> AsyncGenerator[Sound]:
        """μ-law for `text`, with a mark for every character it tells; `before` cannot be told to this API.

        Closing the generator early leaves a closed context behind, whose sound is dropped as it comes. A
        stale connection is replaced once, before anything was heard. Raises SpeechError.
        """
        if not text.strip():
            return
        kept = self._link is not None
        for attempt in (1, 2):
            heard = False
            utterance = _Utterance(self, text)
            try:
                async with aclosing(utterance.sounds()) as sounds:
                    async for sound in sounds:
                        heard = True
                        yield sound
                return
            except SpeechError as error:
                if heard or attempt == 2 or not kept or error.reason != "closed" or self._closed:
                    raise
            finally:
                await utterance.leave()

    async def aclose(self) -> None:
        """Close the connection for good, within a second."""
        self._closed = True
        if self._link is not None:
            await self._drop(self._link)

    # --- connection ------------------------------------------------------------------------------------

    async def _open(self) -> _Link:
        async with self._opening:
            self._must_be_open()
            if self._link is not None and self._link.ended is None:
                return self._link
            self._link = None
            link = _Link(await self._connected())
            try:
                self._must_be_open()  # it may have been closed meanwhile
            except SpeechError:
                await hang_up(link.connection, _LET_GO_S)
                raise
            link.reader = asyncio.create_task(self._serve(link), name="elevenlabs")
            self._link = link
            return link

    def _must_be_open(self) -> None:
        if self._closed:
            raise self._error("closed", "this voice was closed when its call ended")

    async def _connected(self) -> ClientConnection:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                return await dial(
                    self.url,
                    headers=self._headers,
                    max_message_bytes=_MAX_MESSAGE_BYTES,
                    let_go_s=_LET_GO_S,
                )
        except TimeoutError as error:
            raise self._error("timeout", f"no connection within {self._connect_timeout_s:g} s") from error
        except websockets.InvalidStatus as error:
            body = decoded(error.response.body or b"")
            raise self._error(*refusal(error.response.status_code, body)) from error
        except (OSError, websockets.WebSocketException) as error:
            raise self._error(*unreachable(error)) from error

    async def _serve(self, link: _Link) -> None:
        """Hand every message to its context until the connection ends; keep it alive meanwhile."""
        keep_alive = asyncio.create_task(self._keep_alive(link), name="elevenlabs keep-alive")
        try:
            while True:
                await self._handle(link, await link.connection.recv())
        except (websockets.ConnectionClosed, OSError) as error:
            link.end(self._lost(error))
        except SpeechError as error:
            link.end(error)
        finally:
            link.end(self._error("closed", "the connection was closed while speaking"))
            keep_alive.cancel()
            await hang_up(link.connection, _LET_GO_S)

    async def _handle(self, link: _Link, raw: str | bytes) -> None:
        message = decoded(raw)
        if not isinstance(message, dict):
            raise self._error("protocol", "what came is not a JSON object")
        if message.get("error"):
            raise self._error(*refusal(None, message))
        name = message.get("contextId") or message.get("context_id")
        context = link.contexts.get(str(name)) if name else None
        if context is None:
            return
        if message.get("isFinal"):
            del link.contexts[str(name)]
            link.freed.set()
        await context.put(message)

    async def _keep_alive(self, link: _Link) -> None:
        """An empty text makes no sound, but counts as activity. Fails when the connection does."""
        while True:
            await asyncio.sleep(self._keep_alive_s)
            try:
                await self._put(link, {"text": ""})
            except SpeechError:
                return

    async def _put(self, link: _Link, message: Mapping[str, Any]) -> None:
        """Raises SpeechError; the connection is then given up."""
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await link.connection.send(json.dumps(message))
        except TimeoutError as error:
            link.end(self._error("timeout", "the connection takes no more text"))
            await self._drop(link)
            raise self._why(link) from error
        except (websockets.ConnectionClosed, OSError) as error:
            await _ended(link)  # the reader knows why
            raise self._why(link) from error

    async def _drop(self, link: _Link) -> None:
        if self._link is link:
            self._link = None
        if link.reader is not None and link.reader is not asyncio.current_task():
            link.reader.cancel()
            await asyncio.wait([link.reader], timeout=_LET_GO_S)

    def _lost(self, error: Exception) -> SpeechError:
        if isinstance(error, websockets.ConnectionClosed) and error.rcvd is not None:
            reason, what = refusal(None, {"error": error.rcvd.reason, "message": error.rcvd.reason})
            if error.rcvd.code == 1008 or reason != "generation_failed":
                return self._error(reason, what)
        return self._error("closed", f"the connection was lost: {error}")

    def _why(self, link: _Link) -> SpeechError:
        """Why the connection ended, as an exception of its own for each who asks."""
        ended = link.ended
        if ended is None:
            return self._error("closed", "the connection was closed while speaking")
        return SpeechError(str(ended), route=self.name, reason=ended.reason)

    def _error(self, reason: SpeechFailure, what: str) -> SpeechError:
        host = urlsplit(self.url).netloc.rpartition("@")[2]
        what = without_key(what, self._key)
        return SpeechError(f"ElevenLabs at {host}: {what}", route=self.name, reason=reason)


class _Utterance:
    """One request: its context, its timing, and its leaving."""

    def __init__(self, service: ElevenLabsWebSocketService, text: str) -> None:
        self._service, self._text = service, text
        self._link: _Link | None = None
        self._context = _Context()
        self._name = f"u{next(service._numbers)}"
        self._aligner = Aligner(text)
        self._heard_ms = 0.0
        self._said = False  # all of it, the closing included

    async def sounds(self) -> AsyncGenerator[Sound]:
        service, clock = self._service, asyncio.get_running_loop().time
        link = self._link = await service._open()
        await self._ask(link)
        timeout_s = service._first_audio_timeout_s
        deadline_s = clock() + timeout_s
        marks: tuple[CharMark, ...] = ()
        final = False
        while not final:
            # Talk without sound does not prolong the wait.
            message = await self._next(link, deadline_s, timeout_s)
            alignment = message.get("alignment") or message.get("normalizedAlignment")
            marks += self._aligner.marks(alignment, self._heard_ms)
            if audio := self._audio(message):
                sound = Sound(audio, "ulaw", RATE_HZ, marks)
                self._heard_ms += sound.duration_ms
                yield sound
                marks, timeout_s = (), service._chunk_timeout_s
                deadline_s = clock() + timeout_s
            final = bool(message.get("isFinal"))
        if not self._heard_ms:
            what = f"no sound for {len(self._text)} characters: is the credit used up?"
            raise service._error("no_audio", what)

    async def leave(self) -> None:
        """Want no more of it. The context was closed when all was said, unless we were stopped before."""
        self._context.give_up()
        link = self._link
        if self._said or link is None or link.ended is not None or self._name not in link.contexts:
            return
        try:
            async with asyncio.timeout(_LET_GO_S):
                await link.connection.send(json.dumps({"context_id": self._name, "close_context": True}))
        except (TimeoutError, websockets.ConnectionClosed, OSError) as error:
            log.debug("context not closed, connection dropped: %s", error)
            await self._service._drop(link)

    async def _ask(self, link: _Link) -> None:
        service = self._service
        await self._wait_for_a_place(link)
        link.contexts[self._name] = self._context
        beginning: dict[str, Any] = {"text": " ", "context_id": self._name}
        if service._voice_settings:
            beginning["voice_settings"] = service._voice_settings
        await service._put(link, beginning)
        await service._put(link, {"text": f"{self._text} ", "context_id": self._name, "flush": True})
        # What was flushed is still spoken; then comes isFinal, by which alone the end can be known.
        await service._put(link, {"context_id": self._name, "close_context": True})
        self._said = True

    async def _wait_for_a_place(self, link: _Link) -> None:
        service = self._service
        try:
            async with asyncio.timeout(service._connect_timeout_s):
                while len(link.contexts) >= _MAX_CONTEXTS and link.ended is None:
                    link.freed.clear()
                    await link.freed.wait()
        except TimeoutError as error:
            if not any(context.wanted for context in link.contexts.values()):
                # The vendor has not ended what we left long ago: a fresh connection has room.
                link.end(service._error("closed", "the connection was full of what was left"))
                await service._drop(link)
                raise service._why(link) from error
            what = f"{_MAX_CONTEXTS} utterances are being made on this call"
            raise service._error("busy", what) from error
        if link.ended is not None:
            raise service._why(link)

    async def _next(self, link: _Link, deadline_s: float, timeout_s: float) -> dict[str, Any]:
        """The next message about this utterance."""
        context, service = self._context, self._service
        try:
            async with asyncio.timeout_at(deadline_s):
                while not context.messages:
                    if link.ended is not None:
                        raise service._why(link)
                    context.news.clear()
                    await context.news.wait()
        except TimeoutError as error:
            link.end(service._error("timeout", f"no audio for {timeout_s:g} s"))
            await service._drop(link)
            raise service._why(link) from error
        message = context.messages.popleft()
        context.room.set()
        return message

    def _audio(self, message: Mapping[str, Any]) -> bytes:
        audio = message.get("audio") or ""
        try:
            return base64.b64decode(audio, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise self._service._error("protocol", "its audio is not base64") from error


async def _ended(link: _Link) -> None:
    """Wait, not long, until the reader has found out why the connection ended."""
    if link.reader is not None and link.reader is not asyncio.current_task():
        await asyncio.wait([link.reader], timeout=_LET_GO_S)
