"""Whether something grows from round to round, judged against its own noise and not by two readings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import quantiles


def steady_growth(rounds: Sequence[float]) -> float:
    """By how much `rounds` grow each: at least so much in three of four pairs of rounds.

    Noise pairs as many falls as rises, so it gives nought or less; one high last reading changes next to
    nothing (Theil and Sen's slope, its lower quartile instead of its median).
    """
    slopes = [
        (rounds[later] - rounds[earlier]) / (later - earlier)
        for earlier, later in combinations(range(len(rounds)), 2)
    ]
    return quantiles(slopes, n=4)[0]
