"""How long to wait for a voice before another must take over. Pure: time and lead are passed in.

The lead is sound already made and not yet played: while it lasts, waiting costs the caller nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from backend.errors import SpeechFailure


@dataclass(frozen=True, slots=True)
class Patience:
    """Milliseconds, and a share of real time."""

    first_audio_ms: float = 1500.0
    hedge_ms: float | None = None  # a first sound later than this starts a second route beside the first
    switch_ms: float = 450.0  # what another route needs to begin to speak: so much lead is kept for it
    stall_ms: float = 500.0  # a pause between chunks that is no failure yet, however little lead there is
    slow_below: float = 0.92  # sound made per time waited
    slow_after_ms: float = 600.0  # how long that is looked at before it counts
    dry_ms: float = 60.0  # with less lead the line is about to fall silent


class Watch:
    """One request of one route, from asking to its last chunk."""

    def __init__(self, patience: Patience, asked_ms: float, lead_ms: float) -> None:
        self._patience = patience
        self._asked_ms, self._lead_at_start_ms = asked_ms, lead_ms
        self._made_ms = self._waited_ms = 0.0
        self.first_audio_ms: float | None = None  # after asking

    def give_up_ms(self, now_ms: float, lead_ms: float) -> float:
        """Until when to wait for the next chunk, being asked for now."""
        patience = self._patience
        if self.first_audio_ms is None:
            free_ms = self._lead_at_start_ms - patience.switch_ms
            return self._asked_ms + max(patience.first_audio_ms, free_ms)
        return now_ms + max(patience.stall_ms, lead_ms - patience.switch_ms)

    def hedge_ms(self) -> float | None:
        """When to start a second route beside a first that has not spoken by then."""
        after_ms = self._patience.hedge_ms
        if after_ms is None:
            return None
        return self._asked_ms + max(after_ms, self._lead_at_start_ms - self._patience.switch_ms)

    def got(self, duration_ms: float, *, asked_ms: float, now_ms: float) -> None:
        """A chunk came at `now_ms`, having been asked for at `asked_ms`."""
        if self.first_audio_ms is None:
            self.first_audio_ms = now_ms - self._asked_ms
            return  # what was made before anybody waited says nothing of the speed
        self._made_ms += duration_ms
        self._waited_ms += now_ms - asked_ms

    def is_too_slow(self, lead_ms: float) -> bool:
        """Whether sound comes slower than it plays, and the caller begins to notice."""
        patience = self._patience
        return (
            lead_ms < patience.dry_ms
            and self._waited_ms >= patience.slow_after_ms
            and self._made_ms < patience.slow_below * self._waited_ms
        )


# They show themselves at once, and may be of one connection or one request: a server that was started anew,
# a proxy that let go, a sentence that went wrong.
_OF_ONE_REQUEST: frozenset[SpeechFailure] = frozenset(
    {"closed", "unreachable", "no_audio", "protocol", "noise", "generation_failed"}
)
_STANDING: frozenset[SpeechFailure] = frozenset(
    {"bad_request", "unauthorized", "quota", "unknown_voice", "not_found"}
)


def may_go_well_anew(reason: SpeechFailure) -> bool:
    """Whether the same route, asked again over a fresh connection, may well say it, and no time is lost."""
    return reason in _OF_ONE_REQUEST


def may_mend_itself(reason: SpeechFailure) -> bool:
    """Whether the same route may be well again within seconds, with nobody's help."""
    return reason not in _STANDING


# Our own fault, whoever is asked: the route is as good as before.
_OURS: frozenset[SpeechFailure] = frozenset({"bad_request"})


def counts_against_route(reason: SpeechFailure) -> bool:
    """Whether a failure says something about the route, and not about what it was asked."""
    return reason not in _OURS
