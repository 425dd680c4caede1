"""What was measured of one route, and what follows from it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from backend.calls.boards.route_board import advice
from backend.core.percentile import percentile
from backend.errors import SpeechFailure

if TYPE_CHECKING:
    from backend.latency.subjects import Subject


@dataclass(frozen=True, slots=True)
class Run:
    """One connection and one request over it that gave speech."""

    connect_ms: float
    first_chunk_ms: float  # from asking, the connection being open
    total_ms: float  # from asking to the end
    sound_ms: float
    bytes: int
    server_first_ms: float | None = None  # what the server says itself, where it does

    @property
    def real_time_factor(self) -> float:
        """Whole time for the time it plays: below 1 is faster than it is spoken."""
        return self.total_ms / self.sound_ms

    @property
    def added_ms(self) -> float | None:
        """What the connection and the way there and back add to the server's own time."""
        return None if self.server_first_ms is None else self.first_chunk_ms - self.server_first_ms


@dataclass(frozen=True, slots=True)
class Failed:
    """One run that failed; `said` is the route's own sentence."""

    reason: SpeechFailure
    said: str


@dataclass(frozen=True, slots=True)
class Spread:
    """Of some runs."""

    min: float
    p50: float
    p95: float


@dataclass(slots=True)
class Measured:
    """The runs of one route so far."""

    subject: Subject
    runs: list[Run] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    stopped: str = ""
    """Why it has fewer runs than were asked for."""

    @property
    def count(self) -> int:
        """Runs, good or bad."""
        return len(self.runs) + len(self.failed)

    def spread(self, name: str) -> Spread | None:
        """Of a figure of `Run`; None when no run has it."""
        return _spread(getattr(run, name) for run in self.runs)

    def failures(self) -> list[tuple[SpeechFailure, int, str]]:
        """Reason, how many times, and a sentence to act on; the most frequent first."""
        last = {failed.reason: failed.said for failed in self.failed}
        reasons = [failed.reason for failed in self.failed]
        counted = [(reason, reasons.count(reason), advice(reason, said)) for reason, said in last.items()]
        return sorted(counted, key=lambda row: -row[1])

    def as_json(self) -> dict[str, Any]:
        """For machines: milliseconds, null where nothing was measured."""
        figures = {
            "connect_ms": self.spread("connect_ms"),
            "first_chunk_ms": self.spread("first_chunk_ms"),
            "total_ms": self.spread("total_ms"),
            "real_time_factor": self.spread("real_time_factor"),
            "sound_ms": self.spread("sound_ms"),
            "bytes": self.spread("bytes"),
            "server_first_audio_ms": self.spread("server_first_ms"),
            "added_ms": self.spread("added_ms"),
        }
        return {
            "route": self.subject.key.name,
            "server": self.subject.server,
            "voice": self.subject.voice,
            "agent": self.subject.agent,
            "runs": self.count,
            "failed": len(self.failed),
            **{name: None if found is None else _rounded(found) for name, found in figures.items()},
            "failures": [
                {"reason": reason, "count": count, "message": sentence}
                for reason, count, sentence in self.failures()
            ],
            "stopped": self.stopped or None,
        }


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(min(known), percentile(known, 50), percentile(known, 95)) if known else None


def _rounded(spread: Spread) -> dict[str, float]:
    return {name: round(value, 3) for name, value in asdict(spread).items()}
