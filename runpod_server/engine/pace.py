"""How sound goes from the model to one listener: how much at once, and when the model waits for the listener.

Pure: time is passed in. A listener is supposed to play from the moment of the first sound on.
"""

from __future__ import annotations

from dataclasses import dataclass

from runpod_server.engine.speech_plan import FRAME_MS


@dataclass(frozen=True, slots=True)
class PaceRules:
    """Milliseconds of sound, and numbers of 80 ms frames."""

    hand_over_frames: int = 4  # at most gathered before the listener is woken
    low_ms: int = 320  # a listener with less than this left gets every frame at once
    pause_ms: int = 4000  # a stream with so much not taken waits,
    resume_ms: int = 2000  # until its listener has taken some
    ahead_ms: int = 2000  # while others wait, so does a stream whose listener has so much left to play,
    near_ms: int = 1000  # until it is no more than this


class Pace:
    """What one listener was given, has taken, and must still have to play.

    `speed`: how fast it plays what it is given.
    """

    def __init__(self, rules: PaceRules, *, speed: float = 1.0) -> None:
        self._rules = rules
        self._speed = speed
        self._given_ms = 0.0
        self._first_ms: float | None = None
        self.paused = False
        self._is_ahead = False

    @property
    def has_begun(self) -> bool:
        """Whether the listener was given any sound."""
        return self._first_ms is not None

    def is_due(self, gathered_frames: int, now_ms: float) -> bool:
        """Whether so many gathered frames should be handed over now."""
        if gathered_frames == 0:
            return False
        return gathered_frames >= self._rules.hand_over_frames or self.lead_ms(now_ms) < self._rules.low_ms

    def lead_ms(self, now_ms: float) -> float:
        """Sound the listener cannot have played yet; 0 before the first."""
        if self._first_ms is None:
            return 0.0
        return self._first_ms + self._given_ms - now_ms

    def until_near_ms(self, now_ms: float) -> float:
        """How long until the listener has so little left that nobody goes first; 0: so little is left now."""
        return max(0.0, self.lead_ms(now_ms) - self._rules.near_ms)

    def handed_over(self, frames: int, now_ms: float) -> None:
        """So many frames went to the listener."""
        self.handed_over_ms(frames * FRAME_MS, now_ms)

    def handed_over_ms(self, audio_ms: float, now_ms: float) -> None:
        """So much sound went to the listener, as long as it was made."""
        if self._first_ms is None or self.lead_ms(now_ms) < 0:
            self._first_ms = now_ms - self._given_ms  # it plays from here, or from here again
        self._given_ms += audio_ms / self._speed

    def must_wait(self, untaken_ms: float) -> bool:
        """Whether the model should not go on for now, with so much sound that the listener has not taken."""
        limit = self._rules.resume_ms if self.paused else self._rules.pause_ms
        self.paused = untaken_ms >= limit
        return self.paused

    def is_ahead(self, now_ms: float) -> bool:
        """Whether the listener has sound to play for so long that those who wait may go first.

        Told by the clock: who fetches quickly has not played quickly.
        """
        limit = self._rules.near_ms if self._is_ahead else self._rules.ahead_ms
        self._is_ahead = self.lead_ms(now_ms) >= limit
        return self._is_ahead
