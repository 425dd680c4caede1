"""How long one caller pauses before going on, learnt as the call goes. Pure.

A slow speaker is given more time before we take a turn to be over, a brisk one less.
"""

from __future__ import annotations

import math

LEAST, MOST = 0.85, 2.5
_HEADROOM = 1.4  # a wait this much longer than the caller's pauses seldom cuts one
_FORGET = 0.08  # how fast shorter pauses win back what a longer one took
_FLUENT = 0.5  # what a long turn without a pause counts as


class CallerPace:
    """One caller's pauses against the waits that most callers get. 1.0 to begin with."""

    def __init__(self) -> None:
        self._use = 1.0 / _HEADROOM  # how much of the wait this caller's longer pauses take

    @property
    def factor(self) -> float:
        """What to multiply the wait after a complete sentence with, 0.85 to 2.5; others grow by as much."""
        return min(MOST, max(LEAST, self._use * _HEADROOM))

    def paused(self, pause_ms: float, wait_ms: float, usual_ms: float) -> None:
        """The caller went on after a pause, where most callers would have been given `wait_ms`.

        `usual_ms`: what they are given after a complete sentence. A pause after "the …" says less about that.
        """
        reference_ms = math.sqrt(wait_ms * usual_ms)
        if reference_ms > 0 and math.isfinite(pause_ms):
            self._learn(max(0.0, pause_ms) / reference_ms)

    def fluent(self) -> None:
        """The caller spoke at some length without a pause."""
        self._learn(_FLUENT)

    def _learn(self, use: float) -> None:
        # At once upwards: each further cut-off annoys. Slowly down.
        use = min(use, MOST / _HEADROOM)
        self._use = use if use > self._use else self._use + _FORGET * (use - self._use)
