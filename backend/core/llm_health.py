"""Language models at their servers, and how they do, as health page, metrics and log name them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backend.core.breaker import BreakerState
from backend.core.urls import plain_url


@dataclass(frozen=True, slots=True)
class LlmKey:
    """A model at a server, asked with one key: what fails and recovers as one."""

    model: str
    server: str
    """Its address, up to `/v1`."""
    key: str = ""
    """The name of the setting or secret that holds the key, and never the key; "": none is sent."""

    def __str__(self) -> str:
        return f"{self.model} at {plain_url(self.server)}"


@dataclass(frozen=True, slots=True)
class LlmHealth:
    """One of them. `detail` is a sentence an operator can act on when it is not up."""

    model: str
    server: str
    state: Literal["up", "down", "unknown"]
    detail: str
    key: str | None = None
    breaker: BreakerState = "closed"
    first_word_ms: float | None = None
    """From asking to the first word, as calls met it lately."""
