"""The account of a talk: whose turn was when, what of it was heard, and why it came. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from backend.calls.ports import Clock
from backend.calls.speaking.speaker import Utterance
from backend.calls.talking.recorder import TurnRecorder
from backend.core.history import History, without_opening
from backend.core.records import TurnRecord, TurnTimings
from backend.core.turns import TurnEnded


@dataclass(slots=True)
class AgentTurn:
    """What is known of an agent's turn beside its utterance. `index` None: it has not begun to speak.

    `bridged`: what it opens with only because the language model's answer did not come.
    """

    cause: TurnTimings = TurnTimings()
    index: int | None = None
    bridged: str | None = None


class Account:
    """One call's turns, numbered as they begin and recorded as they end."""

    def __init__(
        self,
        recorder: TurnRecorder,
        history: History | None,
        clock: Clock,
        *,
        node_id: Callable[[], str],
    ) -> None:
        """`history`: what the language model is told of the talk. `node_id`: where the call is."""
        self.cause = TurnTimings()
        """What the agent's next turn answers."""
        self._recorder, self._history, self._clock, self._node_id = recorder, history, clock, node_id
        self._turns = 0
        self._last_of_caller: TurnEnded | None = None

    def agent_turn(self, *, begun: bool = True) -> AgentTurn:
        """The agent's next turn, an answer to `cause`. `begun`: what it says is known."""
        turn, self.cause = AgentTurn(self.cause), TurnTimings()
        if begun:
            self.begins(turn)
        return turn

    def begins(self, turn: AgentTurn) -> None:
        """What it says is known now."""
        turn.index = self._next()
        turn.cause = replace(turn.cause, text_ready_ms=self._clock())

    def aside(self) -> AgentTurn:
        """A turn of the agent's that answers nothing."""
        return AgentTurn(index=self._next())

    def agent(self, turn: AgentTurn, utterance: Utterance, node_id: str | None) -> None:
        """The agent's turn is over."""
        if turn.index is None:
            return  # no word came
        if self._history is not None:
            # A model that reads "One moment, please." as its own words begins every answer with them.
            own = without_opening(utterance.heard_text, turn.bridged or "")
            self._history.agent(own, interrupted=utterance.interrupted)
        timings = replace(
            turn.cause,
            first_chunk_ms=utterance.first_chunk_ms,
            first_frame_ms=utterance.first_frame_ms,
            heard_ms=utterance.heard_from_ms,
        )
        self._recorder.add(
            TurnRecord(
                turn.index,
                "agent",
                utterance.text,
                utterance.heard_text,
                utterance.heard_from_ms or utterance.started_ms,
                utterance.ended_ms or self._clock(),
                node_id,
                interrupted=utterance.interrupted,
                route=utterance.route if utterance.spoken else None,
                timings=timings,
                spoken=utterance.spoken,
            )
        )

    def caller(self, ended: TurnEnded) -> None:
        """The caller's turn is over; recorded once, however often it is told, and not without words."""
        if not ended.text or ended is self._last_of_caller:
            return
        self._last_of_caller = ended
        if self._history is not None:
            self._history.caller(ended.text)
        self._recorder.add(
            TurnRecord(
                self._next(),
                "caller",
                ended.text,
                ended.text,
                ended.started_ms,
                ended.speech_ended_ms,
                self._node_id(),
                timings=self._timings_of(ended),
            )
        )

    def keys(self, typed: str, node_id: str) -> None:
        """The caller pressed these keys; the agent's next turn answers them."""
        now_ms = self._clock()
        self.cause = TurnTimings(turn_ended_ms=now_ms)
        if self._history is not None:
            self._history.keys(typed)
        self._recorder.add(
            TurnRecord(self._next(), "caller", typed, typed, now_ms, now_ms, node_id, via="dtmf")
        )

    def answers(self, ended: TurnEnded) -> None:
        """The agent's next turn answers these words."""
        self.cause = self._timings_of(ended)

    def answers_silence(self) -> None:
        """The agent's next turn breaks the silence."""
        self.cause = TurnTimings(turn_ended_ms=self._clock())

    def _timings_of(self, ended: TurnEnded) -> TurnTimings:
        return TurnTimings(
            caller_speech_ended_ms=ended.speech_ended_ms,
            recognised_ms=ended.recognised_ms,
            turn_ended_ms=self._clock(),
        )

    def _next(self) -> int:
        self._turns += 1
        return self._turns - 1
