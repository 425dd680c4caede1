"""What a call needs from the outside, as protocols: any voice, any ears, any socket that fits will do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from backend.core.agent import Agent
from backend.core.records import CallRecord, CallState, Direction, TurnRecord, TurnTimings

Clock = Callable[[], float]
"""Milliseconds on a monotonic clock."""


class SpeechRoute(Protocol):
    """A way to speak. See `backend.tts`."""

    name: str

    async def connect(self) -> None:
        """Get ready, so that the first word comes sooner. Raises SpeechError."""

    def stream_tts(self, text: str, speaker_id: int = 0) -> AsyncGenerator[bytes]:
        """Int16 mono PCM at 24 kHz as it is made. Raises SpeechError."""

    async def aclose(self) -> None:
        """Let go of everything."""


class Transcriber(Protocol):
    """Speech-to-text. See `backend.stt`."""

    async def transcribe(self, pcm16_8k: bytes) -> str:
        """Words of one utterance; "" for none. Raises HearingError."""


class VoiceDetector(Protocol):
    """Voice activity, one instance a call."""

    def push(self, pcm16: bytes) -> list[float]:
        """Probabilities of the 32 ms windows that this int16 8 kHz audio completes."""


class MediaSocket(Protocol):
    """The carrier's end of the media WebSocket."""

    async def send(self, frame: str) -> None:
        """Send one text frame. Raises ConnectionError when the socket is gone."""

    async def receive(self) -> str | None:
        """The next text frame; None when the socket was closed."""

    async def close(self) -> None:
        """Close it, within a bounded time."""


class Store(Protocol):
    """What calls need of the database. See `backend.storage.calls`."""

    async def create(self, call: CallRecord) -> CallRecord:
        """Keep a new call; an idempotency key known already gives the earlier call."""

    async def update(self, call_id: str, **changes: object) -> CallRecord:
        """Change fields of a call."""

    async def add_turn(self, call_id: str, turn: TurnRecord) -> None:
        """Keep a turn; the same index again replaces it."""

    async def get(self, any_id: str) -> CallRecord | None:
        """A call by our id or the carrier's."""


class Carrier(Protocol):
    """What a call needs of the carrier. See `backend.telnyx.control`."""

    async def answer(self, ccid: str, *, command_id: str) -> None: ...

    async def start_streaming(
        self, ccid: str, *, stream_url: str, auth_token: str, codec: Literal["PCMU", "PCMA"], command_id: str
    ) -> None: ...

    async def hangup(self, ccid: str, *, command_id: str) -> None: ...

    async def transfer(self, ccid: str, *, to: str, command_id: str) -> None: ...

    async def send_dtmf(self, ccid: str, *, digits: str, command_id: str) -> None: ...

    async def speak(self, ccid: str, *, text: str, language: str, command_id: str) -> None: ...


class Observer(Protocol):
    """Who counts calls and turns. See `backend.web.metrics`."""

    def call_moved(self, direction: Direction, before: CallState | None, now: CallState) -> None: ...

    def turn_answered(self, timings: TurnTimings) -> None: ...


@dataclass(frozen=True, slots=True)
class CallParts:
    """What every call is made of; given once, by the composition root."""

    carrier: Carrier
    store: Store
    transcriber: Transcriber
    make_detector: Callable[[], VoiceDetector]
    make_route: Callable[[Agent], SpeechRoute]
    clock: Clock
    observer: Observer
    media_url: str
    """`wss://…/media`, what the carrier can reach."""
