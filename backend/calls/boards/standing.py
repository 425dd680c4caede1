"""What the boards of routes share: how a breaker stands is told, averages, bounded tables. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from backend.core.breaker import Breaker, BreakerState

K = TypeVar("K")
V = TypeVar("V")
MAX_ROUTES = 256
_EMA = 0.2


@dataclass(frozen=True, slots=True)
class Standing:
    """How a route stands, as the health page tells it."""

    state: Literal["up", "down", "unknown"]
    detail: str
    breaker: BreakerState = "closed"


NOT_ASKED = Standing("unknown", "not asked yet")


def standing(
    breaker: Breaker, now_ms: float, *, works: bool, note: str, advice: str, tried_by: str
) -> Standing:
    """By its breaker. `note`: told of one that works; `advice`: of one that is left alone, which `tried_by`
    (a call, an utterance) tries again."""
    state = breaker.state(now_ms)
    if state == "open":
        retry_s = max(1, round(breaker.retry_in_ms(now_ms) / 1000))
        return Standing("down", f"{advice} It is tried again in {retry_s} s.", state)
    if state == "half_open":
        return Standing("unknown", f"{advice} The next {tried_by} tries it.", state)
    return Standing("up", note, state) if works else NOT_ASKED


def advice(sentences: Mapping[str, str], reason: str | None, said: str) -> str:
    """A failure in a sentence an operator can act on; `said`: what the route itself said of it."""
    return f"{sentences.get(reason or '', 'Fails')} ({said})."


def blend(before: float | None, now: float) -> float:
    """An average that follows what is new."""
    return now if before is None else before + _EMA * (now - before)


def rounded(ms: float | None) -> float | None:
    """For people."""
    return None if ms is None else round(ms, 1)


def keep(into: OrderedDict[K, V], key: K, value: V, most: int = MAX_ROUTES) -> None:
    """As the one touched last; beyond `most`, the one longest untouched goes."""
    into[key] = value
    into.move_to_end(key)
    if len(into) > most:
        into.popitem(last=False)
