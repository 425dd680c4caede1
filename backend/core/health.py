"""How speech routes and their servers do, as the health page and the log tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backend.core.breaker import BreakerState
from backend.core.speech import RouteName
from backend.core.urls import plain_url


@dataclass(frozen=True, slots=True)
class RouteKey:
    """A route at a server: what fails and recovers as one."""

    name: RouteName
    server: str
    """Its address, or the vendor's."""

    def __str__(self) -> str:
        return f"{self.name} at {plain_url(self.server)}"


@dataclass(frozen=True, slots=True)
class RouteHealth:
    """One speech route. `detail` is a sentence an operator can act on when it is down.

    `latency_ms`: a round trip to its server, nothing made. `first_audio_ms`: from asking to the first sound,
    as calls met it lately.
    """

    name: str
    state: Literal["up", "down", "unknown"]
    detail: str
    latency_ms: float | None = None
    server: str | None = None
    breaker: BreakerState = "closed"
    first_audio_ms: float | None = None
    streams_free: int | None = None
    streams_capacity: int | None = None
