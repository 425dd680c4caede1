"""Percentiles of few measured values. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """Linear between the two nearest values, as NumPy has it. Raises IndexError on no values."""
    ranked = sorted(values)
    place = (len(ranked) - 1) * percent / 100
    below, above = ranked[math.floor(place)], ranked[math.ceil(place)]
    return below + (above - below) * (place % 1)
