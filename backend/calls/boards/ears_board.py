"""The health of every speech-to-text route of this process: fed by calls, read by all.

Keeps a breaker a route and how long it takes. Says every change of state once. Refuses to know adapters and
to choose a route.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from backend.calls.boards.standing import NOT_ASKED, advice, blend, keep, rounded, standing
from backend.core.breaker import Breaker
from backend.core.health import RouteHealth
from backend.core.hearing import EarKey
from backend.errors import HearingError

log = logging.getLogger(__name__)

# What an operator should know and do, by kind of failure; what the route itself said follows.
_ADVICE = {
    "quota": "Out of quota: buy more, or raise the limit, at the vendor",
    "unauthorized": "The key is refused: set the right one",
    "unreachable": "Cannot be reached: start it, or correct its address",
    "busy": "Too many utterances wait: add another route, or share the calls out",
    "rate_limited": "Too many requests for the vendor's plan: raise it, or share the calls out",
    "not_ready": "Is not listening yet: wait",
    "no_words": "Hears nothing where another route hears words: look at its model and language",
    "timeout": "Too slow: look at its load and at the network",
    "closed": "Drops the connection: look at its log",
    "protocol": "Answers in another way than agreed: correct its address",
}


class HearingObserver(Protocol):
    """Who counts speech-to-text. See `backend.web.metrics`."""

    def hearing_request(self, route: str, outcome: str) -> None: ...

    def hearing_took(self, route: str, seconds: float) -> None: ...

    def hearing_failed_over(self) -> None: ...


@dataclass(slots=True)
class _Known:
    """What is known of one route. `told`: why it was last said to be left alone."""

    breaker: Breaker = field(default_factory=Breaker)
    told: str | None = None
    problem: str = ""
    works: bool = False
    took_ms: float | None = None


class EarsBoard:
    """One per process. Every method returns at once and may be called for a route never seen before."""

    def __init__(self, clock: Callable[[], float], observer: HearingObserver | None = None) -> None:
        """`clock`: ms, monotonic."""
        self._clock, self._observer = clock, observer
        self._routes: OrderedDict[EarKey, _Known] = OrderedDict()

    def allows(self, key: EarKey) -> bool:
        """Whether a call may ask this route now. Asking changes nothing."""
        known = self._routes.get(key)
        return known is None or known.breaker.allows(self._clock())

    def began(self, key: EarKey) -> None:
        """A request is made: one of succeeded, failed, gave_up follows."""
        self._route(key).breaker.began(self._clock())

    def succeeded(self, key: EarKey, *, took_ms: float) -> None:
        """A request was answered, with words or with none."""
        known = self._route(key)
        known.works = True
        known.took_ms = blend(known.took_ms, took_ms)
        known.breaker.succeeded(self._clock())
        self._tell(key, known)
        if self._observer is not None:
            self._observer.hearing_request(key.name, "ok")
            self._observer.hearing_took(key.name, took_ms / 1000)

    def failed(self, key: EarKey, error: HearingError) -> None:
        """A request failed."""
        known = self._route(key)
        known.breaker.failed(error.reason, self._clock())
        if known.breaker.reason in (None, error.reason):
            known.problem = str(error)
        self._tell(key, known)
        if self._observer is not None:
            self._observer.hearing_request(key.name, error.reason)

    def gave_up(self, key: EarKey) -> None:
        """We cancelled a request: the caller went on speaking."""
        self._route(key).breaker.gave_up()
        if self._observer is not None:
            self._observer.hearing_request(key.name, "cancelled")

    def failed_over(self) -> None:
        """An utterance was heard by a later route than the first that was asked."""
        if self._observer is not None:
            self._observer.hearing_failed_over()

    def health(self, keys: Iterable[EarKey] | None = None) -> list[RouteHealth]:
        """These routes; all that are known, if left out."""
        wanted = list(self._routes) if keys is None else list(dict.fromkeys(keys))
        return [self._row(key) for key in wanted]

    def _row(self, key: EarKey) -> RouteHealth:
        known = self._routes.get(key)
        how = NOT_ASKED
        if known is not None:
            how = standing(
                known.breaker,
                self._clock(),
                works=known.works,
                note="works",
                advice=_advice(known),
                tried_by="utterance",
            )
        took_ms = None if known is None else rounded(known.took_ms)
        return RouteHealth(key.name, how.state, how.detail, took_ms, server=key.server, breaker=how.breaker)

    def _tell(self, key: EarKey, known: _Known) -> None:
        now, before = known.breaker.reason, known.told
        known.told = now
        if now is not None and now != before:
            log.warning("speech-to-text by %s is left alone for now: %s", key, _advice(known))
        elif now is None and before is not None:
            log.info("speech-to-text by %s works again", key)

    def _route(self, key: EarKey) -> _Known:
        known = self._routes.get(key) or _Known()
        keep(self._routes, key, known)
        return known


def _advice(known: _Known) -> str:
    return advice(_ADVICE, known.breaker.reason, known.problem)
