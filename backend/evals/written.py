"""Words as sound that can be read back: voice, ears and voice activity where nothing is to be heard.

Each character is 60 ms of a 500 Hz square wave whose μ-law level is the character's code. So a text can go
through playout, a telephone line and turn-taking, be cut at any sample, and still say what was heard of it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import numpy as np

from backend.calls.ports import RoutePlan
from backend.core.agent import Agent
from backend.core.g711 import Codec
from backend.core.health import RouteKey
from backend.core.speech import RouteName, Sound
from backend.simulator.line import Utterance

_RATE_HZ = 8_000
CHARACTER = 480  # samples: 60 ms, as long as a spoken one takes
_HALF_WAVE = 8
_PAUSE = b"\xff" * 1_200  # behind each piece: the breath that a voice takes
_SPOKEN_LEVEL = 200  # of 32768: softer is silence
_WINDOW_BYTES = 512  # 32 ms, as voice activity comes


def write(text: str, *, character: int = CHARACTER) -> bytes:
    """μ-law at 8 kHz that says `text`, `character` samples each; what is not ASCII sounds as "?"."""
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8)
    levels = np.repeat(np.clip(codes, 32, 126), character)
    negative = (np.arange(len(levels)) // _HALF_WAVE) % 2 == 1
    return np.where(negative, 0x7F - levels, 0xFF - levels).astype(np.uint8).tobytes()


def read(pcm16: bytes, *, character: int = CHARACTER) -> str:
    """What such sound says, however it was cut; silence is a space."""
    levels = 0x7F - (np.frombuffer(Codec.PCMU.encode(pcm16), np.uint8) & 0x7F)
    if not len(levels):
        return ""
    borders = np.flatnonzero(np.diff(levels)) + 1
    starts, ends = np.concatenate(([0], borders)), np.concatenate((borders, [len(levels)]))
    heard = [
        (chr(levels[start]) if levels[start] >= 32 else " ") * round((end - start) / character)
        for start, end in zip(starts, ends, strict=True)
    ]
    return " ".join("".join(heard).split())


def utterance(text: str, *, character: int = CHARACTER) -> Utterance:
    """What a caller says, ready for the line."""
    pcm16 = Codec.PCMU.decode(write(text, character=character))
    return Utterance(text, pcm16, 0, len(pcm16) // 2)


class WrittenVoice:
    """A speech route that writes."""

    @property
    def name(self) -> RouteName:
        return "sesame_ws"

    async def connect(self) -> None:
        """Nothing to do."""

    async def speak(self, text: str, *, before: str = "") -> AsyncGenerator[Sound]:
        """All of it at once."""
        yield Sound(write(text) + _PAUSE, "ulaw", _RATE_HZ)

    async def aclose(self) -> None:
        """Nothing to do."""


def written_plans(agent: Agent) -> list[RoutePlan]:
    """The agent's only voice."""
    return [RoutePlan(RouteKey("sesame_ws", "text"), voice_id="text", make=WrittenVoice)]


class WrittenEars:
    """A recogniser that reads."""

    def __init__(self, *, character: int = CHARACTER) -> None:
        self._character = character

    async def transcribe(self, pcm16_8k: bytes) -> str:
        """Words of one utterance."""
        return read(pcm16_8k, character=self._character)


class WrittenActivity:
    """Voice activity where every sound is speech. One a listener."""

    def __init__(self) -> None:
        self._rest = b""

    def push(self, pcm16: bytes) -> list[float]:
        """1.0 for each 32 ms window with sound in it, else 0.0."""
        self._rest += pcm16
        out: list[float] = []
        while len(self._rest) >= _WINDOW_BYTES:
            window, self._rest = self._rest[:_WINDOW_BYTES], self._rest[_WINDOW_BYTES:]
            loudest = int(np.abs(np.frombuffer(window, "<i2").astype(np.int32)).max())
            out.append(1.0 if loudest > _SPOKEN_LEVEL else 0.0)
        return out


class WrittenAnnouncer:
    """The carrier's own voice, in writing."""

    async def announce(self, text: str) -> bytes:
        """Int16 at 8 kHz."""
        return Codec.PCMU.decode(write(text))
