"""The health of every language model of this process: fed by the turns of all its calls, read by all.

Keeps a breaker for each and how soon it begins to answer. Says every change of state once. Refuses to know
adapters, keys, and what takes a model's place.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from backend.calls.boards.standing import NOT_ASKED, Standing, advice, blend, keep, rounded, standing
from backend.core.breaker import OUR_OWN, Breaker, BreakerPolicy
from backend.core.llm_health import LlmHealth, LlmKey
from backend.errors import LlmError

log = logging.getLogger(__name__)

POLICY = BreakerPolicy(
    # A caller waits seconds for a model that hangs: the second in a minute is the last.
    weight=2.0,
    window_ms=60_000.0,
    cool_down_ms=5_000.0,
    # Nobody looks whether it is mended but turns, and a refusal costs one no time.
    operator_ms=15_000.0,
    longest=12.0,
)
# A request that was given less than so many times the usual time to its first word tells nothing by failing.
_PATIENT = 2.0
# What an operator should know and do, by kind of failure; what the server itself said follows.
_ADVICE = {
    "timeout": "Does not answer in time: look at its load and at the network",
    "unauthorized": "Wants a key: set OPENAI_API_KEY, or llm.api_key in the agent's file",
    "rate_limited": "Too many requests for the key's plan: raise it, or share the calls out",
    "quota": "Out of quota: buy more, or raise the limit, at the vendor",
    "not_found": "There is no such model: correct its name, or the address",
    "unreachable": "Cannot be reached: start it, or correct its address",
    "server": "Fails: look at its log, or the vendor's status",
    "protocol": "Answers in another way than agreed: correct its address",
    "bad_request": "Refuses what it is asked: correct the agent's `llm`",
}


class LlmObserver(Protocol):
    """Who counts requests. See `backend.web.llm_metrics`."""

    def llm_request(self, model: str, outcome: str) -> None: ...

    def llm_first_word(self, model: str, seconds: float) -> None: ...


@dataclass(slots=True)
class _Known:
    """What is known of one model. `told`: why it was last said to be left alone."""

    breaker: Breaker
    told: str | None = None
    problem: str = ""
    refused: str = ""  # what it said to the last request, if it was that which was at fault
    works: bool = False
    first_word_ms: float | None = None


class LlmBoard:
    """One per process. Every method returns at once and may be called for a model never seen before."""

    def __init__(
        self,
        clock: Callable[[], float],
        observer: LlmObserver | None = None,
        policy: BreakerPolicy = POLICY,
    ) -> None:
        """`clock`: ms, monotonic."""
        self._clock, self._observer, self._policy = clock, observer, policy
        self._models: OrderedDict[LlmKey, _Known] = OrderedDict()

    def gate(self, key: LlmKey) -> LlmGate:
        """What those who ask this model tell it, and are told."""
        return LlmGate(self, key)

    def allows(self, key: LlmKey) -> bool:
        """Whether a turn may ask this model now. Asking changes nothing."""
        known = self._models.get(key)
        return known is None or known.breaker.allows(self._clock())

    def began(self, key: LlmKey) -> None:
        """A request is made: one of answered, failed, gave_up follows."""
        self._model(key).breaker.began(self._clock())

    def answered(self, key: LlmKey, *, first_word_ms: float) -> None:
        """An answer has begun. It may fail all the same."""
        known = self._model(key)
        known.works, known.refused = True, ""
        known.first_word_ms = blend(known.first_word_ms, first_word_ms)
        known.breaker.succeeded(self._clock())
        self._tell(key, known)
        if self._observer is not None:
            self._observer.llm_request(key.model, "ok")
            self._observer.llm_first_word(key.model, first_word_ms / 1000)

    def failed(self, key: LlmKey, error: LlmError, *, after_ms: float) -> None:
        """A request failed, or its answer broke off, so long after it was made."""
        known = self._model(key)
        usual_ms = known.first_word_ms
        if error.reason == "timeout" and usual_ms is not None and after_ms < _PATIENT * usual_ms:
            known.breaker.gave_up()  # one agent's impatience must not take the model from all others
        else:
            self._blame(known, error)
        self._tell(key, known)
        if self._observer is not None:
            self._observer.llm_request(key.model, error.reason)

    def _blame(self, known: _Known, error: LlmError) -> None:
        known.breaker.failed(error.reason, self._clock())
        if error.reason in OUR_OWN:
            known.refused = str(error)
        elif known.breaker.reason in (None, error.reason):
            known.problem = str(error)

    def gave_up(self, key: LlmKey) -> None:
        """We cancelled a request: the caller went on speaking, or the answer was not needed."""
        self._model(key).breaker.gave_up()
        if self._observer is not None:
            self._observer.llm_request(key.model, "cancelled")

    def health(self, keys: Iterable[LlmKey]) -> list[LlmHealth]:
        """These models, each once."""
        return [self._row(key) for key in dict.fromkeys(keys)]

    def _row(self, key: LlmKey) -> LlmHealth:
        known = self._models.get(key)
        how, first_word_ms = NOT_ASKED, None
        if known is not None:
            how, first_word_ms = self._standing(key, known), rounded(known.first_word_ms)
        return LlmHealth(
            key.model, key.server, how.state, how.detail, key.key or None, how.breaker, first_word_ms
        )

    def _standing(self, key: LlmKey, known: _Known) -> Standing:
        now_ms = self._clock()
        if known.refused and not known.works and known.breaker.state(now_ms) == "closed":
            return Standing("down", advice(_ADVICE, "bad_request", known.refused))
        note = f"works; refused its last request ({known.refused})." if known.refused else "works"
        return standing(
            known.breaker,
            now_ms,
            works=known.works,
            note=note,
            advice=_advice(key, known),
            tried_by="turn",
        )

    def _tell(self, key: LlmKey, known: _Known) -> None:
        now, before = known.breaker.reason, known.told
        known.told = now
        if now is not None and now != before:
            log.warning("language model %s is left alone for now: %s", key, _advice(key, known))
        elif now is None and before is not None:
            log.info("language model %s works again", key)

    def _model(self, key: LlmKey) -> _Known:
        known = self._models.get(key) or _Known(Breaker(self._policy))
        keep(self._models, key, known)
        return known


class LlmGate:
    """One model, as its adapter sees the board. See `backend.llm.gate`."""

    def __init__(self, board: LlmBoard, key: LlmKey) -> None:
        self._board, self._key = board, key

    def allows(self) -> bool:
        return self._board.allows(self._key)

    def began(self) -> None:
        self._board.began(self._key)

    def answered(self, first_word_ms: float) -> None:
        self._board.answered(self._key, first_word_ms=first_word_ms)

    def failed(self, error: LlmError, after_ms: float) -> None:
        self._board.failed(self._key, error, after_ms=after_ms)

    def gave_up(self) -> None:
        self._board.gave_up(self._key)


def _advice(key: LlmKey, known: _Known) -> str:
    whose = {"unauthorized": f"{key.key} is refused: set the right key"} if key.key else {}
    return advice({**_ADVICE, **whose}, known.breaker.reason, known.problem)
