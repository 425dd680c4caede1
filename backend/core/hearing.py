"""Ways to hear a caller, and how they do, as calls, health page and log see them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from backend.core.urls import plain_url

EarName = Literal["local", "telnyx", "elevenlabs", "openai"]
"""Speech-to-text routes as agents, health page and metrics name them."""

RATE_HZ = 8_000
MOST_CHARACTERS = 4_000
"""Of one utterance: four minutes of fast speech, where at most one is recognised at a time."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class EarKey:
    """A route at a server: what fails and recovers as one."""

    name: EarName
    server: str
    """Its address, or the vendor's; "this machine"."""

    def __str__(self) -> str:
        return f"{self.name} at {plain_url(self.server)}"


@dataclass(frozen=True, slots=True)
class CarrierHearing:
    """What the carrier is asked for when it is to listen along."""

    model: str | None
    """As the carrier names it, "deepgram/nova-3"; None: the carrier's own."""
    language: str
    """As in "en-US"."""
    key_terms: tuple[str, ...] = ()


def deadline_ms(first_ms: float, audio_ms: float) -> float:
    """How long one route may take for an utterance: `first_ms`, and more for one beyond ten seconds."""
    return first_ms + 0.05 * max(0.0, audio_ms - 10_000.0)


def asks_again(audio_ms: float) -> bool:
    """Whether "no words" in so much audio is worth another route's opinion; in a cough it is not."""
    return audio_ms >= 1_200.0


def overrules(text: str) -> bool:
    """Whether another route's words are to be believed although the first heard none.

    In noise a recogniser may hear a word; it does not make up sentences as easily.
    """
    return len(text.split()) >= 2


def tidy(text: str) -> str:
    """Words as a route gave them, as text that fits every database and request: no control characters, no
    halves of characters, and of a recogniser that repeats itself without end only the beginning."""
    text = " ".join(_CONTROL.sub(" ", text[: 2 * MOST_CHARACTERS]).split())
    if len(text) <= MOST_CHARACTERS:
        return text
    whole, _, _ = text[: MOST_CHARACTERS + 1].rpartition(" ")
    return whole or text[:MOST_CHARACTERS]
