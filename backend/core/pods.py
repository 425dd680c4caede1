"""Which of several speech servers a call goes to. Pure: what is known of each, and chance, are passed in."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

PodState = Literal["healthy", "loading", "degraded"]
_SIMILAR = 0.1  # loads this close are alike: the nearer server is taken
_DEGRADED_LOAD = 0.5  # a server that has failed lately counts as half full
_ASSUMED_CAPACITY = 8  # of a server that does not tell


@dataclass(frozen=True, slots=True)
class PodReport:
    """What a speech server says of itself. Streams and places in the queue; None: it does not tell.

    `unbound_speakers`: those that no voice is bound to, so that each answer sounds like a different person.
    """

    state: PodState = "healthy"
    engine: str = ""
    model: str = ""
    device: str = ""
    active: int = 0
    capacity: int | None = None
    waiting: int = 0
    max_waiting: int = 0
    notice: str = ""
    unbound_speakers: tuple[int, ...] | None = None

    @property
    def free(self) -> int | None:
        """Streams that could begin now."""
        return None if self.capacity is None else max(0, self.capacity - self.active)

    @property
    def full(self) -> bool:
        """Whether a request would be turned away."""
        return self.free == 0 and self.waiting >= self.max_waiting


@dataclass(frozen=True, slots=True)
class Pod:
    """One speech server as a call sees it. `recent`: calls sent there that may not show in the report yet."""

    url: str
    usable: bool  # not known to fail
    report: PodReport | None = None  # None: nothing is known yet
    round_trip_ms: float = math.inf
    recent: float = 0.0

    @property
    def capacity(self) -> int:
        told = self.report.capacity if self.report is not None else None
        return max(1, _ASSUMED_CAPACITY if told is None else told)

    @property
    def load(self) -> float:
        """0 for idle, 1 for full, more when requests wait."""
        report = self.report or PodReport()
        busy = (report.active + report.waiting + self.recent) / self.capacity
        return busy + (_DEGRADED_LOAD if report.state == "degraded" else 0.0)

    @property
    def rank(self) -> int:
        """Better ones first: those with room; full or unknown ones; those known to fail."""
        if not self.usable:
            return 2
        return 0 if self.report is not None and self.load < 1 else 1


def pick(pods: Sequence[Pod], chance: Callable[[], float]) -> Pod | None:
    """The server for one more call; None when there is none. `chance`: uniform over [0, 1).

    Of the best rank two are drawn, by free streams, and the better is taken: many callers who know the same
    do not all go to the same server.
    """
    if not pods:
        return None
    best = min(pod.rank for pod in pods)
    left = [pod for pod in pods if pod.rank == best]
    one = _draw(left, chance)
    left.remove(one)
    if not left:
        return one
    return _better(one, _draw(left, chance))


def _better(one: Pod, other: Pod) -> Pod:
    if abs(one.load - other.load) > _SIMILAR:
        return one if one.load < other.load else other
    return min(one, other, key=lambda pod: (pod.round_trip_ms, pod.load))


def _draw(pods: Sequence[Pod], chance: Callable[[], float]) -> Pod:
    weights = [max(0.01, pod.capacity * (1 - pod.load)) for pod in pods]
    point = chance() * math.fsum(weights)
    for pod, weight in zip(pods, weights, strict=True):
        point -= weight
        if point < 0:
            return pod
    return pods[-1]
