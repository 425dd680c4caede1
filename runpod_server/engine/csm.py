"""ENGINE=csm and ENGINE=csm-chunked on the event loop: slots, the queue, and the streams that clients read.

The model is a worker's, in a thread of its own; nothing here imports torch.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self

from runpod_server.audio import ms_of, samples_in
from runpod_server.engine.at_speed import AtSpeed
from runpod_server.engine.csm_chunked import ChunkedWorker
from runpod_server.engine.csm_request import Asked, understood
from runpod_server.engine.csm_source import CsmSource
from runpod_server.engine.csm_worker import Delivery, End, Hub, Listener, Rules, Worker
from runpod_server.engine.request import (
    EndReason,
    EngineStatus,
    HeardTurn,
    SpeechRequest,
    SpeechStream,
    Voice,
)
from runpod_server.engine.scheduler import Slots
from runpod_server.engine.speech_plan import PART_CHARS
from runpod_server.errors import BadRequest, Busy, GenerationFailed, NotReady, SpeechError, StartError
from runpod_server.voices.store import VoiceStore

if TYPE_CHECKING:
    from runpod_server.engine.csm_stage import Stage
    from runpod_server.engine.whole_speech import WholeSpeech

log = logging.getLogger(__name__)

_FAILURES_TO_DEGRADE = 3
_MAX_HEARING = 64  # turns that wait to be heard; a connection has one at a time
_CLOSE_DEADLINE_S = 5.0
_DEAD = "the model's thread has failed and this server cannot speak any more: restart it; the log says why"


class Speaker(Protocol):
    """A thread that owns a model. Its methods return at once, but for `close`."""

    def launch(self) -> None:
        """Begin to load."""

    def begin(self, listener: Listener, asked: Asked) -> None:
        """Speak a request."""

    def stop(self, listener: Listener) -> None:
        """Speak it no further."""

    def hear(self, turn: HeardTurn, noted: Callable[[bool | SpeechError], None]) -> None:
        """Keep what was heard; `noted` is called once it is kept, or not, or cannot be, from any thread."""

    def forget(self, context_id: str) -> None:
        """Free what is kept of a conversation."""

    def drop_voice(self, digest: str) -> None:
        """Free what is kept of a voice."""

    def wake(self) -> None:
        """A paused listener has taken something."""

    def close(self, deadline_s: float) -> bool:
        """End the thread; whether it did by the deadline."""


class CsmEngine:
    """Either CSM engine: they differ in their worker. `hire` makes it, given whom to report to.

    `part_chars`: longest part a text is spoken in; None: as one.
    """

    uses_references = True
    notice: str | None = None

    def __init__(
        self,
        name: str,
        hire: Callable[[Hub], Speaker],
        *,
        model: str,
        device: Literal["cuda", "cpu"],
        max_streams: int,
        max_queue: int,
        references: VoiceStore,
        part_chars: int | None,
    ) -> None:
        self.name, self.model, self.device, self.references = name, model, device, references
        self._part_chars = part_chars
        self._state: Literal["loading", "ready", "dead"] = "loading"
        self._failures_in_a_row = 0
        self._slots: Slots[CsmStream] = Slots(max_streams, max_queue)
        self._open: set[CsmStream] = set()
        self._hearing: set[asyncio.Future[bool]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loaded: asyncio.Future[None] | None = None
        self.worker = hire(self)
        references.when_deleted(lambda voice: self.worker.drop_voice(voice.digest))

    @property
    def voices(self) -> tuple[Voice, ...]:
        """The reference voices."""
        return tuple(
            Voice(
                each.name,
                each.speaker_id,
                each.description or "a reference recording",
            )
            for each in self.references.all()
        )

    async def load(self) -> None:
        """See Engine.load."""
        self._loop = asyncio.get_running_loop()
        self._loaded = self._loop.create_future()
        self.worker.launch()
        await self._loaded

    def open(self, request: SpeechRequest) -> SpeechStream:
        """See Engine.open."""
        stream = self._opened(request)
        return stream if request.speed == 1.0 else AtSpeed(stream, request.speed)

    def _opened(self, request: SpeechRequest) -> CsmStream:
        self._check_ready()
        asked = understood(request, self.references, most_chars=self._part_chars)
        stream = CsmStream(self, asked)
        has_slot = self._slots.enter(stream)
        self._open.add(stream)
        if has_slot:
            self._admit(stream)
        return stream

    async def hear(self, turn: HeardTurn) -> bool:
        """See Engine.hear."""
        self._check_ready()
        if len(self._hearing) >= _MAX_HEARING:
            raise Busy(f"{_MAX_HEARING} turns are being heard already: try again shortly")
        noted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._hearing.add(noted)
        try:
            self.worker.hear(turn, lambda answer: self._on_loop(lambda: _settle(noted, answer)))
            return await noted
        finally:
            self._hearing.discard(noted)

    def forget(self, context_id: str) -> None:
        """See Engine.forget."""
        if self._state == "ready":
            self.worker.forget(context_id)

    def status(self) -> EngineStatus:
        """See Engine.status. Degraded after three failures without a success between them, or for good."""
        failing = self._failures_in_a_row >= _FAILURES_TO_DEGRADE or self._state == "dead"
        return EngineStatus(
            state="loading" if self._state == "loading" else "degraded" if failing else "healthy",
            active=self._slots.active,
            capacity=self._slots.capacity,
            waiting=self._slots.waiting,
            max_waiting=self._slots.max_waiting,
        )

    async def close(self) -> None:
        """Cancel every stream, and end the thread after the frame it is at."""
        for stream in tuple(self._open):
            stream.cancel()
        for noted in self._hearing:
            _settle(noted, False)
        if not await asyncio.to_thread(self.worker.close, _CLOSE_DEADLINE_S):
            log.warning("the model's thread is busy and is left to end with the process")

    def left(self, stream: CsmStream) -> None:
        """A stream needs its slot, or its place in the queue, no more."""
        self._open.discard(stream)
        following = self._slots.leave(stream)
        if following is not None:
            self._admit(following)

    def _check_ready(self) -> None:
        if self._state == "loading":
            raise NotReady(f"{self.model} is still loading: ask again shortly, or watch /health")
        if self._state == "dead":
            raise GenerationFailed(_DEAD)

    def _admit(self, stream: CsmStream) -> None:
        self.worker.begin(stream, stream.asked)
        stream.admit()

    # From the worker's thread

    def post(self, batch: list[Delivery]) -> None:
        """See Hub.post."""
        self._on_loop(lambda: self._deliver(batch))

    def ready(self, device: Literal["cuda", "cpu"] | None, failure: StartError | None) -> None:
        """See Hub.ready."""
        self._on_loop(lambda: self._now_ready(device, failure))

    def died(self) -> None:
        """See Hub.died."""
        self._on_loop(self._now_dead)

    def _on_loop(self, work: Callable[[], None]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(work)
        except RuntimeError:
            log.debug("the event loop is closed: nobody listens any more")

    def _deliver(self, batch: list[Delivery]) -> None:
        for delivery in batch:
            stream = delivery.listener
            assert isinstance(stream, CsmStream)
            if delivery.pcm16:
                stream.put(delivery.pcm16)
            if delivery.end is not None and stream in self._open:
                self._count(delivery.end)
                stream.finish(delivery.end)
                self.left(stream)

    def _count(self, end: End) -> None:
        if not isinstance(end, SpeechError):
            self._failures_in_a_row = 0
        elif not isinstance(end, BadRequest):
            self._failures_in_a_row += 1

    def _now_ready(self, device: Literal["cuda", "cpu"] | None, failure: StartError | None) -> None:
        if device is not None:
            self._state, self.device = "ready", device
        if self._loaded is None or self._loaded.done():  # nobody waits: the server is going down
            return
        if failure is None:
            self._loaded.set_result(None)
        else:
            self._loaded.set_exception(failure)

    def _now_dead(self) -> None:
        self._state = "dead"
        for stream in tuple(self._open):
            stream.finish(GenerationFailed(_DEAD))
            self._open.discard(stream)
            self._slots.leave(stream)
        for noted in self._hearing:
            _settle(noted, GenerationFailed(_DEAD))


def _settle(noted: asyncio.Future[bool], answer: bool | SpeechError) -> None:
    if noted.done():  # nobody waits any more
        return
    if isinstance(answer, SpeechError):
        noted.set_exception(answer)
    else:
        noted.set_result(answer)


class CsmStream:
    """One request being spoken; see SpeechStream. Also the worker's Listener."""

    def __init__(self, engine: CsmEngine, asked: Asked) -> None:
        self.asked = asked
        self.reason: EndReason | None = None
        self.taken_ms = 0.0
        self.paused = False
        self._engine = engine
        self._pieces: deque[bytes] = deque()  # bounded: the worker pauses when too much is not taken
        self._end: End | None = None
        self._changed = asyncio.Event()
        self._admitted = asyncio.Event()

    # For the engine

    def admit(self) -> None:
        """A slot was found."""
        self._admitted.set()

    def put(self, pcm16: bytes) -> None:
        """More sound."""
        if self._end is None:
            self._pieces.append(pcm16)
            self._changed.set()

    def finish(self, end: End) -> None:
        """There will be no more; what is there can still be taken."""
        if self._end is None:
            self._end = end
            self._changed.set()
            self._admitted.set()

    # For the consumer

    async def admitted(self) -> None:
        """See SpeechStream.admitted."""
        await self._admitted.wait()

    def cancel(self) -> None:
        """See SpeechStream.cancel."""
        if self.reason is not None or isinstance(self._end, SpeechError):
            return
        self.reason = "cancelled"
        self._pieces.clear()
        if self._end is None:
            if self._admitted.is_set():
                self._engine.worker.stop(self)
            self.finish("cancelled")
            self._engine.left(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if isinstance(self._end, SpeechError):
                raise self._end
            if self._end is not None:
                self.reason = self.reason or self._end
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        piece = self._pieces.popleft()
        self.taken_ms += ms_of(samples_in(piece))
        if self.paused:
            self._engine.worker.wake()
        return piece

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()


def csm_engine(
    source: CsmSource, *, max_streams: int, max_queue: int, references: VoiceStore, rules: Rules | None = None
) -> CsmEngine:
    """ENGINE=csm: `max_streams` at once, streamed frame by frame."""

    def stage() -> Stage:
        made = source.open_stage(slots=max_streams)
        made.warm(references.all())
        return made

    return CsmEngine(
        "csm",
        lambda hub: Worker(stage, hub, rules=rules),
        model=str(source.model),
        device=source.likely_device,
        max_streams=max_streams,
        max_queue=max_queue,
        references=references,
        part_chars=PART_CHARS,
    )


def chunked_engine(source: CsmSource, *, max_queue: int, references: VoiceStore) -> CsmEngine:
    """ENGINE=csm-chunked: one request at a time, whole; the others wait."""

    def speech() -> WholeSpeech:
        loaded = source.load()
        from runpod_server.engine.whole_speech import WholeSpeech

        return WholeSpeech(loaded)

    return CsmEngine(
        "csm-chunked",
        lambda hub: ChunkedWorker(speech, hub),
        model=str(source.model),
        device=source.likely_device,
        max_streams=1,
        max_queue=max_queue,
        references=references,
        part_chars=None,
    )
