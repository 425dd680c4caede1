"""Does a sound stand out from the line's own noise? Follows the noise floor, knows nothing of speech."""

from __future__ import annotations

import math

_ABOVE_FLOOR_DB = 18.0
_AUDIBLE_DBFS = -36.0  # quieter than this is never loud: breath, line hum, a far-off room
_RISE_DB_PER_S = 2.0  # how fast the floor follows a noise that has come to stay
_SILENCE_DBFS = -96.0


class NoiseFloor:
    """One line's noise floor. It falls at once and rises slowly, so that speech does not lift it far.

    Nothing stands out until something quieter was heard: a call may begin in a noisy street.
    """

    def __init__(self) -> None:
        self._floor_dbfs = 0.0

    def loud(self, rms: float, window_ms: float) -> bool:
        """Whether a window of `rms` (of int16 samples, 0–32768) stands out by 18 dB."""
        level_dbfs = 20 * math.log10(rms / 32768) if rms > 0 else _SILENCE_DBFS
        stands_out = level_dbfs >= max(_AUDIBLE_DBFS, self._floor_dbfs + _ABOVE_FLOOR_DB)
        rise_db = _RISE_DB_PER_S * window_ms / 1000
        self._floor_dbfs = max(-75.0, min(level_dbfs, self._floor_dbfs + rise_db))
        return stands_out
