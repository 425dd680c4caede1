"""The caller's voice: the embedded one, shifted so that it sounds like somebody else, trimmed to its sound.

Synthesis runs in one thread of its own; what was said once is kept. Knows nothing of lines or scripts.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import soxr

from backend.errors import SpeechError
from backend.extras import install_command
from backend.simulator.hearing import RATE_HZ, audible_span
from backend.simulator.line import Utterance

if TYPE_CHECKING:
    from hibari import Hibari

_VOICE_HZ = 24_000
_PEAK = 0.5
_KEPT = 256
_NOISE_MARGIN_SAMPLES = 300 * RATE_HZ // 1000
_CARRIER = (1.0, 1.0)


class CallerVoice:
    """Speech at 8 kHz from text. `say` may be called from any task; `close` once."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="caller-voice")
        self._engine: Hibari | None = None
        self._said: OrderedDict[tuple[str, float, float], Utterance] = OrderedDict()

    async def say(self, text: str, *, pitch: float, speed: float, noise_db: float | None = None) -> Utterance:
        """The text as this person would say it, the same every time; `noise_db` adds a noisy background.

        Raises SpeechError when the text has nothing to pronounce or the voice is not installed.
        """
        key = (text, pitch, speed)
        if key not in self._said:
            self._said[key] = await asyncio.get_running_loop().run_in_executor(self._thread, self._make, *key)
        self._said.move_to_end(key)
        utterance = self._said[key]
        while len(self._said) > _KEPT:
            self._said.popitem(last=False)
        return utterance if noise_db is None else add_noise(utterance, noise_db)

    async def announce(self, text: str) -> bytes:
        """The carrier's own voice for the `speak` command, int16 at 8 kHz. Raises SpeechError."""
        return (await self.say(text, pitch=_CARRIER[0], speed=_CARRIER[1])).pcm16

    def close(self) -> None:
        """Let the thread end; texts still waiting are dropped."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _make(self, text: str, pitch: float, speed: float) -> Utterance:
        if not any(char.isalnum() for char in text):
            raise SpeechError(
                f"there is nothing to pronounce in {text!r}", route="simulator", reason="bad_request"
            )
        if self._engine is None:
            try:
                from hibari import Hibari
            except ImportError as error:
                raise SpeechError(
                    f"the caller's voice is not installed; run: {install_command('local')}",
                    route="simulator",
                    reason="not_ready",
                ) from error
            self._engine = Hibari()
        # Spoken slower by the factor that playing it faster takes away: pitch and formants rise, pace stays.
        natural = self._engine(text, speed=speed / pitch, seed=zlib.crc32(text.encode()))
        return _trim(text, soxr.resample(natural, _VOICE_HZ * pitch, RATE_HZ))


def _trim(text: str, audio: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Utterance:
    peak = float(np.abs(audio).max(initial=0.0)) or 1.0
    pcm16 = np.rint(audio * (_PEAK / peak) * 32767).astype("<i2").tobytes()
    span = audible_span(pcm16)
    if span is None:
        raise SpeechError(f"the voice made no sound for {text!r}", route="simulator", reason="no_audio")
    first, end = span
    return Utterance(text, pcm16[2 * first : 2 * end], 0, end - first)


def add_noise(utterance: Utterance, noise_db: float) -> Utterance:
    """The same words before a noisy background, which begins 300 ms earlier and ends 300 ms later."""
    speech = np.frombuffer(utterance.pcm16, "<i2").astype(np.float64)
    level = float(np.sqrt(np.mean(speech**2))) * 10 ** (noise_db / 20)
    noise = np.random.default_rng(zlib.crc32(utterance.text.encode())).normal(
        0, level, len(speech) + 2 * _NOISE_MARGIN_SAMPLES
    )
    noise[_NOISE_MARGIN_SAMPLES : _NOISE_MARGIN_SAMPLES + len(speech)] += speech
    pcm16 = np.clip(np.rint(noise), -32768, 32767).astype("<i2").tobytes()
    return Utterance(
        utterance.text,
        pcm16,
        _NOISE_MARGIN_SAMPLES + utterance.speech_start,
        _NOISE_MARGIN_SAMPLES + utterance.speech_end,
    )
