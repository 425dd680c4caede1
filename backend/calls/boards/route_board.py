"""The health of every speech route of this process: fed by what calls and probes met, read by all of them.

Keeps a breaker a route (and one a voice, for voices a vendor does not know), latency, and how fast each voice
speaks. Says every change of state once. Refuses to know adapters and to choose a route.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from backend.calls.boards.standing import NOT_ASKED, blend, keep, rounded, standing
from backend.calls.boards.standing import advice as _sentence
from backend.core.breaker import Breaker, BreakerPolicy
from backend.core.health import RouteHealth, RouteKey
from backend.core.speech import RouteName
from backend.errors import SpeechError

log = logging.getLogger(__name__)

_MAX_VOICES = 1024
_OTHERS_SPOKE_MS = 30_000.0
_MIN_LEARNED_CHARS = 8  # shorter texts are mostly pauses

# May be one voice's own: a broken sample, a model of it that has gone wrong.
_OF_A_VOICE: frozenset[str] = frozenset({"generation_failed", "no_audio", "noise", "protocol"})

Where = Literal["begin", "middle"]
"""Of a piece: where a route broke off."""

# What an operator should know and do, by kind of failure; what the route itself said follows.
_ADVICE = {
    "quota": "Out of quota: buy more, or raise the limit, at the vendor",
    "unauthorized": "The key is refused: set the right one",
    "unknown_voice": "The voice is unknown: correct it in the agent's file",
    "not_found": "Answers, but makes no speech there: correct its address",
    "unreachable": "Cannot be reached: start it, or correct its address",
    "busy": "Full: every stream is taken; add a server, or let each take more",
    "rate_limited": "Too many requests for the vendor's plan: raise it, or share the calls out",
    "not_ready": "Still loading its model: wait",
    "no_audio": "Gives no sound for text: look at the server's log, or the vendor's quota",
    "noise": "Makes noise instead of speech: look at the server's log and its model",
    "slow": "Makes sound slower than it plays: let it take fewer streams, or add a server",
    "timeout": "Too slow: look at its load and at the network",
    "closed": "Drops the connection: look at its log",
    "out_of_memory": "Out of memory: let it take fewer streams, or shorter texts",
}


class SpeechObserver(Protocol):
    """Who counts speech. See `backend.web.metrics`."""

    def speech_request(self, route: RouteName, outcome: str) -> None: ...

    def speech_first_audio(self, route: RouteName, seconds: float) -> None: ...

    def speech_failed_over(self, where: Where, words_resumed: int) -> None: ...

    def speech_retried(self, where: Where, words_resumed: int) -> None: ...


@dataclass(slots=True)
class _Known:
    """What is known of one route, or of one voice of it. `told`: why it was last said to be open."""

    breaker: Breaker
    told: str | None = None
    problem: str = ""
    works: bool = False  # a request or a probe has succeeded, ever
    round_trip_ms: float | None = None
    first_audio_ms: float | None = None
    note: str = ""
    streams: tuple[int, int] | None = None  # free, capacity


class RouteBoard:
    """One per process. Every method returns at once and may be called for a route never seen before.

    The clock is the board's own, so that calls need not tell the time: theirs begin at nought.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        observer: SpeechObserver | None = None,
        policy: BreakerPolicy | None = None,
    ) -> None:
        """`clock`: ms, monotonic."""
        self._clock, self._observer, self._policy = clock, observer, policy
        self._routes: OrderedDict[RouteKey, _Known] = OrderedDict()
        self._voices: OrderedDict[tuple[RouteKey, str], _Known] = OrderedDict()  # unknown to the vendor once
        self._spoke_ms: OrderedDict[tuple[RouteKey, str], float] = OrderedDict()
        self._rates: OrderedDict[tuple[RouteKey, str], float] = OrderedDict()

    # --- told by calls ---------------------------------------------------------------------------------

    def allows(self, key: RouteKey, voice: str = "") -> bool:
        """Whether a call may ask this route (for this voice) now. Asking changes nothing."""
        now_ms = self._clock()
        return all(known.breaker.allows(now_ms) for known in self._found(key, voice))

    def began(self, key: RouteKey, voice: str = "") -> None:
        """A request, or connecting for one, is made: one of succeeded, failed, gave_up, connected follows.

        While a route is on trial this holds other calls back.
        """
        for known in self._found(key, voice):
            known.breaker.began(self._clock())

    def connected(self, key: RouteKey, voice: str = "") -> None:
        """What began was a connecting, and it is done, or was given up: it tells nothing of speech."""
        for known in self._found(key, voice):
            known.breaker.gave_up()

    def succeeded(self, key: RouteKey, *, first_audio_ms: float, voice: str = "") -> None:
        """A request gave its sound, `first_audio_ms` after asking."""
        route = self._route(key)
        route.first_audio_ms = blend(route.first_audio_ms, first_audio_ms)
        keep(self._spoke_ms, (key, voice), self._clock(), _MAX_VOICES)
        for known in self._found(key, voice):
            known.works = True
            known.breaker.succeeded(self._clock())
        self._tell([key], voice)
        if self._observer is not None:
            self._observer.speech_request(key.name, "ok")
            self._observer.speech_first_audio(key.name, first_audio_ms / 1000)

    def failed(self, key: RouteKey, error: SpeechError, *, voice: str = "") -> None:
        """A request, or connecting for one, failed. An unknown voice shuts out that voice alone, and
        so does one that fails while others speak."""
        known = self._at_fault(key, voice, error)
        known.breaker.failed(error.reason, self._clock())
        self._blame(known, error)
        self._tell([key], voice)
        if self._observer is not None:
            self._observer.speech_request(key.name, error.reason)

    def gave_up(self, key: RouteKey, voice: str = "") -> None:
        """We cancelled a request: the caller interrupted, or another route was faster."""
        for known in self._found(key, voice):
            known.breaker.gave_up()
        if self._observer is not None:
            self._observer.speech_request(key.name, "cancelled")

    def failed_over(self, where: Where, words_resumed: int = 0) -> None:
        """A call went on by another route: before any sound, or in the middle, with so many words left."""
        if self._observer is not None:
            self._observer.speech_failed_over(where, words_resumed)

    def retried(self, where: Where, words_resumed: int = 0) -> None:
        """Likewise, by the same route, which was asked again."""
        if self._observer is not None:
            self._observer.speech_retried(where, words_resumed)

    # --- told by probes --------------------------------------------------------------------------------

    def probed(
        self,
        *keys: RouteKey,
        settles: Collection[str],
        voice: str = "",
        round_trip_ms: float | None = None,
        note: str = "",
        streams: tuple[int, int] | None = None,
    ) -> None:
        """A probe found routes to one server (or a voice of it) well, as far as the failures in `settles` go.

        `note`: what an operator may want to know all the same. `streams`: free ones, and all.
        """
        for key in keys:
            route = self._route(key)
            if not voice:
                route.round_trip_ms, route.note, route.streams = round_trip_ms, note, streams
            for known in self._found(key, voice):
                known.works = True
                known.breaker.probed(self._clock(), settles=settles)
        self._tell(keys, voice)

    def probe_failed(
        self, *keys: RouteKey, error: SpeechError, voice: str = "", hold_ms: float = 0.0
    ) -> None:
        """A probe failed: of routes to one server, or of a voice of it. The next is done within `hold_ms`."""
        for key in keys:
            known = self._at_fault(key, voice, error)
            known.breaker.probe_failed(error.reason, self._clock(), hold_ms=hold_ms)
            self._blame(known, error)
        self._tell(keys, voice)

    # --- how fast voices speak -------------------------------------------------------------------------

    def rate_ms_per_char(self, key: RouteKey, voice: str) -> float | None:
        """How long this voice takes for a character, as learnt; None before anything was."""
        return self._rates.get((key, voice))

    def learn(self, key: RouteKey, voice: str, *, characters: int, ms: float) -> None:
        """A whole request of that many characters took so much sound."""
        if characters >= _MIN_LEARNED_CHARS and ms > 0:
            rate = blend(self._rates.get((key, voice)), ms / characters)
            keep(self._rates, (key, voice), rate, _MAX_VOICES)

    # --- told to people --------------------------------------------------------------------------------

    def health(self, keys: Iterable[RouteKey] | None = None) -> list[RouteHealth]:
        """These routes (all that are known, if left out), and each voice that is unknown to one of them."""
        wanted = list(self._routes) if keys is None else list(dict.fromkeys(keys))
        rows = [self._row(key, self._routes.get(key)) for key in wanted]
        for (key, voice), known in self._voices.items():
            if key in wanted and known.breaker.reason is not None:
                rows.append(self._row(key, known, f"voice {voice}: "))
        return rows

    def _row(self, key: RouteKey, known: _Known | None, about: str = "") -> RouteHealth:
        if known is None:
            return RouteHealth(key.name, NOT_ASKED.state, NOT_ASKED.detail, server=key.server)
        how = standing(
            known.breaker,
            self._clock(),
            works=known.works,
            note=known.note or "works",
            advice=f"{about}{_advice(known)}",
            tried_by="call",
        )
        free, capacity = known.streams if known.streams and how.state == "up" else (None, None)
        return RouteHealth(
            key.name,
            how.state,
            how.detail,
            latency_ms=rounded(known.round_trip_ms),
            server=key.server,
            breaker=how.breaker,
            first_audio_ms=rounded(known.first_audio_ms),
            streams_free=free,
            streams_capacity=capacity,
        )

    def _tell(self, keys: Sequence[RouteKey], voice: str) -> None:
        """Log what changed since it was last told: in one line what changed alike."""
        changed: dict[str, list[str]] = {}
        for key in keys:
            for known in self._found(key, voice):
                now, before = known.breaker.reason, known.told
                known.told = now
                if now == before:
                    continue
                what = "works again" if now is None else f"is left alone for now: {_advice(known)}"
                of = f"{key.name} (voice {voice})" if known is self._voices.get((key, voice)) else key.name
                changed.setdefault(f"at {key.server} {what}", []).append(of)
        for what, names in changed.items():
            level = logging.INFO if what.endswith("works again") else logging.WARNING
            log.log(level, "speech by %s %s", " and ".join(names), what)

    # --- helpers ---------------------------------------------------------------------------------------

    def _found(self, key: RouteKey, voice: str) -> list[_Known]:
        found = (self._routes.get(key), self._voices.get((key, voice)))
        return [known for known in found if known is not None]

    def _at_fault(self, key: RouteKey, voice: str, error: SpeechError) -> _Known:
        """What a failure is told of: the route, or one voice of it, and then the route's trial is over."""
        route, reason = self._route(key), str(error.reason)
        is_its_own = reason in _OF_A_VOICE and self._others_speak(key, voice)
        if reason != "unknown_voice" and not is_its_own:
            return route
        route.breaker.gave_up()
        known = self._voices.get((key, voice)) or _Known(Breaker(self._policy))
        keep(self._voices, (key, voice), known, _MAX_VOICES)
        return known

    def _others_speak(self, key: RouteKey, voice: str) -> bool:
        since_ms = self._clock() - _OTHERS_SPOKE_MS
        return any(
            at_ms >= since_ms and of == key and other != voice
            for (of, other), at_ms in self._spoke_ms.items()
        )

    def _blame(self, known: _Known, error: SpeechError) -> None:
        if known.breaker.reason in (None, error.reason):
            known.problem = str(error)

    def _route(self, key: RouteKey) -> _Known:
        route = self._routes.get(key) or _Known(Breaker(self._policy))
        keep(self._routes, key, route)
        return route


def advice(reason: str, said: str) -> str:
    """A failure in a sentence an operator can act on; `said`: what the route itself said of it."""
    return _sentence(_ADVICE, reason, said)


def _advice(known: _Known) -> str:
    return advice(known.breaker.reason or "", known.problem)
