"""ENGINE=csm-chunked: transformers' own generate, a whole utterance at a time: the simple reference.

A thread of its own owns the model. Knows nothing of streams, slots or many listeners at once.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runpod_server.audio import SAMPLE_BYTES, pcm16_from_float
from runpod_server.engine.csm_request import Asked
from runpod_server.engine.csm_worker import Delivery, End, Hub, Listener, loaded
from runpod_server.engine.request import HeardTurn
from runpod_server.engine.speech_plan import frame_limit
from runpod_server.errors import GenerationFailed, SpeechError

if TYPE_CHECKING:
    from runpod_server.engine.whole_speech import WholeSpeech

log = logging.getLogger(__name__)

_PIECE_BYTES = 24_000 * SAMPLE_BYTES


@dataclass(slots=True, eq=False)
class _Job:
    listener: Listener
    asked: Asked
    stopped: threading.Event = field(default_factory=threading.Event)


class ChunkedWorker:
    """Speaks one request after another. See csm_worker.Worker, whose place it takes."""

    def __init__(self, load: Callable[[], WholeSpeech], hub: Hub) -> None:
        self._load, self._hub = load, hub
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()  # bounded by the engine's slots
        self._by_listener: dict[Listener, _Job] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="csm-chunked-model", daemon=True)

    def launch(self) -> None:
        """Begin to load."""
        self._thread.start()

    def begin(self, listener: Listener, asked: Asked) -> None:
        """Speak a request, after those begun before."""
        job = _Job(listener, asked)
        with self._lock:
            self._by_listener[listener] = job
        self._jobs.put(job)

    def stop(self, listener: Listener) -> None:
        """Speak it no further than the frame it is at."""
        with self._lock:
            job = self._by_listener.pop(listener, None)
        if job is not None:
            job.stopped.set()

    def hear(self, turn: HeardTurn, noted: Callable[[bool | SpeechError], None]) -> None:
        """Nothing is kept of it."""
        noted(False)

    def forget(self, context_id: str) -> None:
        """Nothing is kept: this engine knows no conversations."""

    def drop_voice(self, digest: str) -> None:
        """Nothing is kept: the recording is read for every request."""

    def wake(self) -> None:
        """Nobody is paused: the whole utterance is made at once."""

    def close(self, deadline_s: float) -> bool:
        """End the thread after the frame it is at; whether it did by the deadline. Blocks until then."""
        self._closing.set()
        self._jobs.put(None)
        if self._thread.ident is not None:
            self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        speech = loaded(self._load, self._hub)
        if speech is None:
            return
        self._hub.ready(speech.device, None)
        while (job := self._jobs.get()) is not None and not self._closing.is_set():
            pcm16, end = self._spoken(speech, job)
            with self._lock:
                self._by_listener.pop(job.listener, None)
            pieces = [pcm16[at : at + _PIECE_BYTES] for at in range(0, len(pcm16), _PIECE_BYTES)]
            batch = [Delivery(job.listener, piece, None) for piece in pieces]
            self._hub.post([*batch, Delivery(job.listener, b"", end)])

    def _spoken(self, speech: WholeSpeech, job: _Job) -> tuple[bytes, End]:
        asked = job.asked
        if job.stopped.is_set():
            return b"", "cancelled"
        limit = frame_limit(asked.parts[0])
        if asked.max_samples is not None:
            limit = min(limit, -(-asked.max_samples // speech.frame_samples))
        try:
            samples, ended = speech.speak(
                asked, frames=limit, stop=lambda: job.stopped.is_set() or self._closing.is_set()
            )
        except SpeechError as error:
            return b"", error
        except Exception:  # whatever the model raises must become an answer on the wire
            log.exception("request %s: the model failed", asked.request_id)
            return b"", GenerationFailed("the model failed on this request; the server's log has the reason")
        pcm16 = pcm16_from_float(samples)
        if asked.max_samples is not None and len(samples) > asked.max_samples:
            return pcm16[: asked.max_samples * SAMPLE_BYTES], "max_length"
        return pcm16, ended
