"""Whether a model may be asked now, and what came of asking it. Knows neither breakers nor who else asks."""

from __future__ import annotations

from typing import Protocol

from backend.errors import LlmError


class Gate(Protocol):
    """What is remembered of one model at one server. See `backend.calls.boards.llm_board`."""

    def allows(self) -> bool:
        """Whether it may be asked now. Asking changes nothing."""

    def began(self) -> None:
        """It is asked: answered, failed or gave_up follows."""

    def answered(self, first_word_ms: float) -> None:
        """Its reply has begun. It may still fail."""

    def failed(self, error: LlmError, after_ms: float) -> None:
        """It failed, so long after it was asked."""

    def gave_up(self) -> None:
        """We cancelled the request before it told anything."""


class OpenGate:
    """Remembers nothing."""

    def allows(self) -> bool:
        return True

    def began(self) -> None:
        return None

    def answered(self, first_word_ms: float) -> None:
        return None

    def failed(self, error: LlmError, after_ms: float) -> None:
        return None

    def gave_up(self) -> None:
        return None


class Attempt:
    """One request, told to its gate: once that it began, once what became of it. `over` ends it."""

    def __init__(self, gate: Gate, began_s: float) -> None:
        self._gate, self._began_s = gate, began_s
        self._told = False
        gate.began()

    def answered(self, now_s: float) -> None:
        """There is an answer, or a part of it."""
        if not self._told:
            self._told = True
            self._gate.answered((now_s - self._began_s) * 1000)

    def failed(self, error: LlmError, now_s: float) -> None:
        """It failed, or its answer broke off."""
        self._told = True
        self._gate.failed(error, (now_s - self._began_s) * 1000)

    def over(self) -> None:
        """Nothing more comes of it. Without answer and failure it was we who ended it."""
        if not self._told:
            self._told = True
            self._gate.gave_up()
