"""A circuit breaker: whether a route that has failed may be tried again yet: of speech, to a language model.

Pure. closed: in use. open: left alone for a cool-down, which grows while it keeps failing. half-open: one
request at a time may try; its outcome closes or opens it. Refuses to know what a route is. Times in ms,
passed in.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from backend.errors import LlmFailure, SpeechFailure

BreakerState = Literal["closed", "open", "half_open"]
Failure = SpeechFailure | LlmFailure

OUR_OWN: frozenset[str] = frozenset({"bad_request"})
"""Our input was at fault, not the route."""
OPERATOR: frozenset[str] = frozenset({"unauthorized", "quota", "unknown_voice", "not_found"})
"""Does not mend itself: somebody must act."""
CROWDED: frozenset[str] = frozenset({"busy", "rate_limited", "not_ready"})
"""Passes by itself, soon."""
CONNECTION: frozenset[str] = frozenset({"unreachable"})
_WEIGHTS = {"unreachable": 1.5, "no_audio": 1.5, "noise": 1.5, "protocol": 1.5}  # 1.0 for the others


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """Failures weigh 1 to 1.5. Enough weight within the window opens; some kinds open at once."""

    weight: float = 3.0
    window_ms: float = 30_000.0
    healed_by_success: float = 0.25  # of weight: a route that fails more than one time in five is opened
    cool_down_ms: float = 4_000.0
    crowded_ms: float = 1_500.0
    operator_ms: float = 60_000.0
    growth: float = 2.0
    longest: float = 16.0  # times the first cool-down
    longest_crowded: float = 4.0  # some of what a crowded route can carry is lost meanwhile
    trial_ms: float = 10_000.0  # a trial that has told nothing by then is taken to have come to nothing
    settled_ms: float = 60_000.0  # closed for so long: the next cool-down is short again


class Breaker:
    """One route's breaker. Begins closed."""

    def __init__(self, policy: BreakerPolicy | None = None) -> None:
        self._policy = policy or BreakerPolicy()
        self._failures: deque[tuple[float, float]] = deque()  # (at_ms, weight), all within the window
        self._open_until_ms: float | None = None
        self._trial_until_ms = -math.inf
        self._closed_at_ms = -math.inf
        self._openings = 0
        self.reason: Failure | None = None
        """What opened it; None while closed."""

    def state(self, now_ms: float) -> BreakerState:
        """What it is at that time."""
        if self._open_until_ms is None:
            return "closed"
        return "open" if now_ms < self._open_until_ms else "half_open"

    def allows(self, now_ms: float) -> bool:
        """Whether a request may be made now. Asking changes nothing."""
        match self.state(now_ms):
            case "closed":
                return True
            case "open":
                return False
            case "half_open":
                return now_ms >= self._trial_until_ms

    def retry_in_ms(self, now_ms: float) -> float:
        """How long until a request may be made; 0 when it may."""
        if self._open_until_ms is None:
            return 0.0
        return max(0.0, self._open_until_ms - now_ms, self._trial_until_ms - now_ms)

    def began(self, now_ms: float) -> None:
        """A request is made. In half-open it is the trial, and others are held back until it is over."""
        if self.state(now_ms) == "half_open":
            self._trial_until_ms = now_ms + self._policy.trial_ms

    def gave_up(self) -> None:
        """A request was cancelled by us: it tells nothing, and another may be the trial."""
        self._trial_until_ms = -math.inf

    def succeeded(self, now_ms: float) -> None:
        """A request was served. Closes, unless a standing refusal was met after it had begun."""
        match self.state(now_ms):
            case "closed":
                self._heal(self._policy.healed_by_success)
            case "half_open":
                self._close(now_ms)
            case "open":
                if self.reason not in OPERATOR | CROWDED:
                    self._close(now_ms)

    def failed(self, reason: Failure, now_ms: float) -> None:
        """A request failed."""
        if reason in OUR_OWN:
            # It was served with a refusal: nothing is known of the route's health, and the trial is over.
            self.gave_up()
            return
        match self.state(now_ms):
            case "half_open":
                self._open(reason, now_ms)
            case "open":
                if reason in OPERATOR and self.reason not in OPERATOR:
                    self._open(reason, now_ms)
            case "closed":
                self._forget_before(now_ms - self._policy.window_ms)
                self._failures.append((now_ms, _WEIGHTS.get(reason, 1.0)))
                enough = math.fsum(weight for _, weight in self._failures) >= self._policy.weight
                if enough or reason in OPERATOR | CROWDED:
                    self._open(reason, now_ms)

    def probed(self, now_ms: float, *, settles: Collection[str]) -> None:
        """A probe found the route well as far as these kinds of failure go: one of them ends here.

        Whatever only speech itself shows, such as silence, is not settled by a probe.
        """
        if self._open_until_ms is not None and self.reason in settles:
            self._close(now_ms)

    def probe_failed(self, reason: Failure, now_ms: float, *, hold_ms: float = 0.0) -> None:
        """A probe failed. No caller lost by it, so all but a late answer opens at once and keeps it open,
        for `hold_ms` at least: until the next probe has come."""
        if reason == "timeout":
            self.failed(reason, now_ms)
        elif reason not in OUR_OWN:
            self._open(reason, now_ms)
            self._open_until_ms = max(self._open_until_ms or 0.0, now_ms + hold_ms)

    # --- moves -----------------------------------------------------------------------------------------

    def _open(self, reason: Failure, now_ms: float) -> None:
        policy = self._policy
        if self._open_until_ms is None and now_ms - self._closed_at_ms >= policy.settled_ms:
            self._openings = 0
        first_ms, longest = policy.cool_down_ms, policy.longest
        if reason in OPERATOR:
            first_ms = policy.operator_ms
        elif reason in CROWDED:
            first_ms, longest = policy.crowded_ms, policy.longest_crowded
        # The exponent is bounded before it is used: 2.0 ** 2000 overflows.
        steps = min(self._openings, 64)
        self._open_until_ms = now_ms + first_ms * min(policy.growth**steps, longest)
        self._openings += 1
        self._trial_until_ms = -math.inf
        self._failures.clear()
        self.reason = reason

    def _close(self, now_ms: float) -> None:
        self._open_until_ms, self.reason = None, None
        self._trial_until_ms = -math.inf
        self._closed_at_ms = now_ms
        self._failures.clear()

    def _heal(self, weight: float) -> None:
        while weight > 0 and self._failures:
            at_ms, oldest = self._failures.popleft()
            if oldest > weight:
                self._failures.appendleft((at_ms, oldest - weight))
            weight -= oldest

    def _forget_before(self, at_ms: float) -> None:
        while self._failures and self._failures[0][0] <= at_ms:
            self._failures.popleft()
