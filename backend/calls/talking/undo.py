"""Turns of the caller's that were taken to be over too early: what they go on to say belongs to them.

Leads the flow back to where it was, and on with all the words. Does not decide when a turn is over, nor
what words mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from backend.calls.speaking.speaker import Utterance
from backend.core.flow import Flow
from backend.core.hello import is_hello
from backend.core.steps import Step
from backend.core.turns import TurnEnded

HEARD_MS = 500.0  # of our answer; who begins to speak later has begun to listen to it
_LATEST_MS = 4_000.0  # after the last word; who speaks up later begins anew
_MOST_TEXT = 2_000  # characters, two minutes of speech


@dataclass(slots=True)
class _Turn:
    """What the caller said last, and the flow as it was before that."""

    before: Flow
    text: str
    ended_ms: float
    answers_from: int  # number of the first utterance that may answer it
    parts: int = 1
    heard_ms: float | None = None  # since when an answer to it is heard
    answered_ms: float = math.inf  # since when the answer is over, and the caller's turn has come


class Undo:
    """One call's last turn of the caller's, as long as it can be undone."""

    def __init__(self, flow: Flow, last_utterance: Callable[[], Utterance | None]) -> None:
        self._flow, self._last_utterance = flow, last_utterance
        self._turn: _Turn | None = None

    @property
    def again(self) -> bool:
        """Whether what is answered now was answered before, without its last words."""
        return self._turn is not None and self._turn.parts > 1

    @property
    def unheard(self) -> bool:
        """Whether nothing of our answer was heard yet."""
        self.note()
        return self._turn is not None and self._turn.heard_ms is None

    def heard(self, ended: TurnEnded) -> Step:
        """Where words of the caller's lead, with those before them where they go on. Raises FlowError."""
        turn = self._turn
        if turn is None or not self.goes_on(ended):
            self._turn = self._opened(self._flow.fork(), ended.text, ended)
            return self._flow.heard(ended.text)
        led_to, unheard = self._flow.node_id, self.unheard
        self._flow.go_back(turn.before)
        was_at, text = self._flow.node_id, joined(turn.text, ended.text)
        self._turn = self._opened(turn.before, text, ended, parts=turn.parts + 1)
        step = self._flow.heard(text)
        same_way = self._flow.node_id == led_to != was_at
        if same_way and not (unheard or step.actions) and self._flow.matters(ended.text, asked=True):
            return self._flow.heard(ended.text)  # quick: an answer already to what we had begun to ask
        return step

    def goes_on(self, ended: TurnEnded) -> bool:
        """Whether these words belong to the turn before."""
        said_more = bool(ended.text) and not ended.aside and not is_hello(ended.text)
        return said_more and self.open_at(ended.started_ms)

    def open_at(self, speech_started_ms: float) -> bool:
        """Whether a caller who began to speak then may be going on with the turn before."""
        self.note()
        turn = self._turn
        if turn is None or speech_started_ms > min(turn.ended_ms + _LATEST_MS, turn.answered_ms):
            return False
        return turn.heard_ms is None or speech_started_ms - turn.heard_ms <= HEARD_MS

    def note(self) -> None:
        """Look whether the answer is heard by now. Ask before the next utterance takes its place."""
        turn, utterance = self._turn, self._last_utterance()
        if turn is None or utterance is None or turn.heard_ms is not None:
            return
        if utterance.number >= turn.answers_from:
            turn.heard_ms = utterance.heard_from_ms

    def answered(self, now_ms: float) -> None:
        """The answer is over; who begins to speak from now on answers it."""
        if self._turn is not None:
            self._turn.answered_ms = now_ms

    def close(self) -> None:
        """Something was done that cannot be undone."""
        self._turn = None

    def _opened(self, before: Flow, text: str, ended: TurnEnded, *, parts: int = 1) -> _Turn:
        last = self._last_utterance()
        return _Turn(before, text, ended.speech_ended_ms, last.number + 1 if last else 1, parts)


def joined(first: str, second: str) -> str:
    """Two parts of one sentence, which a recogniser took for two."""
    return f"{first.rstrip(' .,;:…-—–')} {second}".strip()[:_MOST_TEXT]
