"""The embedded voice as a vendor's: 24 kHz sound, and when each character of the text begins to sound.

The times are estimated from the number of sounds in each word. Knows nothing of sockets or formats.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backend.errors import SpeechError
from backend.extras import install_command

if TYPE_CHECKING:
    from hibari import Hibari

RATE_HZ = 24_000
_KEPT = 256
_AUDIBLE = 0.005
_LEAD_SAMPLES = RATE_HZ // 50  # the embedded voice begins with 0.3 s of silence, the vendor's do not
_PEAK = 0.5
_PAUSE_SOUNDS = {",": 3.0, ";": 3.0, ":": 3.0, ".": 4.0, "?": 4.0, "!": 4.0, "…": 4.0, "—": 3.0}


@dataclass(frozen=True, slots=True)
class Speech:
    """A spoken text. `starts_ms[i]` is when its i-th character begins."""

    text: str
    pcm16: bytes  # at 24 kHz
    starts_ms: tuple[float, ...]

    @property
    def duration_ms(self) -> float:
        """How long it plays."""
        return len(self.pcm16) / (2 * RATE_HZ / 1000)

    def alignment(self, from_ms: float, until_ms: float) -> dict[str, list[str] | list[int]]:
        """The characters that begin in that stretch, as ElevenLabs words it: timed from its beginning."""
        inside = [i for i, start_ms in enumerate(self.starts_ms) if from_ms <= start_ms < until_ms]
        ends_ms = [*self.starts_ms[1:], self.duration_ms]
        return {
            "chars": [self.text[i] for i in inside],
            "charStartTimesMs": [round(self.starts_ms[i] - from_ms) for i in inside],
            "charDurationsMs": [round(ends_ms[i] - self.starts_ms[i]) for i in inside],
        }

    def seconds_of_characters(
        self, from_ms: float, until_ms: float
    ) -> dict[str, list[str] | list[float]] | None:
        """The same for a REST reply: timed from the beginning of the speech; None for no character."""
        inside = [i for i, start_ms in enumerate(self.starts_ms) if from_ms <= start_ms < until_ms]
        if not inside:
            return None
        ends_ms = [*self.starts_ms[1:], self.duration_ms]
        return {
            "characters": [self.text[i] for i in inside],
            "character_start_times_seconds": [round(self.starts_ms[i] / 1000, 3) for i in inside],
            "character_end_times_seconds": [round(ends_ms[i] / 1000, 3) for i in inside],
        }


class VendorVoice:
    """Speaks in one thread of its own; what was said once is kept. `close` once."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vendor-voice")
        self._engine: Hibari | None = None
        self._said: OrderedDict[str, Speech] = OrderedDict()

    async def say(self, text: str) -> Speech:
        """The same every time; no sound for a text with nothing to pronounce.

        Raises SpeechError (not_ready) when the voice is not installed.
        """
        if text not in self._said:
            loop = asyncio.get_running_loop()
            self._said[text] = await loop.run_in_executor(self._thread, self.say_now, text)
        self._said.move_to_end(text)
        speech = self._said[text]
        while len(self._said) > _KEPT:
            self._said.popitem(last=False)
        return speech

    def close(self) -> None:
        """Let the thread end; texts still waiting are dropped."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def say_now(self, text: str) -> Speech:
        """`say`, in the calling thread and without keeping it."""
        if not any(char.isalnum() for char in text):
            return Speech(text, b"", (0.0,) * len(text))
        engine = self._loaded()
        audio = engine(text, seed=zlib.crc32(text.encode()))
        loud = np.flatnonzero(np.abs(audio) > _AUDIBLE)
        if not len(loud):
            return Speech(text, b"", (0.0,) * len(text))
        audio = audio[max(0, int(loud[0]) - _LEAD_SAMPLES) :]
        loud = np.flatnonzero(np.abs(audio) > _AUDIBLE)
        scaled = audio * (_PEAK / float(np.abs(audio).max()))
        pcm16: bytes = np.rint(scaled * 32767).astype("<i2").tobytes()
        first_ms, last_ms = loud[0] / (RATE_HZ / 1000), loud[-1] / (RATE_HZ / 1000)
        return Speech(text, pcm16, _starts(text, self._weights(text), first_ms, last_ms))

    def _loaded(self) -> Hibari:
        if self._engine is None:
            try:
                from hibari import Hibari
            except ImportError as error:
                raise SpeechError(
                    f"the stand-in's voice is not installed; run: {install_command('local')}",
                    route="simulator",
                    reason="not_ready",
                ) from error
            self._engine = Hibari()
        return self._engine

    def _weights(self, text: str) -> list[float]:
        """How long each word sounds, pause after it included, in no particular unit."""
        engine = self._loaded()
        return [
            sum(char.isalpha() for char in engine.g2p(word)) + _PAUSE_SOUNDS.get(word[-1], 0.4)
            for word in text.split()
        ]


def _starts(text: str, weights: list[float], first_ms: float, last_ms: float) -> tuple[float, ...]:
    total = sum(weights) or 1.0
    # The pause after the last word is not heard.
    scale = (last_ms - first_ms) / max(total - (_PAUSE_SOUNDS.get(text.rstrip()[-1:], 0.4)), 1.0)
    starts, at_ms, words = [], first_ms, iter(weights)
    for index, char in enumerate(text):
        if char.isspace():
            starts.append(at_ms)
            continue
        if index == 0 or text[index - 1].isspace():
            length = len(text[index:].split(None, 1)[0])
            step_ms = next(words) * scale / length
        starts.append(at_ms)
        at_ms += step_ms
    return tuple(starts)
