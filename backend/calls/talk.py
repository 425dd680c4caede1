"""A call's talk: mouth, ears, flow and thoughts put together once the line is up, and taken apart at the end.

Owns the talk's tasks. What is said, `conversation` decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from backend.calls.apology import apologise
from backend.calls.equipment import Equipment
from backend.calls.flow_actions import FlowActions
from backend.calls.hearing.listener import Listener, OwnVoice
from backend.calls.ledger import Ledger
from backend.calls.leg import SEND_CODEC
from backend.calls.message import LineWatch, say_whole
from backend.calls.ports import CallParts, LlmOutcome, StreamingTranscriber
from backend.calls.speaking.speaker import Speaker
from backend.calls.talking.conversation import Conversation
from backend.calls.talking.events import KeyPressed, LikelyEnd, LineLost, LineRestored, SayRequest
from backend.calls.talking.thinker import Thinker
from backend.calls.talking.tool_log import LoggedToolbox
from backend.core.agent import Agent
from backend.core.flow import Flow
from backend.core.g711 import Codec
from backend.core.steps import Action, Transfer
from backend.core.templates import render
from backend.core.turns import Expects, TurnEvent, TurnPolicy
from backend.core.zones import local
from backend.errors import FlowError, HearingError, SpeechError

log = logging.getLogger(__name__)

_LAST_WORDS_S = 4.0
_GOODBYE_S = 20.0
_LOOK_S = 0.5  # how often a budget is looked at
# Silence after which the words so far are recognised, where an answer can be begun with them: the first
# silent window. Each time costs some 100 ms of the recogniser; of 137 synthesised sentences 6 were paused in,
# 4 at 72 ms, and as many words misheard.
_EARLY_PAUSE_MS = 40.0


class Talk:
    """One call's. It begins when made; its clock starts then. `stop` it, then `aclose`."""

    def __init__(
        self,
        agent: Agent,
        variables: dict[str, str],
        parts: CallParts,
        equipment: Equipment,
        ledger: Ledger,
        actions: FlowActions,
        *,
        codec: Codec,
        send: Callable[[str], Awaitable[None]],
        tasks: asyncio.TaskGroup,
        on_over: Callable[[str], None],
        silent: bool = False,
    ) -> None:
        """`codec`: what comes from the caller; `send` takes frames for the line; `on_over` is told why the
        talk is over, unless the caller was handed over; `silent`: say nothing but what `leave` asks for."""
        self._agent, self._ledger, self._actions = agent, ledger, actions
        self._equipment, self._on_over, self._tasks = equipment, on_over, tasks
        self._silent, self._line = silent, LineWatch()
        self._llm_answered = parts.llm_answered
        zero_ms = parts.clock()

        def clock() -> float:
            return parts.clock() - zero_ms

        model = parts.language_model(agent)
        self._speaker = Speaker(send, equipment.voice, codec=SEND_CODEC, clock=clock, language=agent.language)
        self._conversation: Conversation | None = None
        self._listener = Listener(
            codec=codec,
            detector=parts.make_detector(),
            transcriber=equipment.ears,
            policy=_policy(agent, answers_early=model is not None and agent.llm.preemptive),
            clock=clock,
            tasks=tasks,
            agent_speaking=lambda: self._speaker.speaking,
            on_event=self._heard,
            on_deaf=self._deaf,
            on_likely_end=self._likely_end,
            own_voice=OwnVoice(self._speaker.playout.loudness.loudest_dbfs, self._last_said),
            judge_melody=parts.judge_melody,
        )
        self._getting_ears_ready: asyncio.Task[None] | None = None
        if isinstance(equipment.ears, StreamingTranscriber):
            self._getting_ears_ready = tasks.create_task(equipment.ears.connect(), name="ears")
        today = local(datetime.now(UTC), agent.timezone or parts.timezone).date()
        self._flow = Flow(agent, variables, thinks=model is not None, today=today)
        self._thinker: Thinker | None = None
        toolbox = parts.toolbox(agent, self._flow.tool_variables)
        logged = toolbox and LoggedToolbox(
            toolbox, ledger.turns, clock=clock, node_id=lambda: self._flow.node_id
        )
        if model is not None:
            self._thinker = Thinker(agent, model, logged, count=self._thought)
        self._conversation = Conversation(
            flow=self._flow,
            speaker=self._speaker,
            recorder=ledger.turns,
            perform=self._perform,
            expect=self._expect,
            clock=clock,
            thinker=self._thinker,
            toolbox=logged,
        )
        self._task: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        if not silent:
            self._task = tasks.create_task(self._converse(self._conversation), name="conversation")

    @property
    def variables(self) -> dict[str, str]:
        """As they are now, those the caller filled included."""
        return self._flow.variables

    # --- told from outside -----------------------------------------------------------------------------

    def caller_audio(self, g711: bytes) -> None:
        """Audio of the caller's."""
        self._listener.push(g711)

    def mark_returned(self, name: str) -> None:
        """The carrier has played up to this mark."""
        self._speaker.mark_returned(name)

    def key_pressed(self, digit: str) -> None:
        """The caller pressed a key."""
        self._notify(KeyPressed(digit))

    def line_lost(self) -> None:
        """What is said now goes nowhere."""
        self._line.lost()
        self._notify(LineLost())

    def line_restored(self) -> None:
        """The line is there again."""
        self._line.restored()
        self._notify(LineRestored())

    def say(self, text: str, *, interrupt: bool) -> bool:
        """Have the agent say something. False when it does not speak any more."""
        if self._silent or self._task is None or self._task.done():
            return False
        self._notify(SayRequest(text, interrupt))
        return True

    def fall_silent(self) -> None:
        """End it in the middle of a word. Returns at once."""
        self._silent = True
        self._end_task()

    def get_ready(self, text: str) -> None:
        """This will be said soon. Returns at once."""
        if self._equipment.prepared is not None:
            self._equipment.prepared.prepare_soon([text])

    def leave(self, text: str, on_said: Callable[[bool], None]) -> None:
        """Fall silent, then say this from its start, whatever comes from the other side. `on_said` is told
        whether it was said."""
        self.fall_silent()
        self._task = self._tasks.create_task(self._leave(text, self._task, on_said), name="message")

    async def stop(self) -> None:
        """End it, and keep what the caller was saying."""
        if self._getting_ears_ready is not None:
            self._getting_ears_ready.cancel()
        self._end_task()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=2.0)
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                if (ended := await self._listener.last_words()) is not None and self._conversation:
                    self._conversation.record_last_words(ended)
        except TimeoutError:
            log.warning("call %s: the caller's last words were not recognised in time", self._call_id)
        except HearingError as error:
            self._deaf(error)
        self._listener.close()

    async def aclose(self) -> None:
        """Let go of the language model's requests."""
        if self._thinker is not None:
            await self._thinker.aclose()

    # --- the talk --------------------------------------------------------------------------------------

    @property
    def _call_id(self) -> str:
        return self._ledger.record.id

    def _end_task(self) -> None:
        """Once: told to end again while it keeps what was heard of it, it would lose that."""
        if self._task is not None and self._task is not self._ending:
            self._ending = self._task
            self._task.cancel()

    async def _converse(self, conversation: Conversation) -> None:
        sender = asyncio.create_task(self._speaker.run(), name="playout")
        limits = self._agent.limits
        reason = f"the call reached its limit of {limits.max_call_seconds} s"
        try:
            async with asyncio.timeout(limits.max_call_seconds) as limit:
                purse = asyncio.create_task(self._watch_budget(limit), name="budget")
                try:
                    reason = await conversation.run()
                finally:
                    purse.cancel()
        except TimeoutError:
            if self._over_budget():
                reason = f"the call has cost its {limits.budget_usd} dollars"
            if not await self._actions.settled():
                await self._say_goodbye(conversation)
        except (SpeechError, FlowError) as error:
            log.error("call %s: %s", self._call_id, error)
            self._ledger.error = str(error)
            reason = "the agent could not go on"
            await self._apologise(conversation, voice_is_left=isinstance(error, FlowError))
        except Exception as error:
            # A bug must not cost the call its end, nor the database its turns.
            log.exception("call %s: the conversation failed", self._call_id)
            self._ledger.error = f"internal error: {error!r}"
            reason = "the agent could not go on"
            await self._apologise(conversation, voice_is_left=True)
        finally:
            sender.cancel()
            await asyncio.wait([sender])
        if not await self._actions.settled():
            self._on_over(reason)

    def _over_budget(self) -> bool:
        # By the second: a begun minute, counted whole, would end a call of a small budget as it begins.
        budget_usd, spent_usd = (
            self._agent.limits.budget_usd,
            self._ledger.meter.used_usd(self._ledger.clock()),
        )
        return budget_usd is not None and spent_usd is not None and spent_usd >= budget_usd

    async def _watch_budget(self, limit: asyncio.Timeout) -> None:
        """End the talk as its longest time does."""
        if self._agent.limits.budget_usd is None:
            return
        while not self._over_budget():  # noqa: ASYNC110 - money runs with the clock; nobody tells
            await asyncio.sleep(_LOOK_S)
        if not limit.expired():  # else the longest time was up in the same moment
            limit.reschedule(asyncio.get_running_loop().time())

    def _thought(self, outcome: LlmOutcome, prompt_tokens: int, completion_tokens: int) -> None:
        self._ledger.meter.thought(prompt_tokens, completion_tokens)
        self._llm_answered(outcome, prompt_tokens, completion_tokens)

    async def _say_goodbye(self, conversation: Conversation) -> None:
        goodbye = render(self._agent.limits.goodbye, self.variables)
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await conversation.say_last(lambda: self._speaker.say(goodbye))
        except (SpeechError, TimeoutError) as error:
            log.warning("call %s: the goodbye was not said: %s", self._call_id, error)

    async def _leave(
        self, text: str, before: asyncio.Task[None] | None, on_said: Callable[[bool], None]
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        assert self._conversation is not None
        sender = asyncio.create_task(self._speaker.run(), name="playout")
        whole = False
        try:
            async with asyncio.timeout(self._agent.limits.max_call_seconds):
                whole = await say_whole(text, self._conversation, self._speaker, self._line)
            if not whole:
                self._ledger.error = "the message was not said: the line was lost again and again"
        except (SpeechError, TimeoutError) as error:
            log.error("call %s: the message was not said: %s", self._call_id, error)
            self._ledger.error = f"the message was not said: {error}"
        except Exception as error:
            # As in a talk: a bug must not cost the call its end.
            log.exception("call %s: the message failed", self._call_id)
            self._ledger.error = f"internal error: {error!r}"
        finally:
            sender.cancel()
            await asyncio.wait([sender])
        on_said(whole)

    async def _apologise(self, conversation: Conversation, *, voice_is_left: bool) -> None:
        """Say sorry, then pass the caller on to somebody, if the agent says so."""
        failover = self._agent.failover
        await apologise(
            render(failover.apology, self.variables),
            conversation,
            self._speaker,
            self._equipment.prepared,
            self._equipment.carrier_voice,
            voice_is_left=voice_is_left,
        )
        if failover.transfer_to is not None:
            await self._perform(Transfer(render(failover.transfer_to, self.variables)))

    async def _perform(self, action: Action) -> str | None:
        return await self._actions.perform(action, self._flow.node_id, self.variables)

    def _heard(self, event: TurnEvent) -> None:
        if self._conversation is not None and not self._silent:
            self._conversation.notify(event)

    def _notify(self, event: KeyPressed | LineLost | LineRestored | SayRequest | LikelyEnd) -> None:
        if self._conversation is not None:
            self._conversation.notify(event)

    def _expect(self, expects: Expects) -> None:
        self._listener.turns.expects = expects
        if self._equipment.prepared is not None:
            self._equipment.prepared.prepare_soon(self._flow.likely_texts())

    def _likely_end(self, text: str) -> None:
        if self._thinker is not None:
            self._notify(LikelyEnd(text))

    def _last_said(self) -> str:
        return self._speaker.last.text if self._speaker.last is not None else ""

    def _deaf(self, error: HearingError) -> None:
        log.error("call %s: %s", self._call_id, error)
        self._ledger.error = self._ledger.error or str(error)


def _policy(agent: Agent, *, answers_early: bool) -> TurnPolicy:
    turns, usual = agent.turns, TurnPolicy()
    return TurnPolicy(
        end_of_turn_ms=turns.end_of_turn_ms,
        yes_no_ms=min(usual.yes_no_ms, turns.end_of_turn_ms),
        incomplete_ms=turns.incomplete_ms,
        digits_ms=turns.digits_ms,
        pause_ms=_EARLY_PAUSE_MS if answers_early else usual.pause_ms,
        min_speech_ms=turns.min_speech_ms,
        barge_in=turns.barge_in,
    )
