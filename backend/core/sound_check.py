"""Whether sound can be speech: a model gone wrong gives hiss, one value, or endless silence. Pure."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

_WINDOW = 256  # 32 ms at 8 kHz: one in three is looked at, a row of windows must agree
_STRIDE = 3 * _WINDOW
_LOUD_RMS = 400.0  # of 32768
_FLAT = 0.47  # spectral flatness: vowels lie under 0.1, a long "s" at 0.3 to 0.5, white noise at 0.56 ± 0.05
_HISS_WINDOWS = 8  # 770 ms: no consonant lasts so long
_LIKE_HISS = 0.35  # what belongs to a hiss that was found out
_STUCK_MS = 700.0
_SILENCE_MS = 4000.0  # before the first sound
_SILENT_PEAK = 20.0
_BINS = slice(4, 112)  # 125 Hz to 3.5 kHz: what a telephone carries
_TAPER = np.hanning(_WINDOW).astype(np.float32)


class SoundCheck:
    """One request's sound, in order."""

    def __init__(self) -> None:
        self._rest = b""
        self._flatness: deque[float] = deque(maxlen=_HISS_WINDOWS)
        self._stuck_ms = self._silent_ms = self._hiss_ms = 0.0
        self._heard_something = False

    def push(self, pcm16_8k: bytes) -> str | None:
        """What is wrong with all the sound until here, in words; None: nothing."""
        sound, size = self._rest + pcm16_8k, 2 * _STRIDE
        end = len(sound) // size * size
        for at in range(0, end, size):
            self._look(np.frombuffer(sound, "<i2", _WINDOW, at).astype(np.float32))
        self._rest = sound[end:]
        if len(self._flatness) == _HISS_WINDOWS and sum(self._flatness) > _FLAT * _HISS_WINDOWS:
            return "it is noise"
        if self._stuck_ms >= _STUCK_MS:
            return "it is one constant value"
        if self._silent_ms >= _SILENCE_MS and not self._heard_something:
            return f"it is silent for {_SILENCE_MS / 1000:g} s"
        return None

    @property
    def bad_ms(self) -> float:
        """How long the sound has been at its end what speech is not: noise, or one value."""
        unseen_ms = len(self._rest) / 16
        return max(self._hiss_ms, self._stuck_ms) + unseen_ms

    def _look(self, samples: NDArray[np.float32]) -> None:
        step_ms = _STRIDE / 8
        low, high = float(samples.min()), float(samples.max())
        stuck = high - low <= 2.0 and abs(high) > _SILENT_PEAK
        self._stuck_ms = self._stuck_ms + step_ms if stuck else 0.0
        if high - low <= 2 * _SILENT_PEAK:
            self._silent_ms += step_ms
            self._hiss_ms = 0.0
            self._flatness.clear()
            return
        self._heard_something = True
        is_loud = float(np.dot(samples, samples)) > _WINDOW * _LOUD_RMS**2
        flatness = _flatness(samples) if is_loud else 0.0
        self._flatness.append(flatness)
        self._hiss_ms = self._hiss_ms + step_ms if flatness > _LIKE_HISS else 0.0


def _flatness(samples: NDArray[np.float32]) -> float:
    """Geometric by arithmetic mean of the power spectrum: 0 for a tone, near 0.56 for white noise."""
    power = np.square(np.abs(np.fft.rfft(samples * _TAPER)[_BINS])) + 1e-3
    return float(np.exp(np.mean(np.log(power))) / np.mean(power))
