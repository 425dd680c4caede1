"""One call's talk: runs the flow's steps through mouth and ears until the call ends.

Decides nothing about words (the flow does, and the language model) and nothing about audio (speaker and
listener do).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from backend.calls.ports import Clock, Toolbox
from backend.calls.speaking.speaker import Speaker, Utterance
from backend.calls.talking.account import Account
from backend.calls.talking.answering import Answering
from backend.calls.talking.delivery import Delivery, rest_of
from backend.calls.talking.events import (
    Event,
    Inbox,
    KeyPressed,
    LikelyEnd,
    LineLost,
    LineRestored,
    SayRequest,
)
from backend.calls.talking.looking_up import LookingUp
from backend.calls.talking.recorder import TurnRecorder
from backend.calls.talking.thinker import Thinker
from backend.calls.talking.undo import Undo
from backend.core.flow import Flow
from backend.core.keypad import KEY_GAP_MS
from backend.core.steps import Action, Lookup, Step
from backend.core.turns import BargeIn, Expects, SpeechResumed, TurnEnded

log = logging.getLogger(__name__)

_KEY_PAUSE_MS = KEY_GAP_MS
_SLIP_PAUSE_MS = 700.0  # likewise, after keys that lead nowhere: what comes meanwhile is the same mistake


class Conversation:
    """The talk of one call. Feed `notify`; `run` returns the reason why it is over."""

    def __init__(
        self,
        *,
        flow: Flow,
        speaker: Speaker,
        recorder: TurnRecorder,
        perform: Callable[[Action], Awaitable[str | None]],
        expect: Callable[[Expects], None],
        clock: Clock,
        thinker: Thinker | None = None,
        toolbox: Toolbox | None = None,
    ) -> None:
        """`perform` carries out an action and returns a sentence to say when it failed; `expect` tells the
        ears what kind of answer comes next; `thinker` answers what the flow leaves to a language model;
        `toolbox` is what nodes look things up with."""
        self._flow, self._speaker, self._perform, self._expect = flow, speaker, perform, expect
        self._clock, self._thinker = clock, thinker
        self._inbox = Inbox(clock, flow.asks_for_key)
        history = thinker.history if thinker is not None else None
        self._recorder = recorder
        self._account = Account(recorder, history, clock, node_id=lambda: flow.node_id)
        self._undo = Undo(flow, lambda: speaker.last)
        self._delivery = Delivery(flow, speaker, self._inbox, self._account, self._undo)
        self._looking_up = LookingUp(
            toolbox, speaker, self._account, self._delivery, language=flow.agent.language
        )
        self._elsewhere: Step | None = None  # where a look-up that failed leads
        self._still_asked = False  # what we say breaks the silence after a question, and is no other
        self._answering: Answering | None = None
        if thinker is not None:
            self._answering = Answering(
                thinker,
                flow,
                speaker,
                self._inbox,
                self._account,
                self._delivery,
                self._undo,
                act=self._act,
                heard=self._heard,
            )

    def notify(self, event: Event) -> None:
        """Something happened. At most 256 wait; a caller cannot make more in the time they take."""
        self._inbox.put(event)

    async def run(self) -> str:
        """Talk until the flow ends. Raises SpeechError when the voice fails, FlowError for a dead end."""
        step = self._flow.start()
        try:
            while True:
                self._recorder.visit(step.node_id)
                unsaid = await self._speak(step)
                if unsaid is not None:
                    step = unsaid
                    continue
                ended = await self._act(step)
                if ended:
                    return ended
                if self._elsewhere is not None:
                    step, self._elsewhere = self._elsewhere, None
                    continue
                step = self._flow.proceed() if step.listen is None else await self._listen(step)
        finally:
            self._inbox.close()

    async def say_last(self, speech: Callable[[], Awaitable[Utterance]]) -> None:
        """After the end of `run`: what is said all the same, and recorded. Raises SpeechError."""
        await self._delivery.last(speech)

    def record_last_words(self, ended: TurnEnded) -> None:
        """The caller said this as the line ended: it is kept, though nobody answers any more."""
        self._account.caller(ended)

    # --- speaking --------------------------------------------------------------------------------------

    async def _speak(self, step: Step) -> Step | None:
        """Say the step's words. A Step to go on with instead, as when they must be taken up again."""
        self._expect(step.listen.expects if step.listen else "any")
        if step.ask is None and self._thinker is not None:
            self._thinker.drop()  # what was begun ahead was for words that led elsewhere
        if text := step.text:
            await self._delivery.line_restored()
            interruptible = step.listen is not None and step.listen.interruptible
            turn = self._account.agent_turn()
            speech = self._speaker.say(text)
            utterance, cut_by = await self._delivery.utter(speech, step, turn, interruptible=interruptible)
            if isinstance(cut_by, TurnEnded):
                return self._heard(cut_by)
            if utterance.interrupted and isinstance(cut_by, LineLost):
                await self._delivery.line_restored()
                return rest_of(step, utterance)
            if utterance.interrupted and isinstance(cut_by, BargeIn | KeyPressed):
                self._delivery.cut = utterance if isinstance(cut_by, BargeIn) else None
                return None
        if step.ask is not None and self._answering is not None:
            return await self._answering.answer(step, step.ask)
        await self._delivery.asides()
        return None

    async def _act(self, step: Step) -> str | None:
        """Carry out the step's actions; why the call is over, if it is."""
        for action in step.actions:
            self._undo.close()
            if isinstance(action, Lookup):
                if not await self._looking_up.look_up(action):
                    self._elsewhere = self._flow.lookup_failed()
                if self._elsewhere is not None:
                    return None
                continue
            problem = await self._perform(action)
            if problem is not None:
                log.warning("action %s failed at node %s", action, step.node_id)
                self._inbox.asides.append(SayRequest(problem, interrupt=False))
                await self._delivery.asides()
        return f"flow ended at node {step.node_id}" if step.ends_call else None

    # --- listening -------------------------------------------------------------------------------------

    async def _listen(self, step: Step) -> Step:
        assert step.listen is not None
        if (said_over := self._said_over()) is not None:
            return said_over
        inbox, cut = self._inbox, self._delivery.take_cut()
        quiet_from_ms = self._clock()
        self._undo.answered(quiet_from_ms)
        typed = ""
        while True:
            if inbox.asides and inbox.line_up and inbox.caller_quiet.is_set() and not inbox.handed_back:
                await self._delivery.asides()
                quiet_from_ms = self._clock()
            if inbox.keys:
                typed += inbox.take_keys()
                quiet_from_ms = self._clock()
                if (next_step := self._digits(typed, step)) is not None:
                    return next_step
            patience_ms: float | None = step.listen.silence_ms
            if typed:
                patience_ms = _SLIP_PAUSE_MS if self._flow.slip else _KEY_PAUSE_MS
            timeout_ms = None
            if patience_ms is not None and inbox.line_up and inbox.caller_quiet.is_set():
                timeout_ms = quiet_from_ms + patience_ms - self._clock()
            event = await inbox.next(timeout_ms)
            if event is None:
                return self._keys_done(typed, step) if typed else self._silence(quiet_from_ms)
            self._think_ahead(event)
            if isinstance(event, TurnEnded):
                quiet_from_ms = self._clock()
                self._account.caller(event)
                if event.text:
                    return self._heard(event)
                if cut is not None and (rest := rest_of(step, cut)) is not None:
                    # A cough, a door: nobody said a word, so take up the thread where it was cut. Its actions
                    # were carried out already.
                    return replace(rest, actions=())
            elif isinstance(event, LineRestored):
                quiet_from_ms = self._clock()

    def _said_over(self) -> Step | None:
        """Where words lead that the caller said over our own, if they lead anywhere."""
        early, still_asked = self._delivery.take_early(), self._still_asked
        self._still_asked = False
        if early is None or self._inbox.handed_back or self._inbox.keys:
            return None
        # Who began before our "are you still there?" was heard answers what was asked before.
        answers = still_asked and early.first
        asked = early.asked and early.node_id == self._flow.node_id
        if not answers and not self._flow.matters(early.ended.text, asked=asked):
            return None
        return self._heard(early.ended)

    def _heard(self, ended: TurnEnded) -> Step:
        self._account.answers(ended)
        return self._undo.heard(ended)

    def _think_ahead(self, event: Event) -> None:
        """Begin the answer in the caller's pause; give it up when that was none."""
        if self._thinker is None:
            return
        if isinstance(event, LikelyEnd) and event.text and not self._inbox.keys:
            self._thinker.begin_ahead(self._flow, event.text)
        elif isinstance(event, SpeechResumed | KeyPressed):
            self._thinker.drop()

    def _digits(self, typed: str, step: Step) -> Step | None:
        next_step = self._flow.digits(typed)
        if next_step is not None:
            self._inbox.keys_acted_upon(typed)
            self._account.keys(typed, step.node_id)
            self._undo.close()
        return next_step

    def _keys_done(self, typed: str, step: Step) -> Step:
        self._undo.close()
        next_step = self._flow.digits_done()
        self._inbox.keys_acted_upon(typed)
        self._account.keys(typed, step.node_id)
        return next_step

    def _silence(self, quiet_from_ms: float) -> Step:
        node_id = self._flow.node_id
        self._account.answers_silence()
        self._undo.close()
        step = self._flow.silence(int(self._clock() - quiet_from_ms))
        self._still_asked = step.node_id == node_id
        return step
