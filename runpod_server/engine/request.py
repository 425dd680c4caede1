"""What every engine takes and gives: the request, the stream of sound, the engine itself.

Engines differ in how sound is made and how many streams they carry; nothing above knows which one runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self

from runpod_server.voices.recording import Samples
from runpod_server.voices.store import VoiceStore

EndReason = Literal["eos", "max_length", "silence", "cancelled"]
EngineState = Literal["healthy", "loading", "degraded"]

SPEAKERS = range(10)


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """One text to be spoken. None means: the engine's own default."""

    text: str
    request_id: str
    speaker_id: int = 0
    voice: str | None = None  # a named voice; it wins over the speaker's own
    max_audio_ms: int | None = None
    temperature: float | None = None  # 0 is greedy
    top_k: int | None = None
    seed: int | None = None
    context_id: str | None = None
    speed: float = 1.0  # every engine speaks at it; all lengths count what is heard


@dataclass(frozen=True, slots=True)
class HeardTurn:
    """What somebody else said in a conversation: words, and the sound of them."""

    context_id: str
    text: str
    speaker_id: int
    samples: Samples  # 24 kHz, -1 … 1


@dataclass(frozen=True, slots=True)
class Voice:
    """A named voice a client may ask for."""

    name: str
    speaker_id: int | None  # the speaker it is bound to
    description: str


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What an engine is doing now. `waiting` requests are admitted to slots first come, first served."""

    state: EngineState
    active: int
    capacity: int
    waiting: int
    max_waiting: int


class SpeechStream(Protocol):
    """One request being spoken: iterate for PCM (int16 little-endian, 24 kHz, pieces of any length).

    A context manager: leaving it frees the slot, whatever happened. The consumer pulls, so a slow one
    holds back its own stream and no other. Iterating raises SpeechError when the request fails.
    """

    @property
    def reason(self) -> EndReason | None:
        """Why the stream ended; None while it goes on or when it failed."""

    async def admitted(self) -> None:
        """Return when a slot was found and work begins, or the stream was cancelled."""

    def cancel(self) -> None:
        """Stop and free the slot at once, also while a piece is awaited; harmless after the end."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Engine(Protocol):
    """A way of making speech. All methods run on the event loop and none blocks it."""

    @property
    def name(self) -> str:
        """The value of ENGINE that chooses it."""

    @property
    def model(self) -> str:
        """The model it speaks with."""

    @property
    def device(self) -> Literal["cuda", "cpu"]:
        """Where the model runs."""

    @property
    def notice(self) -> str | None:
        """A sentence an operator must not miss, shown in the log and in /health."""

    @property
    def voices(self) -> tuple[Voice, ...]:
        """The named voices."""

    @property
    def references(self) -> VoiceStore:
        """The reference recordings it was given, from which others may add and remove."""

    @property
    def uses_references(self) -> bool:
        """Whether it speaks with those recordings, or only takes their names for its own voices."""

    async def load(self) -> None:
        """Load and warm up; `status` says healthy from then on. Raises EngineUnavailable."""

    def open(self, request: SpeechRequest) -> SpeechStream:
        """Take a request into a slot or the queue. Raises NotReady, Busy, or BadRequest (unknown voice)."""

    async def hear(self, turn: HeardTurn) -> bool:
        """Keep a turn as context for what is spoken next in that conversation; return when it is kept.

        False: this engine keeps no conversations. Raises NotReady, Busy, BadRequest (it is too long),
        OutOfMemory, GenerationFailed.
        """

    def forget(self, context_id: str) -> None:
        """Free what is kept of a conversation; harmless when nothing is."""

    def status(self) -> EngineStatus:
        """What it is doing now."""

    async def close(self) -> None:
        """Cancel everything and free the model."""
