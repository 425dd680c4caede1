"""The agent's ears alone, faster than real time: the real detector and recogniser on a clock of their own.

Shared by the benchmarks of turns. A recognition takes as long on that clock as it is told to, whatever the
machine is busy with.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import soxr
from hibari import Hibari

from backend.calls.hearing.listener import Listener, OwnVoice
from backend.core.g711 import Codec
from backend.core.turns import BargeIn, Expects, TurnEnded, TurnEvent, TurnPolicy
from backend.errors import HearingError
from backend.stt.local import LocalTranscriber
from backend.stt.smart_turn import SmartTurn
from backend.stt.vad import VoiceActivity

FRAME_BYTES = 320
_END_MS = 6_000


class _Speaker(Protocol):
    pitch: float
    speed: float
    pause_ms: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence at 8 kHz, int16, and how much silence follows its last sound."""

    text: str
    pcm16: bytes
    tail_ms: float


class Voices:
    """The embedded voice as many people."""

    def __init__(self) -> None:
        self._engine = Hibari(threads=1)

    def say(self, parts: Sequence[str], chance: random.Random, who: _Speaker) -> Said:
        """The parts with pauses between, as long as this person makes them."""
        sounds = []
        for index, part in enumerate(parts):
            if index:
                pause_ms = chance.uniform(*who.pause_ms)
                sounds.append(np.frombuffer(line_noise(pause_ms, index), "<i2"))
            melody = "" if part[-1] in ",.?!" else "." if index == len(parts) - 1 else ","
            sounds.append(self.sound(part + melody, who.pitch, who.speed))
        return Said(" ".join(parts), np.concatenate(sounds).tobytes(), 0.0)

    def sound(self, text: str, pitch: float = 1.0, speed: float = 1.0) -> np.ndarray:
        """Trimmed to what can be heard, at about −20 dBFS, with a line's noise."""
        natural = self._engine(text, speed=speed / pitch, seed=zlib.crc32(text.encode()))
        audio = soxr.resample(natural, 24_000 * pitch, 8_000)
        audio = audio * (0.1 / max(1e-4, float(np.sqrt(np.mean(audio**2)))))
        audible = np.flatnonzero(np.abs(audio) > 0.01)
        audio = np.clip(audio[audible[0] : audible[-1] + 1], -1, 1)
        noise = np.frombuffer(line_noise(len(audio) / 8, 7), "<i2")[: len(audio)]
        return (np.rint(audio * 32_000).astype("<i2") + noise).astype("<i2")


def line_noise(ms: float, seed: int, level: float = 12.0) -> bytes:
    """The hiss of a line, at −69 dBFS."""
    return np.random.default_rng(seed).normal(0, level, int(ms * 8) + 1).astype("<i2").tobytes()


class Hearing:
    """The recogniser that all ears share."""

    def __init__(self, recognition_ms: float, turn_model: Path | None = None) -> None:
        """`turn_model`: a Smart Turn 3 that judges melodies besides."""
        self.recognition_ms = recognition_ms
        self.turn_model = SmartTurn(turn_model) if turn_model is not None else None
        self.transcriber = LocalTranscriber()
        self.tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self.tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.tasks.__aexit__(kind, error, trace)
        self.transcriber.close()
        if self.turn_model is not None:
            self.turn_model.close()

    def ears(self, own_voice: OwnVoice | None = None) -> Ears:
        """A new caller's."""
        return Ears(self, TurnPolicy(), own_voice)


class Ears:
    """One caller's ears, on a clock that moves 20 ms with every frame."""

    def __init__(self, hearing: Hearing, policy: TurnPolicy, own_voice: OwnVoice | None) -> None:
        self._hearing = hearing
        self.now_ms = 1_000.0
        self.agent_speaks = False
        self.events: list[tuple[float, TurnEvent]] = []
        self._waiting: list[tuple[float, asyncio.Event]] = []
        self.listener = Listener(
            codec=Codec.PCMU,
            detector=VoiceActivity(),
            transcriber=self,
            policy=policy,
            clock=lambda: self.now_ms,
            tasks=hearing.tasks,
            agent_speaking=lambda: self.agent_speaks,
            on_event=lambda event: self.events.append((self.now_ms, event)),
            on_deaf=self._deaf,
            own_voice=own_voice,
            judge_melody=hearing.turn_model.judge if hearing.turn_model is not None else None,
        )

    def expects(self, what: Expects) -> None:
        """What was asked."""
        self.listener.turns.expects = what

    async def transcribe(self, pcm16_8k: bytes) -> str:
        """The recogniser's words, as late as they are to be on our clock."""
        due = asyncio.Event()
        self._waiting.append((self.now_ms + self._hearing.recognition_ms, due))
        try:
            return await self._hearing.transcriber.transcribe(pcm16_8k)
        finally:
            await due.wait()

    async def hear(self, pcm16: bytes) -> None:
        """Any sound, in frames of 20 ms."""
        for at in range(0, len(pcm16), FRAME_BYTES):
            frame = pcm16[at : at + FRAME_BYTES]
            self.now_ms += len(frame) / 16
            self.listener.push(Codec.PCMU.encode(frame))
            await self._settle()

    async def until_ended(self, before: int) -> None:
        """Silence until a further turn than `before` has ended, and a while after; six seconds at most."""
        quiet = line_noise(20, 3)[:FRAME_BYTES]
        for _ in range(_END_MS // 20):
            await self.hear(quiet)
            if len(self.ended) > before and not self.listener.turns.speaking:
                return

    async def _settle(self) -> None:
        """What was due on our clock happens before it moves on."""
        await asyncio.sleep(0)
        for due_ms, due in list(self._waiting):
            if due_ms <= self.now_ms:
                self._waiting.remove((due_ms, due))
                due.set()
                recognition = self.listener._recognition
                if recognition is not None and not recognition.done():
                    await asyncio.wait([recognition])

    @property
    def ended(self) -> list[TurnEnded]:
        """The turns so far."""
        return [event for _, event in self.events if isinstance(event, TurnEnded)]

    @property
    def ended_at_ms(self) -> list[float]:
        """When each of them ended."""
        return [at_ms for at_ms, event in self.events if isinstance(event, TurnEnded)]

    @property
    def barged_in_at_ms(self) -> list[float]:
        """When interruptions were told."""
        return [at_ms for at_ms, event in self.events if isinstance(event, BargeIn)]

    def close(self) -> None:
        """No more."""
        for _, due in self._waiting:
            due.set()
        self.listener.close()

    def _deaf(self, error: HearingError) -> None:
        raise error
