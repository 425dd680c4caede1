"""What happened on one simulated line: plain frozen records, and their JSON.

All `*_ms` are milliseconds on the line's clock, whose zero is the first media frame; what happened before
(ringing, answering) has a negative time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Direction = Literal["inbound", "outbound"]
EventKind = Literal[
    "ringing", "answered", "streaming", "caller_speech", "agent_speech", "underrun", "first_audio", "mark",
    "clear", "interrupt", "dtmf", "speak", "speak_stop", "transfer", "recording", "media_error",
    "script_failed", "hangup",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class LineEvent:
    """One thing that happened; `data` by kind is described in docs/reference/simulator.md."""

    t_ms: float
    kind: EventKind
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LineRecord:
    """One call as the person at the other end lived it. Events are in order of `t_ms`."""

    call_control_id: str
    direction: Direction
    codec: str
    started_at_unix_s: float
    duration_ms: float
    events: tuple[LineEvent, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; `from_json` reads it back."""
        return {**asdict(self), "events": [asdict(event) for event in self.events]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LineRecord:
        """Raises KeyError or TypeError when the document is not a line record."""
        events = tuple(LineEvent(**event) for event in document["events"])
        return cls(**{**document, "events": events})


class Logbook:
    """Collects a call's events while the line's zero is not known yet."""

    def __init__(self, *, now_s: float, unix_s: float) -> None:
        self._zero_s, self._zero_unix_s = now_s, unix_s
        self._running = False
        self._early: list[tuple[float, LineEvent]] = []
        self._events: list[LineEvent] = []

    def start_clock(self, *, now_s: float, unix_s: float) -> None:
        """The line begins: from now on events carry its time."""
        self._zero_s, self._zero_unix_s, self._running = now_s, unix_s, True

    def add(self, event: LineEvent, *, now_s: float) -> float | None:
        """Keep an event; before the clock runs its own time means nothing. → its time, None if not known."""
        if not self._running:
            self._early.append((now_s, event))
            return None
        self._events.append(event)
        return event.t_ms

    def record(
        self, *, call_control_id: str, direction: Direction, codec: str, duration_ms: float
    ) -> LineRecord:
        """Everything so far. On a call that never had a line, zero is when it was placed."""
        early = [
            LineEvent(1000 * (at_s - self._zero_s), event.kind, event.data) for at_s, event in self._early
        ]
        events = sorted(early + self._events, key=lambda event: event.t_ms)
        return LineRecord(call_control_id, direction, codec, self._zero_unix_s, duration_ms, tuple(events))
