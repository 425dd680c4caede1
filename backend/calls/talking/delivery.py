"""How words get to the caller: spoken until they are heard or something cuts them, and on record either way.

Decides whether a sound of the caller's interrupts. Does not decide what is said, nor what comes next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace

from backend.calls.speaking.speaker import Speaker, Utterance
from backend.calls.talking.account import Account, AgentTurn
from backend.calls.talking.events import Event, Inbox, KeyPressed, LineLost, cuts
from backend.calls.talking.fillers import Waiting
from backend.calls.talking.undo import Undo
from backend.core.backchannel import answers, has_asked, is_backchannel
from backend.core.flow import Flow
from backend.core.hello import is_hello
from backend.core.sentences import pieces
from backend.core.steps import Expects, Step
from backend.core.turns import BargeIn, SpeechStarted, TurnEnded


@dataclass(frozen=True, slots=True)
class Early:
    """What the caller said while we went on speaking."""

    ended: TurnEnded
    node_id: str
    asked: bool
    """Whether they had begun to hear a question of ours."""
    first: bool
    """Whether they began before they heard anything of what we were about to say."""


class Delivery:
    """One call's words on their way out."""

    def __init__(self, flow: Flow, speaker: Speaker, inbox: Inbox, account: Account, undo: Undo) -> None:
        """`flow` is asked where the call is and what would lead on, and nothing is done to it."""
        self.cut: Utterance | None = None
        """What a caller's sound interrupted, until it proves to be words."""
        self.waiting = Waiting(inbox.caller_quiet)
        self._early: Early | None = None
        self._flow, self._speaker, self._inbox = flow, speaker, inbox
        self._account, self._undo = account, undo

    async def utter(
        self,
        speech_work: Coroutine[None, None, Utterance],
        step: Step | None,
        turn: AgentTurn,
        *,
        interruptible: bool,
        unsaid: Callable[[], str] = str,
    ) -> tuple[Utterance, Event | None]:
        """Speak to the end or until an event cuts it. It is recorded however it ends: the caller may hang up,
        or the voice fail, in the middle of a word. `unsaid`: what was meant to follow when it was cut.

        Cut by a TurnEnded: the caller went on, and these words are to be followed now.
        """
        before = self._speaker.last
        speech = asyncio.create_task(speech_work, name="say")
        cut_by: Event | None = None
        try:
            expects: Expects = step.listen.expects if step is not None and step.listen is not None else "any"
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
                self._undo.note()
                self._account.agent(turn, said, step.node_id if step else None)
            if isinstance(cut_by, TurnEnded):
                self._account.caller(cut_by)

    async def last(self, speech: Callable[[], Awaitable[Utterance]]) -> None:
        """What is said after the end of the talk, and recorded. Raises SpeechError."""
        turn, before = self._account.aside(), self._speaker.last
        try:
            await speech()
        finally:
            if (said := self._speaker.last) is not None and said is not before:
                self._account.agent(turn, said, None)

    async def asides(self) -> None:
        """Say what others asked to be said. A caller who speaks meanwhile is heard first; the rest waits."""
        while self._inbox.asides:
            await self.line_restored()
            request = self._inbox.asides.popleft()
            early = self._early
            utterance, cut_by = await self.utter(
                self._speaker.say(request.text), None, self._account.aside(), interruptible=True
            )
            if utterance.interrupted and isinstance(cut_by, LineLost):
                self._inbox.asides.appendleft(request)
            elif utterance.interrupted and isinstance(cut_by, BargeIn | KeyPressed):
                return
            elif self._early is not None and self._early is not early:
                # Whatever was said beside it, the words answer what was asked before.
                self._inbox.hand_back(self._early.ended)
                self._early = early
                return

    async def line_restored(self) -> None:
        """Wait until there is a line to speak on."""
        while not self._inbox.line_up:
            event = await self._inbox.next()
            if isinstance(event, TurnEnded):
                self._account.caller(event)

    def take_cut(self) -> Utterance | None:
        """What a sound interrupted; from now on it is the asker's affair."""
        cut, self.cut = self.cut, None
        return cut

    def take_early(self) -> Early | None:
        """What the caller said while we went on speaking."""
        early, self._early = self._early, None
        return early

    async def _attend(
        self, speech: asyncio.Task[Utterance], expects: Expects, *, interruptible: bool, asks: bool
    ) -> Event | None:
        """Follow events while we speak; the one that cut us short, if any.

        At a sound of the caller's we fall silent and hold what is unsaid, until it proves to be words, or
        nothing: a cough, a door, "uh-huh".
        """
        held: BargeIn | None = None
        while (event := await self._inbox.next(unless=speech)) is not None:
            if (sound := self._sound(event, interruptible)) is not None and await self._speaker.hold():
                held = sound
                continue
            if isinstance(event, TurnEnded) and is_hello(event.text):
                self.waiting.asked.set()
            replaces = asks and interruptible and held is None
            if isinstance(event, TurnEnded) and self._goes_on(event, replaces=replaces):
                await self._speaker.interrupt()
                return event
            if isinstance(event, TurnEnded) and held is not None:
                if interruptible and not self._leaves_us_the_floor(event, expects):
                    self._inbox.hand_back(event)  # to be answered when we listen
                    await self._speaker.interrupt()
                    return held
                self._speaker.resume()
                held = None
            if isinstance(event, TurnEnded):
                self._account.caller(event)
            if cuts(event, interruptible=interruptible):
                await self._speaker.interrupt()
                return event
            if isinstance(event, TurnEnded) and event.text and not event.aside:
                self._keep_early(event)
        return None

    def _sound(self, event: Event, interruptible: bool) -> BargeIn | None:
        """A sound at which we fall silent: the caller talks over us, or goes on before our answer began."""
        match event:
            case BargeIn(started_ms) if interruptible or self._undo.open_at(started_ms):
                return event
            case SpeechStarted(started_ms) if self._undo.unheard and self._undo.open_at(started_ms):
                return BargeIn(started_ms)
            case _:
                return None

    def _goes_on(self, ended: TurnEnded, *, replaces: bool) -> bool:
        """Whether the caller went on, so that what we are saying answers half of it. `replaces`: any words
        do that as long as a language model is still looking for its own."""
        if self._undo.goes_on(ended):
            return True
        if not (replaces and ended.text) or self._speaker.speaking:
            return False
        if is_hello(ended.text):
            return False
        # "Okay" to our "one moment, please" is no reason to give up what the moment is for.
        spoke_ms = ended.speech_ended_ms - ended.started_ms
        return not (self._speaker.heard_so_far and is_backchannel(ended.text, spoke_ms))

    def _keep_early(self, ended: TurnEnded) -> None:
        script = self._speaker.last.text if self._speaker.speaking and self._speaker.last else ""
        asked = has_asked(self._speaker.heard_so_far, script) if script else False
        last = self._speaker.last
        heard_ms = last.heard_from_ms if last is not None else None
        first = heard_ms is None or ended.started_ms < heard_ms
        self._early = Early(ended, self._flow.node_id, asked, first)

    def _leaves_us_the_floor(self, ended: TurnEnded, expects: Expects) -> bool:
        if not ended.text:
            return True
        said = self._speaker.last
        script, heard = said.text if said else "", self._speaker.heard_so_far
        if is_hello(ended.text):
            # As one answers the telephone, or hears nothing yet: what we are saying is the answer to that.
            return not self._flow.matters(ended.text, asked=has_asked(heard, script))
        return ended.aside and not answers(ended.text, expects, heard, script)


def rest_of(step: Step, utterance: Utterance) -> Step | None:
    """The step with what was not heard yet, from the start of the sentence where it was cut."""
    heard = len(utterance.heard_text.split())
    script = [piece.text for piece in pieces(utterance.text)]
    for number, text in enumerate(script):
        heard -= len(text.split())
        if heard < 0:
            return replace(step, say=tuple(script[number:]), ask=None)
    return None
