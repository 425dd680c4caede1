"""One WebSocket connection: requests answered one after another, cancel at any moment, bounds on everything.

The words on the wire are a dialect's (`ws_generate`, `ws_tts`); what happens is the same for both.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

from starlette.websockets import WebSocket, WebSocketDisconnect

from runpod_server.api.patience import Patience
from runpod_server.api.utterance import Service, Utterance
from runpod_server.errors import BadRequest, Busy, SpeechError
from runpod_server.wire import Cancel, Generate, Heard, Limits, Summary

log = logging.getLogger(__name__)

MAX_QUEUED_REQUESTS = 8  # behind the running one; the next is answered `busy`
_CLOSE_DEADLINE_S = 2.0
_MAX_CONTEXTS = 16  # conversations of one connection; one more, and the oldest is forgotten


class Dialect(Protocol):
    """How one endpoint words what it hears and says. Pure."""

    endpoint: str

    def parse(self, message: str | bytes, limits: Limits, fallback_id: str) -> Generate | Heard | Cancel:
        """Raises BadRequest."""

    def queued(self, request_id: str) -> str | None:
        """Said when a request is taken up."""

    def generating(self, request_id: str) -> str | None:
        """Said when its work begins."""

    def frame(self, pcm16: bytes, seq: int, request_id: str) -> str | bytes:
        """Sound."""

    def done(self, summary: Summary) -> str:
        """Said after the last sound."""

    def noted(self, heard: Heard, *, kept: bool) -> str:
        """Said when what was heard is kept, or the engine keeps no conversations."""

    def error(self, failure: SpeechError, request_id: str | None) -> str:
        """Said instead, when the request failed."""


@dataclass(slots=True, eq=False)
class _Waiting:
    item: Generate | Heard | BadRequest
    cancelled: bool = False

    @property
    def request_id(self) -> str | None:
        return self.item.request.request_id if isinstance(self.item, Generate) else self.item.request_id


class Session:
    """Runs one accepted connection until the client goes or `stop` is called."""

    def __init__(self, socket: WebSocket, dialect: Dialect, service: Service) -> None:
        self._socket, self._dialect, self._service = socket, dialect, service
        self._patience = Patience(service.send_deadline_s)
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(MAX_QUEUED_REQUESTS)
        self._queued: list[_Waiting] = []
        self._running: _Waiting | None = None
        self._utterance: Utterance | None = None
        self._contexts: dict[str, None] = {}  # the latest last
        self._over = asyncio.Event()
        self._close_with: tuple[int, str] | None = None

    async def run(self) -> None:
        """Serve until it is over; all work of this connection has then been freed."""
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(self._read())
            runner = tasks.create_task(self._answer_all())
            await self._over.wait()
            reader.cancel()
            runner.cancel()
        for context_id in self._contexts:
            self._service.engine.forget(context_id)
        if self._close_with is not None:
            await self._close(*self._close_with)

    def stop(self, code: int, reason: str) -> None:
        """End the connection with a close code; running work is freed."""
        self._close_with = (code, reason)
        self._over.set()

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                self._over.set()
                return
            text = message.get("text")
            await self._take(text if text is not None else message.get("bytes") or b"")

    async def _take(self, message: str | bytes) -> None:
        item: Generate | Heard | Cancel | BadRequest
        try:
            item = self._dialect.parse(message, self._service.limits, fallback_id=uuid4().hex[:12])
        except BadRequest as error:
            item = error
        if isinstance(item, Cancel):
            self._cancel(item.request_id)
            return
        waiting = _Waiting(item)
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull:
            busy = Busy(
                f"{MAX_QUEUED_REQUESTS} requests wait on this connection already: "
                "wait for `done`, cancel, or use another connection"
            )
            await self._send(self._dialect.error(busy, waiting.request_id))
            return
        self._queued.append(waiting)

    def _cancel(self, request_id: str | None) -> None:
        """A request that is not there (any more) needs no answer: its `done` is on the way.

        Without an id: the running one, or the first, when it came so shortly before that none runs yet.
        """
        there = [each for each in (self._running, *self._queued) if each is not None]
        speech = [each for each in there if isinstance(each.item, Generate)]
        if request_id is not None:
            speech = [each for each in speech if each.request_id == request_id]
        for each in speech if request_id is not None else speech[:1]:
            each.cancelled = True
            if each is self._running and self._utterance is not None:
                self._utterance.cancel()

    async def _answer_all(self) -> None:
        while True:
            waiting = await self._queue.get()
            self._queued.remove(waiting)
            self._running = waiting
            await self._answer(waiting)
            self._running = None

    async def _answer(self, waiting: _Waiting) -> None:
        try:
            if isinstance(waiting.item, BadRequest):
                raise waiting.item
            if isinstance(waiting.item, Heard):
                await self._hear(waiting.item)
                return
            if waiting.cancelled:
                never_begun = Summary(waiting.item.request.request_id, "cancelled", 0, None, 0)
                await self._send(self._dialect.done(never_begun))
                return
            self._note_context(waiting.item.request.context_id)
            with self._service.speak(waiting.item, endpoint=self._dialect.endpoint) as utterance:
                self._utterance = utterance
                await self._deliver(utterance, waiting.item.request.request_id)
        except SpeechError as error:
            await self._send(self._dialect.error(error, waiting.request_id))
        finally:
            # How long this one kept its slot waiting is not held against what is said next.
            self._utterance, self._patience = None, Patience(self._service.send_deadline_s)

    async def _hear(self, heard: Heard) -> None:
        self._note_context(heard.context_id)
        kept = await self._service.hear(heard, endpoint=self._dialect.endpoint)
        await self._send(self._dialect.noted(heard, kept=kept))

    def _note_context(self, context_id: str | None) -> None:
        """Conversations end with their connection."""
        if context_id is None:
            return
        self._contexts.pop(context_id, None)
        self._contexts[context_id] = None
        if len(self._contexts) > _MAX_CONTEXTS:
            oldest = next(iter(self._contexts))
            del self._contexts[oldest]
            self._service.engine.forget(oldest)

    async def _deliver(self, utterance: Utterance, request_id: str) -> None:
        await self._send(self._dialect.queued(request_id))
        await utterance.admitted()
        await self._send(self._dialect.generating(request_id))
        seq = 0
        async for frame in utterance.frames():
            await self._send(self._dialect.frame(frame, seq, request_id))
            seq += 1
        await self._send(self._dialect.done(utterance.summary()))

    async def _send(self, message: str | bytes | None) -> None:
        """Bounded: uvicorn holds 64 KiB a connection, then this waits for the client, and not for ever."""
        if message is None or self._over.is_set():
            return
        sent_ms = self._utterance.sent_ms if self._utterance is not None else 0
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(self._patience.left_s(sent_ms)):
                if isinstance(message, str):
                    await self._socket.send_text(message)
                else:
                    await self._socket.send_bytes(message)
        except TimeoutError:
            log.warning("a client took its sound too slowly and is dropped: it held its slot")
            self._over.set()
        except WebSocketDisconnect:
            self._over.set()
        finally:
            self._patience.waited_s += time.monotonic() - began_s

    async def _close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(_CLOSE_DEADLINE_S):
                await self._socket.close(code, reason)
        except (TimeoutError, WebSocketDisconnect, RuntimeError) as error:
            # RuntimeError is starlette's word for a socket that is closed already.
            log.debug("closing a socket that is gone: %r", error)
