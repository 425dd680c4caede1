"""The preview engine: the embedded voice behind slots, a queue and two threads. Never on the event loop.

A stream asks for its next sentence only when its consumer took the last one, so streams take turns sentence
by sentence, and a slow reader holds at most one sentence in memory. See `line` for who makes way for whom.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from runpod_server.audio import SAMPLE_BYTES, ms_of, pcm16_from_float, samples_in, samples_of
from runpod_server.engine.line import Clock, Line, Place
from runpod_server.engine.request import EndReason, EngineStatus, HeardTurn, SpeechRequest, Voice
from runpod_server.errors import (
    BadRequest,
    EngineUnavailable,
    GenerationFailed,
    NotReady,
    OutOfMemory,
    SpeechError,
)
from runpod_server.preview.speakers import SPEAKERS, Speaker
from runpod_server.preview.voice import Piece, PreviewVoice
from runpod_server.voices.store import ReferenceVoice, VoiceStore

log = logging.getLogger(__name__)

_BY_NAME = {speaker.name: speaker for speaker in SPEAKERS}
_FAILURES_TO_DEGRADE = 3


class PreviewEngine:
    """`ENGINE=preview`. `why` says why this engine runs, when nobody chose it by name."""

    name = "preview"
    model = PreviewVoice.model_name
    device: Literal["cuda", "cpu"] = "cpu"
    uses_references = False

    def __init__(
        self,
        *,
        max_streams: int,
        max_queue: int,
        why: str = "",
        references: VoiceStore | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.references = references or VoiceStore()
        self.notice = (
            "PREVIEW VOICE: a small embedded voice speaks, not Sesame CSM"
            + (f" ({why})" if why else "")
            + "."
        )
        self.threads = ThreadPoolExecutor(min(2, os.cpu_count() or 1), thread_name_prefix="preview-voice")
        self.voice: PreviewVoice | None = None
        self._line = Line(max_streams, max_queue, clock)
        self._open: set[PreviewStream] = set()
        self._failures_in_a_row = 0

    @property
    def voices(self) -> tuple[Voice, ...]:
        """Its own ten, and the names of the recordings, which its own voices stand in for."""
        return (
            *(Voice(each.name, index, each.description) for index, each in enumerate(SPEAKERS)),
            *(
                Voice(each.name, each.speaker_id, _stand_in(each))
                for each in self.references.all()
                if each.name not in _BY_NAME
            ),
        )

    async def load(self) -> None:
        """Load the model and speak once, so that the first caller does not pay for lazy set-up."""
        self.voice = await asyncio.get_running_loop().run_in_executor(self.threads, _loaded_voice)

    def open(self, request: SpeechRequest) -> PreviewStream:
        """See Engine.open."""
        if self.voice is None:
            raise NotReady("the preview voice is still loading: ask again in a second, or watch /health")
        speaker = speaker_for(request, self.references)
        stream = PreviewStream(self, self.voice, request, speaker, self._line.enter())
        self._open.add(stream)
        return stream

    async def hear(self, turn: HeardTurn) -> bool:
        """See Engine.hear."""
        return False

    def forget(self, context_id: str) -> None:
        """See Engine.forget. This voice has no use for conversations."""

    def status(self) -> EngineStatus:
        """See Engine.status. Degraded after three failures without a success between them."""
        failing = self._failures_in_a_row >= _FAILURES_TO_DEGRADE
        slots = self._line.slots
        return EngineStatus(
            state="loading" if self.voice is None else "degraded" if failing else "healthy",
            active=slots.active,
            capacity=slots.capacity,
            waiting=slots.waiting,
            max_waiting=slots.max_waiting,
        )

    async def close(self) -> None:
        """Cancel every stream; the threads end with the sentence they are at."""
        for stream in tuple(self._open):
            stream.cancel()
        self.threads.shutdown(wait=False, cancel_futures=True)

    def ended(self, stream: PreviewStream, *, failed: bool) -> None:
        """A stream has ended."""
        self._open.discard(stream)
        if failed:
            self._failures_in_a_row += 1
        elif stream.reason in ("eos", "max_length"):
            self._failures_in_a_row = 0


class PreviewStream:
    """One request being spoken; see SpeechStream."""

    def __init__(
        self,
        engine: PreviewEngine,
        voice: PreviewVoice,
        request: SpeechRequest,
        speaker: Speaker,
        place: Place,
    ) -> None:
        self.reason: EndReason | None = None
        self._engine = engine
        self._request = request
        self._pieces = voice.speak(request.text, speaker, speed=request.speed, seed=request.seed)
        self._left = None if request.max_audio_ms is None else samples_of(request.max_audio_ms)
        self._ended = False
        self._place = place
        self._making: asyncio.Future[_Made | None] | None = None

    async def admitted(self) -> None:
        """See SpeechStream.admitted."""
        await self._place.admitted()

    def cancel(self) -> None:
        """See SpeechStream.cancel. A sentence a thread is at is finished there (some ms) and thrown away."""
        if not self._ended:
            self._end("cancelled")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        with self._place.asked():
            made = await self._next()
        pcm16 = self._within_limit(made.pcm16)
        if made.is_last and not self._ended:
            self._end("eos")  # now, not when the sound is delivered: others have use for the slot
        if not self._ended:
            self._place.handed_over(ms_of(samples_in(pcm16)))
        return pcm16

    async def _next(self) -> _Made:
        await self.admitted()
        if self._ended:
            raise StopAsyncIteration
        self._making = asyncio.get_running_loop().run_in_executor(
            self._engine.threads, _next_pcm16, self._pieces, self._request.request_id
        )
        # `wait`, unlike `await`, also returns when `cancel` cancels the future, and without raising here.
        await asyncio.wait({self._making})
        if self._ended:
            raise StopAsyncIteration
        try:
            made = self._making.result()
        except SpeechError as error:
            self._end(None, failed=not isinstance(error, BadRequest))
            raise
        if made is None:
            self._end("eos")
            raise StopAsyncIteration
        return made

    def _within_limit(self, pcm16: bytes) -> bytes:
        if self._left is None:
            return pcm16
        pcm16 = pcm16[: self._left * SAMPLE_BYTES]
        self._left -= samples_in(pcm16)
        if self._left == 0:
            self._end("max_length")
        return pcm16

    def _end(self, reason: EndReason | None, *, failed: bool = False) -> None:
        self._ended, self.reason = True, reason
        if self._making is not None:
            self._making.cancel()
        self._engine.ended(self, failed=failed)
        self._place.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()


def speaker_for(request: SpeechRequest, references: VoiceStore) -> Speaker:
    """The speaker a request asks for, by voice name or else by number. Raises BadRequest.

    A reference voice cannot be imitated here: the speaker bound to it speaks instead.
    """
    if request.voice is None:
        return SPEAKERS[request.speaker_id]
    reference = references.by_name(request.voice)
    if reference is not None and request.voice not in _BY_NAME:
        bound = reference.speaker_id
        return SPEAKERS[request.speaker_id if bound is None else bound]
    if request.voice not in _BY_NAME:
        known = ", ".join((*_BY_NAME, *(each.name for each in references.all())))
        raise BadRequest(f"voice {request.voice!r} is not known here; the voices are: {known}", field="voice")
    return _BY_NAME[request.voice]


def _stand_in(voice: ReferenceVoice) -> str:
    by = "the request's speaker" if voice.speaker_id is None else f"speaker {voice.speaker_id}"
    return f"spoken by the preview voice's own: {by} stands in"


def _loaded_voice() -> PreviewVoice:
    try:
        voice = PreviewVoice()
        for _ in voice.speak("Ready to speak.", SPEAKERS[1]):
            pass
    except (OSError, RuntimeError) as error:
        raise EngineUnavailable(f"the preview voice could not be loaded: {error}") from error
    return voice


@dataclass(frozen=True, slots=True)
class _Made:
    pcm16: bytes
    is_last: bool


def _next_pcm16(pieces: Iterator[Piece], request_id: str) -> _Made | None:
    """In a thread: the next sentence as PCM, None at the end. Raises SpeechError only."""
    try:
        piece = next(pieces, None)
        return None if piece is None else _Made(pcm16_from_float(piece.samples), piece.is_last)
    except SpeechError:
        raise
    except MemoryError as error:
        log.error("request %s: out of memory", request_id)
        raise OutOfMemory("the server ran out of memory on this text: send it in shorter parts") from error
    except Exception as error:  # whatever the model raises must become an answer on the wire
        log.exception("request %s: the voice failed", request_id)
        raise GenerationFailed("the voice failed on this text; the server's log has the reason") from error
