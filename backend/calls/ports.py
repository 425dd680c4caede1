"""What a call needs from the outside, as protocols: any voice, any ears, any socket that fits will do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Protocol

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
