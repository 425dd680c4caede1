"""The agent's turns that a language model speaks: its words to the caller, and where its answer leads.

Decides nothing about words (the model does) nor about the ways on (the flow does).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress

from backend.calls.speaking.speaker import Speaker, Utterance
from backend.calls.talking.account import Account, AgentTurn
from backend.calls.talking.delivery import Delivery, rest_of
from backend.calls.talking.events import Event, Inbox, KeyPressed, LineLost, SayRequest
from backend.calls.talking.llm_turn import LlmTurn, Used
from backend.calls.talking.thinker import Thinker
from backend.calls.talking.undo import Undo
from backend.core.brain import Chose, Filled
from backend.core.flow import Flow
from backend.core.history import without_opening
from backend.core.speech import Piece
from backend.core.steps import Ask, Step
from backend.core.turns import BargeIn, TurnEnded

_AWAY = ("timeout", "unreachable")  # failures that a caller waits for
_HOLD_S = 3.0  # an answer waits so long for a caller who makes a sound again


class Answering:
    """One call's answers by the language model."""

    def __init__(
        self,
        thinker: Thinker,
        flow: Flow,
        speaker: Speaker,
        inbox: Inbox,
        account: Account,
        delivery: Delivery,
        undo: Undo,
        *,
        act: Callable[[Step], Awaitable[object]],
        heard: Callable[[TurnEnded], Step],
    ) -> None:
        """`act` carries out a step's actions; `heard`: where words of the caller's lead."""
        self._thinker, self._flow, self._speaker, self._inbox = thinker, flow, speaker, inbox
        self._account, self._delivery, self._undo = account, delivery, undo
        self._act, self._heard = act, heard
        self._is_away = False

    async def answer(self, step: Step, ask: Ask) -> Step | None:
        """Have the language model speak; the Step it leads to, None: the one we are at."""
        if self._is_away and ask.said is None:
            return self._flow.unanswered(None)  # the caller waited in vain already, and said nothing since
        await self._delivery.line_restored()
        interruptible = step.listen is not None and step.listen.interruptible
        cause = self._account.cause
        agent_turn = self._account.agent_turn(begun=False)
        turn = self._thinker.turn(ask, again=self._undo.again)
        try:
            speech = self._speaker.say_pieces(self._spoken_by(turn, agent_turn, interruptible))
            utterance, cut_by = await self._delivery.utter(
                speech, step, agent_turn, interruptible=interruptible, unsaid=turn.unsaid
            )
        finally:
            await turn.aclose()
            self._thinker.done(turn)
        self._is_away = turn.problem is not None and turn.problem.reason in _AWAY
        if isinstance(cut_by, TurnEnded):
            return self._gone_on(turn, cut_by)
        if not utterance.interrupted:
            return await self._conclude(step, ask, turn)
        if isinstance(cut_by, LineLost | SayRequest):
            if isinstance(cut_by, LineLost):
                await self._delivery.line_restored()
            unheard = turn.only_spoke and not without_opening(utterance.heard_text, turn.bridged or "")
            if turn.untouched or not utterance.text or (unheard and isinstance(cut_by, SayRequest)):
                self._account.cause = cause
                await self._delivery.asides()
                return step  # the caller knows nothing of an answer yet: ask again
        if isinstance(cut_by, LineLost):
            return rest_of(step, utterance)
        return await self._cut_short(ask, turn, utterance, cut_by)

    async def _cut_short(
        self, ask: Ask, turn: LlmTurn, utterance: Utterance, cut_by: Event | None
    ) -> Step | None:
        """Where the call stands after an answer that was interrupted."""
        if turn.kept:
            self._flow.filled(turn.kept)
        if isinstance(turn.outcome, Chose) and turn.spoken:
            # It spoke for the next node already: that is where the caller's next words belong.
            onward = self._flow.chose(turn.outcome.intent, ask.said or "", opened=True)
            self._delivery.cut = utterance if isinstance(cut_by, BargeIn) else None
            return onward
        if isinstance(turn.outcome, Used) and isinstance(cut_by, BargeIn | KeyPressed):
            return self._used(turn.outcome)
        self._delivery.cut = utterance if isinstance(cut_by, BargeIn) else None
        if isinstance(cut_by, SayRequest):
            await self._delivery.asides()
        return None

    def _gone_on(self, turn: LlmTurn, ended: TurnEnded) -> Step | None:
        """Where the call stands when the caller went on before they were answered."""
        if isinstance(turn.outcome, Used):
            self._inbox.hand_back(ended)
            return self._used(turn.outcome)
        if turn.kept:
            self._flow.filled(turn.kept)
        return self._heard(ended)

    def _used(self, outcome: Used) -> Step | None:
        """The way on after a tool. It is done: led back from here, it would be done twice."""
        self._undo.close()
        return self._flow.tool_used(outcome.name)

    async def _conclude(self, step: Step, ask: Ask, turn: LlmTurn) -> Step | None:
        """Where the call stands after a whole answer of the language model's."""
        if turn.kept:
            self._flow.filled(turn.kept)
        if turn.outcome is None and (turn.broke_off or not turn.spoken):
            return self._flow.unanswered(ask.said)
        self._flow.spoke()
        onward: Step | None = None
        if turn.outcome is not None:
            await self._act(step)  # a node's actions are carried out on entering it, wherever it leads
        match turn.outcome:
            case Chose(intent):
                onward = self._flow.chose(intent, ask.said or "", opened=turn.spoken)
            case Filled(values):
                onward = self._flow.filled(values)
            case Used() as used:
                onward = self._used(used)
        if onward is None:
            await self._delivery.asides()
        return onward

    async def _spoken_by(
        self, turn: LlmTurn, agent_turn: AgentTurn, interruptible: bool
    ) -> AsyncGenerator[Piece]:
        held = answers = False  # whether we waited, and whether for its own words
        async with aclosing(turn.pieces(self._delivery.waiting)) as script:
            async for piece in script:
                # Twice, where its own words come a while after what bridged their time.
                if interruptible and (not held or (turn.spoken and not answers)):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_HOLD_S):
                            await self._inbox.caller_quiet.wait()
                held, answers = True, turn.spoken
                if agent_turn.index is None:
                    self._account.begins(agent_turn)
                agent_turn.bridged = turn.bridged
                yield piece
