"""One request on its way to one client: frames cut, counted and timed. All endpoints deliver through here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from runpod_server.api.metrics import Metrics
from runpod_server.api.patience import SEND_DEADLINE_S
from runpod_server.audio import SAMPLE_RATE_HZ, Chunker, ms_of, samples_in
from runpod_server.engine.request import EndReason, Engine, HeardTurn
from runpod_server.errors import SpeechError
from runpod_server.voices.recording import read_turn
from runpod_server.wire import Generate, Heard, Limits, Summary


@dataclass(frozen=True, slots=True)
class Service:
    """What the endpoints share."""

    engine: Engine
    limits: Limits
    metrics: Metrics
    api_key: str | None
    send_deadline_s: float = SEND_DEADLINE_S

    def speak(self, generate: Generate, *, endpoint: str) -> Utterance:
        """Begin a request; use it as a context manager. Raises SpeechError when it is refused."""
        try:
            return Utterance(self, generate, endpoint)
        except SpeechError as error:
            self.metrics.requests.labels(endpoint, error.code).inc()
            raise

    async def hear(self, heard: Heard, *, endpoint: str) -> bool:
        """Keep a turn of the conversation; False: this engine keeps none. Raises SpeechError."""
        try:
            samples = await asyncio.to_thread(read_turn, heard.audio)
            turn = HeardTurn(heard.context_id, heard.text, heard.speaker_id, samples)
            kept = await self.engine.hear(turn)
        except SpeechError as error:
            self.metrics.requests.labels(endpoint, error.code).inc()
            raise
        self.metrics.requests.labels(endpoint, "noted").inc()
        return kept


class Utterance:
    """Iterate for frames, then read `summary`. Leaving the context frees the slot, whatever happened."""

    def __init__(self, service: Service, generate: Generate, endpoint: str) -> None:
        self._began_s = time.monotonic()
        self._metrics, self._endpoint = service.metrics, endpoint
        self._request_id = generate.request.request_id
        self._chunker = Chunker(generate.chunk_samples)
        self._stream = service.engine.open(generate.request)
        self._cancelled = False
        self._samples = 0
        self._first_audio_ms: int | None = None

    async def admitted(self) -> None:
        """Return when the work begins, or was cancelled."""
        await self._stream.admitted()

    def cancel(self) -> None:
        """No further frame comes, not even of sound already made; the slot is free at once."""
        self._cancelled = True
        self._stream.cancel()

    async def frames(self) -> AsyncIterator[bytes]:
        """int16 PCM: the first frame as soon as there is one, the last not padded. Raises SpeechError."""
        async for piece in self._stream:
            for frame in self._chunker.push(piece):
                if self._cancelled:
                    return
                yield self._counted(frame)
                await asyncio.sleep(0)  # a long piece must not keep other streams, or a cancel, waiting
        if not self._cancelled and self._stream.reason != "cancelled":
            for frame in self._chunker.flush():
                yield self._counted(frame)

    @property
    def sent_ms(self) -> int:
        """How much sound was given out so far."""
        return ms_of(self._samples)

    async def collect(self) -> bytes:
        """The whole sound. Raises SpeechError."""
        return b"".join([frame async for frame in self.frames()])

    def summary(self) -> Summary:
        """How it ended, or how it stands."""
        return Summary(
            request_id=self._request_id,
            reason=self._reason(),
            audio_ms=self.sent_ms,
            first_audio_ms=self._first_audio_ms,
            generate_ms=self._elapsed_ms(),
        )

    def _reason(self) -> EndReason:
        return "cancelled" if self._cancelled else self._stream.reason or "cancelled"

    def _counted(self, frame: bytes) -> bytes:
        if self._first_audio_ms is None:
            self._first_audio_ms = self._elapsed_ms()
            self._metrics.first_audio_s.labels(self._endpoint).observe(time.monotonic() - self._began_s)
        self._samples += samples_in(frame)
        return frame

    def _elapsed_ms(self) -> int:
        return round((time.monotonic() - self._began_s) * 1000)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.cancel()
        outcome = error.code if isinstance(error, SpeechError) else self._reason()
        self._metrics.requests.labels(self._endpoint, outcome).inc()
        self._metrics.audio_s.inc(self._samples / SAMPLE_RATE_HZ)
