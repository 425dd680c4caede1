"""How a lot of numbers is spread: percentiles. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles of some numbers, each one of them; `worst` is the largest."""

    count: int
    p50: float
    p95: float
    p99: float
    worst: float

    @classmethod
    def of(cls, numbers: Iterable[float]) -> Self | None:
        """None: there were no numbers."""
        rising = sorted(numbers)
        if not rising:
            return None
        p50, p95, p99, worst = (round(percentile(rising, part), _DECIMALS) for part in (50, 95, 99, 100))
        return cls(len(rising), p50, p95, p99, worst)


def percentile(rising: Sequence[float], part: float) -> float:
    """The smallest of the numbers that `part` percent of them do not exceed. Never flatters: no mean of two.

    Raises ValueError without numbers or for a part that is none.
    """
    if not rising or not 0 < part <= 100:
        raise ValueError(f"there is no {part}th percentile of {len(rising)} numbers")
    return rising[math.ceil(len(rising) * part / 100) - 1]
