"""Does a sound stand out from the line's own noise? Follows the noise floor, knows nothing of speech."""

from __future__ import annotations

import math
from collections import deque

_ABOVE_FLOOR_DB = 18.0
_AUDIBLE_DBFS = -36.0  # quieter than this is never loud: breath, line hum, a far-off room
_SOFT_DBFS = -46.0  # but an "s" is no louder
_ONSET_MS = 160.0  # a word's first vowel comes within this after its first consonant
_LEAST_SOFT_MS = 40.0
_RISE_DB_PER_S = 2.0  # how fast the floor follows a noise that has come to stay
_SILENCE_DBFS = -96.0


class NoiseFloor:
    """One line's noise floor. It falls at once and rises slowly, so that speech does not lift it far.

    Nothing stands out until something quieter was heard: a call may begin in a noisy street.
    """

    def __init__(self) -> None:
        self._floor_dbfs = 0.0
        self._lately: deque[tuple[float, bool]] = deque()  # ms, and whether it stood out softly
        self._lately_ms = 0.0

    @property
    def soft_before(self) -> bool:
        """Whether something soft stood out within the last 160 ms: a breath, or the "s" of "sorry"."""
        return sum(ms for ms, soft in self._lately if soft) >= _LEAST_SOFT_MS

    def loud(self, rms: float, window_ms: float) -> bool:
        """Whether a window of `rms` (of int16 samples, 0–32768) stands out by 18 dB."""
        level_dbfs = 20 * math.log10(rms / 32768) if rms > 0 else _SILENCE_DBFS
        stands_out = level_dbfs >= self._floor_dbfs + _ABOVE_FLOOR_DB
        loud = stands_out and level_dbfs >= _AUDIBLE_DBFS
        self._lately.append((window_ms, stands_out and _SOFT_DBFS <= level_dbfs < _AUDIBLE_DBFS))
        self._lately_ms += window_ms
        while self._lately_ms - self._lately[0][0] >= _ONSET_MS:
            self._lately_ms -= self._lately.popleft()[0]
        rise_db = _RISE_DB_PER_S * window_ms / 1000
        self._floor_dbfs = max(-75.0, min(level_dbfs, self._floor_dbfs + rise_db))
        return loud
