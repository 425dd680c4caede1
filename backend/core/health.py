"""How a speech route does, as the health page tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class RouteHealth:
    """One speech route. `detail` is a sentence an operator can act on when it is down."""

    name: str
    state: Literal["up", "down", "unknown"]
    detail: str
    latency_ms: float | None = None
