"""Silence in an utterance: how much of it is sent, and when there has been so much that the speech is over.

CSM often forgets to end and goes on in silence, and the parts of a long text each bring pauses at both ends.
Pure: a frame is whatever the caller handles, its loudness a number.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

Frame = TypeVar("Frame")


@dataclass(frozen=True, slots=True)
class SilenceRules:
    """Numbers of 80 ms frames, and loudness as root mean square of samples in -1 … 1."""

    quietest: float = 0.002  # below it (-54 dBFS) a frame is silent, whatever came before
    of_loudest: float = 0.03  # and below this part (-30 dB) of the loudest frame so far
    sent_at_once: int = 3  # of a silence; the rest waits for what follows: speech, or the end
    at_joint: int = 5  # longest silence between two parts of a text
    ends_speech: int = 20
    ends_before_speech: int = 50  # nothing has been said at all


class SilenceGate(Generic[Frame]):
    """Takes the frames of one utterance and gives back those to be sent, in order."""

    def __init__(self, rules: SilenceRules) -> None:
        self._rules = rules
        self._loudest = 0.0
        self._run = 0  # silent frames since the last loud one
        self._kept = 0  # of these, sent or held
        self._held: deque[Frame] = deque()
        self._at_joint = False

    @property
    def is_over(self) -> bool:
        """Silence has lasted so long that nothing more is to be expected."""
        limit = self._rules.ends_speech if self._loudest else self._rules.ends_before_speech
        return self._run >= limit

    @property
    def has_heard_speech(self) -> bool:
        """Whether any frame was loud."""
        return self._loudest > 0

    @property
    def held(self) -> int:
        """Frames kept back."""
        return len(self._held)

    def push(self, frame: Frame, loudness: float) -> list[Frame]:
        """What is to be sent now that `frame` was made."""
        if not self._is_silent(loudness):
            due = [*self.release(), frame]
            self._loudest = max(self._loudest, loudness)
            self._run = self._kept = 0
            self._at_joint = False
            return due
        self._run += 1
        if self._at_joint and self._kept >= self._rules.at_joint:
            return []
        self._kept += 1
        if self._kept <= self._rules.sent_at_once or self._at_joint:
            return [*self.release(), frame]
        self._held.append(frame)
        return []

    def release(self) -> list[Frame]:
        """All that is held, to be sent now: the speech ended by itself, or the listener has nothing left."""
        due = list(self._held)
        self._held.clear()
        return due

    def drop(self) -> None:
        """Throw away what is held: the speech is over, and the silence was no part of it."""
        self._kept -= len(self._held)
        self._held.clear()

    def join(self) -> list[Frame]:
        """The next part of the text begins. What of the silence before it is to be sent."""
        self._at_joint = True
        due = []
        while self._held and self._kept - len(self._held) < self._rules.at_joint:
            due.append(self._held.popleft())
        self.drop()
        self._run = 0  # the next part may take its own time to begin
        return due

    def _is_silent(self, loudness: float) -> bool:
        return loudness < max(self._rules.quietest, self._rules.of_loudest * self._loudest)
