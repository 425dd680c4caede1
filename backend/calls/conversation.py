"""One call's talk: runs the flow's steps through mouth and ears until the call ends.

Decides nothing about words (the flow does, and the language model) and nothing about audio (speaker and
listener do).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace

from backend.calls.llm_turn import LlmTurn, Used
from backend.calls.ports import Clock
from backend.calls.recorder import TurnRecorder
from backend.calls.speaker import Speaker, Utterance
from backend.calls.thinker import Thinker
from backend.core.backchannel import answers, has_asked
from backend.core.brain import Chose, Filled
from backend.core.flow import Flow
from backend.core.records import TurnRecord, TurnTimings
from backend.core.sentences import pieces
from backend.core.speech import Piece
from backend.core.steps import Action, Ask, Step
from backend.core.turns import (
    BargeIn,
    Expects,
    SpeechResumed,
    SpeechStarted,
    TurnEnded,
    TurnEvent,
)

log = logging.getLogger(__name__)

_MAX_EVENTS = 256
_MAX_ASIDES = 20
_KEY_PAUSE_MS = 2_500.0  # no further key for this long: those were all
_SLIP_PAUSE_MS = 700.0  # likewise, after keys that lead nowhere: what comes meanwhile is the same mistake
_HOLD_S = 3.0  # an answer waits so long for a caller who makes a sound again


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """The caller pressed a key."""

    digit: str


@dataclass(frozen=True, slots=True)
class SayRequest:
    """Somebody outside wants this said, once the agent has finished or, with `interrupt`, now."""

    text: str
    interrupt: bool


@dataclass(frozen=True, slots=True)
class LineLost:
    """The media socket is gone; the carrier was asked for another."""


@dataclass(frozen=True, slots=True)
class LineRestored:
    """A new media socket is there."""


@dataclass(frozen=True, slots=True)
class LikelyEnd:
    """The caller has paused after these words: probably all they wanted to say."""

    text: str


Event = TurnEvent | KeyPressed | SayRequest | LineLost | LineRestored | LikelyEnd


@dataclass(slots=True)
class _Account:
    """What is known of an agent's turn beside its utterance. `index` None: it has not begun to speak."""

    cause: TurnTimings
    index: int | None = None


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
    ) -> None:
        """`perform` carries out an action and returns a sentence to say when it failed; `expect` tells the
        ears what kind of answer comes next; `thinker` answers what the flow leaves to a language model."""
        self._flow, self._speaker, self._recorder = flow, speaker, recorder
        self._perform, self._expect, self._clock = perform, expect, clock
        self._events: asyncio.Queue[Event] = asyncio.Queue(_MAX_EVENTS)
        self._waiting: asyncio.Task[Event] | None = None
        self._asides: deque[SayRequest] = deque()
        self._keys = ""
        self._turn = 0
        self._cause = TurnTimings()
        self._thinker = thinker
        self._caller_quiet = asyncio.Event()
        self._caller_quiet.set()
        self._line_up = True
        self._handed_back: Event | None = None  # taken too early: the next one to be followed
        self._early: tuple[TurnEnded, str, bool] | None = None
        """What the caller said while we went on speaking, the node, and whether its question was begun."""
        self._cut: Utterance | None = None  # what a caller's sound interrupted, until it proves to be words

    def notify(self, event: Event) -> None:
        """Something happened. At most 256 wait; a caller cannot make more in the time they take."""
        try:
            self._events.put_nowait(event)
        except asyncio.QueueFull:
            log.error("conversation event dropped, %d are waiting: %s", _MAX_EVENTS, event)

    async def run(self) -> str:
        """Talk until the flow ends. Raises SpeechError when the voice fails, FlowError for a dead end."""
        step = self._flow.start()
        try:
            while True:
                unsaid = await self._speak(step)
                if unsaid is not None:
                    step = unsaid
                    continue
                ended = await self._act(step)
                if ended:
                    return ended
                step = self._flow.proceed() if step.listen is None else await self._listen(step)
        finally:
            if self._waiting is not None:
                self._waiting.cancel()

    # --- speaking --------------------------------------------------------------------------------------

    async def _speak(self, step: Step) -> Step | None:
        """Say the step's words. A Step to go on with instead, as when they must be taken up again."""
        self._expect(step.listen.expects if step.listen else "any")
        if step.ask is None and self._thinker is not None:
            self._thinker.drop()  # what was begun ahead was for words that led elsewhere
        text = " ".join(step.say)
        interruptible = step.listen is not None and step.listen.interruptible
        if text:
            await self._line_restored()
            cause, self._cause = replace(self._cause, text_ready_ms=self._clock()), TurnTimings()
            account = _Account(cause, self._next_turn())
            speech = self._speaker.say(text)
            utterance, cut_by = await self._utter(speech, step, account, interruptible=interruptible)
            if utterance.interrupted and isinstance(cut_by, LineLost):
                await self._line_restored()
                return _rest(step, utterance)
            if utterance.interrupted and isinstance(cut_by, BargeIn | KeyPressed):
                self._cut = utterance if isinstance(cut_by, BargeIn) else None
                return None
        if step.ask is not None and self._thinker is not None:
            return await self._answer(step, step.ask, self._thinker, interruptible)
        await self._say_asides()
        return None

    async def _utter(
        self,
        speech_work: Coroutine[None, None, Utterance],
        step: Step | None,
        account: _Account,
        *,
        interruptible: bool,
        unsaid: Callable[[], str] = str,
    ) -> tuple[Utterance, Event | None]:
        """Speak to the end or until an event cuts it. It is recorded however it ends: the caller may hang up,
        or the voice fail, in the middle of a word. `unsaid`: what was meant to follow when it was cut."""
        before = self._speaker.last
        speech = asyncio.create_task(speech_work, name="say")
        try:
            expects = step.listen.expects if step is not None and step.listen is not None else "any"
            asks = step is not None and step.ask is not None
            cut_by = await self._attend(speech, expects, interruptible=interruptible, asks=asks)
            return await speech, cut_by
        finally:
            speech.cancel()
            await asyncio.wait([speech])
            if not speech.cancelled():
                speech.exception()  # raised above already, unless we were cancelled ourselves
            if (said := self._speaker.last) is not None and said is not before:
                if said.interrupted:
                    said.text = f"{said.text} {unsaid()}".strip()
                self._record_agent(account, said, step)

    async def _attend(
        self, speech: asyncio.Task[Utterance], expects: Expects, *, interruptible: bool, asks: bool
    ) -> Event | None:
        """Follow events while we speak; the one that cut us short, if any.

        At a sound of the caller's we fall silent and hold what is unsaid, until it proves to be words, or
        nothing: a cough, a door, "uh-huh".
        """
        held: BargeIn | None = None
        while (event := await self._next(None, unless=speech)) is not None:
            self._take_note(event)
            if isinstance(event, BargeIn) and interruptible and await self._speaker.hold():
                held = event
                continue
            if isinstance(event, TurnEnded) and held is not None:
                if not self._leaves_us_the_floor(event, expects):
                    self._handed_back = event  # to be answered when we listen
                    await self._speaker.interrupt()
                    return held
                self._speaker.resume()
                held = None
            if isinstance(event, TurnEnded):
                self._record_caller(event)
            if _cuts(event, interruptible) or (asks and self._supersedes(event, interruptible)):
                await self._speaker.interrupt()
                return event
            if isinstance(event, TurnEnded) and event.text and not event.aside:
                script = self._speaker.last.text if self._speaker.speaking and self._speaker.last else ""
                asked = has_asked(self._speaker.heard_so_far, script) if script else False
                self._early = event, self._flow.node_id, asked
        return None

    def _leaves_us_the_floor(self, ended: TurnEnded, expects: Expects) -> bool:
        if not ended.text:
            return True
        said = self._speaker.last
        script, heard = said.text if said else "", self._speaker.heard_so_far
        return ended.aside and not answers(ended.text, expects, heard, script)

    def _supersedes(self, event: Event, interruptible: bool) -> bool:
        """Whether the caller said something more while the language model was still looking for words."""
        said = isinstance(event, TurnEnded) and bool(event.text)
        return said and interruptible and self._thinker is not None and not self._speaker.speaking

    async def _say_asides(self) -> None:
        """What others asked to be said. A caller who interrupts is heard first; the rest waits."""
        while self._asides:
            await self._line_restored()
            request = self._asides.popleft()
            account = _Account(TurnTimings(), self._next_turn())
            utterance, cut_by = await self._utter(
                self._speaker.say(request.text), None, account, interruptible=True
            )
            if utterance.interrupted and isinstance(cut_by, LineLost):
                self._asides.appendleft(request)
            elif utterance.interrupted and isinstance(cut_by, BargeIn | KeyPressed):
                return

    async def _act(self, step: Step) -> str | None:
        """Carry out the step's actions; why the call is over, if it is."""
        for action in step.actions:
            problem = await self._perform(action)
            if problem is not None:
                log.warning("action %s failed at node %s", action, step.node_id)
                self._asides.append(SayRequest(problem, interrupt=False))
                await self._say_asides()
        return f"flow ended at node {step.node_id}" if step.ends_call else None

    # --- the language model ----------------------------------------------------------------------------

    async def _answer(self, step: Step, ask: Ask, thinker: Thinker, interruptible: bool) -> Step | None:
        """Have the language model speak; the Step it leads to, None: the one we are at."""
        await self._line_restored()
        cause, self._cause = self._cause, TurnTimings()
        account = _Account(cause)
        turn = thinker.turn(ask)
        try:
            speech = self._speaker.say_pieces(self._spoken_by(turn, account, interruptible))
            utterance, cut_by = await self._utter(
                speech, step, account, interruptible=interruptible, unsaid=turn.unsaid
            )
        finally:
            await turn.aclose()
            thinker.done(turn)
        if not utterance.interrupted:
            return await self._conclude(step, ask, turn)
        if isinstance(cut_by, LineLost):
            await self._line_restored()
        if isinstance(cut_by, LineLost | SayRequest) and not utterance.text:
            self._cause = cause
            await self._say_asides()
            return step  # nothing was said yet: ask again
        if isinstance(cut_by, LineLost):
            return _rest(step, utterance)
        if turn.kept is not None:
            self._flow.filled(turn.kept)
        if isinstance(turn.outcome, Chose) and turn.spoken:
            # It spoke for the next node already: that is where the caller's next words belong.
            onward = self._flow.chose(turn.outcome.intent, ask.said or "", opened=True)
            self._cut = utterance if isinstance(cut_by, BargeIn) else None
            return onward
        if isinstance(turn.outcome, Used) and isinstance(cut_by, BargeIn | KeyPressed):
            return self._flow.tool_used(turn.outcome.name)  # it is done: used again, it would be done twice
        if isinstance(cut_by, TurnEnded):
            return self._heard(cut_by)
        self._cut = utterance if isinstance(cut_by, BargeIn) else None
        if isinstance(cut_by, SayRequest):
            await self._say_asides()
        return None

    async def _spoken_by(
        self, turn: LlmTurn, account: _Account, interruptible: bool
    ) -> AsyncGenerator[Piece]:
        async with aclosing(turn.pieces()) as script:
            async for piece in script:
                if account.index is None:
                    if interruptible:
                        with suppress(TimeoutError):
                            async with asyncio.timeout(_HOLD_S):
                                await self._caller_quiet.wait()
                    account.index = self._next_turn()
                    account.cause = replace(account.cause, text_ready_ms=self._clock())
                yield piece

    async def _conclude(self, step: Step, ask: Ask, turn: LlmTurn) -> Step | None:
        """Where the call stands after a whole answer of the language model's."""
        if turn.kept is not None:
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
            case Filled(value):
                onward = self._flow.filled(value)
            case Used(name):
                onward = self._flow.tool_used(name)
        if onward is None:
            await self._say_asides()
        return onward

    # --- listening -------------------------------------------------------------------------------------

    async def _listen(self, step: Step) -> Step:
        assert step.listen is not None
        if (said_over := self._said_over()) is not None:
            return said_over
        cut, self._cut = self._cut, None
        quiet_from_ms = self._clock()
        typed = ""
        while True:
            if self._asides and self._line_up and self._caller_quiet.is_set():
                await self._say_asides()
                quiet_from_ms = self._clock()
            if self._keys:
                typed, self._keys = typed + self._keys, ""
                quiet_from_ms = self._clock()
                if (next_step := self._digits(typed, step)) is not None:
                    return next_step
            patience_ms: float | None = step.listen.silence_ms
            if typed:
                patience_ms = _SLIP_PAUSE_MS if self._flow.slip else _KEY_PAUSE_MS
            timeout_ms = None
            if patience_ms is not None and self._line_up and self._caller_quiet.is_set():
                timeout_ms = quiet_from_ms + patience_ms - self._clock()
            event = await self._next(timeout_ms)
            if event is None:
                if typed:
                    return self._keys_done(typed, self._flow.digits_done(), step)
                return self._silence(quiet_from_ms)
            self._take_note(event)
            self._think_ahead(event)
            if isinstance(event, TurnEnded):
                quiet_from_ms = self._clock()
                self._record_caller(event)
                if event.text:
                    return self._heard(event)
                if cut is not None and (rest := _rest(step, cut)) is not None:
                    # A cough, a door: nobody said a word, so take up the thread where it was cut. Its actions
                    # were carried out already.
                    return replace(rest, actions=())
            elif isinstance(event, LineRestored):
                quiet_from_ms = self._clock()

    def _said_over(self) -> Step | None:
        """Where words lead that the caller said over our own, if they lead anywhere."""
        early, self._early = self._early, None
        if early is None or self._handed_back is not None or self._keys:
            return None
        ended, node_id, asked = early
        if not self._flow.matters(ended.text, asked=asked and node_id == self._flow.node_id):
            return None
        return self._heard(ended)

    def _heard(self, ended: TurnEnded) -> Step:
        self._cause = TurnTimings(
            caller_speech_ended_ms=ended.speech_ended_ms,
            recognised_ms=ended.recognised_ms,
            turn_ended_ms=self._clock(),
        )
        return self._flow.heard(ended.text)

    def _think_ahead(self, event: Event) -> None:
        """Begin the answer in the caller's pause; give it up when that was none."""
        if self._thinker is None:
            return
        if isinstance(event, LikelyEnd) and event.text and not self._keys:
            self._thinker.begin_ahead(self._flow, event.text)
        elif isinstance(event, SpeechResumed | KeyPressed):
            self._thinker.drop()

    def _digits(self, typed: str, step: Step) -> Step | None:
        next_step = self._flow.digits(typed)
        return next_step and self._keys_done(typed, next_step, step)

    def _keys_done(self, typed: str, next_step: Step, step: Step) -> Step:
        now_ms = self._clock()
        self._cause = TurnTimings(turn_ended_ms=now_ms)
        if self._thinker is not None:
            self._thinker.history.keys(typed)
        self._recorder.add(
            TurnRecord(self._next_turn(), "caller", typed, typed, now_ms, now_ms, step.node_id, via="dtmf")
        )
        return next_step

    def _silence(self, quiet_from_ms: float) -> Step:
        now_ms = self._clock()
        self._cause = TurnTimings(turn_ended_ms=now_ms)
        return self._flow.silence(int(now_ms - quiet_from_ms))

    # --- events ----------------------------------------------------------------------------------------

    async def _next(
        self, timeout_ms: float | None, *, unless: asyncio.Task[Utterance] | None = None
    ) -> Event | None:
        """The next event; None when the time is up or `unless` is done first."""
        if self._handed_back is not None:
            event, self._handed_back = self._handed_back, None
            return event
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._events.get(), name="next event")
        timeout_s = None if timeout_ms is None else max(0.0, timeout_ms) / 1000
        others = () if unless is None else (unless,)
        await asyncio.wait([self._waiting, *others], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not self._waiting.done():
            return None
        event, self._waiting = self._waiting.result(), None
        return event

    async def _line_restored(self) -> None:
        while not self._line_up:
            event = await self._next(None)
            if event is not None:
                self._take_note(event)
            if isinstance(event, TurnEnded):
                self._record_caller(event)

    def _take_note(self, event: Event) -> None:
        """Keep what an event tells that is used later, whatever we are doing now."""
        self._track(event)
        if isinstance(event, KeyPressed):
            self._keys += event.digit
        elif isinstance(event, SayRequest):
            if len(self._asides) < _MAX_ASIDES:
                self._asides.append(event)
            else:
                log.error("not said, %d texts are waiting: %r", _MAX_ASIDES, event.text)

    def _track(self, event: Event) -> None:
        if isinstance(event, SpeechStarted | SpeechResumed | BargeIn):
            self._caller_quiet.clear()
        elif isinstance(event, TurnEnded):
            self._caller_quiet.set()
        elif isinstance(event, LineLost | LineRestored):
            self._line_up = isinstance(event, LineRestored)
            self._caller_quiet.set()

    # --- account ---------------------------------------------------------------------------------------

    def _next_turn(self) -> int:
        self._turn += 1
        return self._turn - 1

    async def say_last(self, speech: Callable[[], Awaitable[Utterance]]) -> None:
        """After the end of `run`: what is said all the same, and recorded. Raises SpeechError."""
        account, before = _Account(TurnTimings(), self._next_turn()), self._speaker.last
        try:
            await speech()
        finally:
            if (said := self._speaker.last) is not None and said is not before:
                self._record_agent(account, said, None)

    def record_last_words(self, ended: TurnEnded) -> None:
        """The caller said this as the line ended: it is kept, though nobody answers any more."""
        self._record_caller(ended)

    def _record_caller(self, ended: TurnEnded) -> None:
        if not ended.text:
            return
        timings = TurnTimings(
            caller_speech_ended_ms=ended.speech_ended_ms,
            recognised_ms=ended.recognised_ms,
            turn_ended_ms=self._clock(),
        )
        if self._thinker is not None:
            self._thinker.history.caller(ended.text)
        self._recorder.add(
            TurnRecord(
                self._next_turn(),
                "caller",
                ended.text,
                ended.text,
                ended.started_ms,
                ended.speech_ended_ms,
                self._flow.node_id,
                timings=timings,
            )
        )

    def _record_agent(self, account: _Account, utterance: Utterance, step: Step | None) -> None:
        if account.index is None:
            return  # no word came
        if self._thinker is not None:
            self._thinker.history.agent(utterance.heard_text, interrupted=utterance.interrupted)
        timings = replace(
            account.cause,
            first_chunk_ms=utterance.first_chunk_ms,
            first_frame_ms=utterance.first_frame_ms,
            heard_ms=utterance.heard_from_ms,
        )
        self._recorder.add(
            TurnRecord(
                account.index,
                "agent",
                utterance.text,
                utterance.heard_text,
                utterance.heard_from_ms or utterance.started_ms,
                utterance.ended_ms or self._clock(),
                step.node_id if step else None,
                interrupted=utterance.interrupted,
                route=utterance.route if utterance.spoken else None,
                timings=timings,
                spoken=utterance.spoken,
            )
        )


def _cuts(event: Event, interruptible: bool) -> bool:
    """Whether an event makes us fall silent in the middle of a sentence."""
    match event:
        case LineLost():
            return True
        case SayRequest(interrupt=interrupt):
            return interrupt
        case BargeIn() | KeyPressed():
            return interruptible
        case _:
            return False


def _rest(step: Step, utterance: Utterance) -> Step | None:
    """The step with what was not heard yet, from the start of the sentence where it was cut."""
    heard = len(utterance.heard_text.split())
    script = [piece.text for piece in pieces(utterance.text)]
    for number, text in enumerate(script):
        heard -= len(text.split())
        if heard < 0:
            return replace(step, say=tuple(script[number:]), ask=None)
    return None
