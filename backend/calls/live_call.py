"""One live call: carrier events and the media socket in, commands out, from first ring to last row written.

The machine in `backend.core.call` decides; this carries out. It owns every task of its call.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from backend.calls.apology import apologise
from backend.calls.carrier_voice import CARRIER, CarrierVoice
from backend.calls.conversation import (
    Conversation,
    KeyPressed,
    LikelyEnd,
    LineLost,
    LineRestored,
    SayRequest,
)
from backend.calls.listener import Listener, OwnVoice
from backend.calls.ports import CallParts, CarrierTold, ListeningCarrier, MediaSocket, StreamingTranscriber
from backend.calls.recorder import TurnRecorder
from backend.calls.speaker import Speaker
from backend.calls.thinker import Thinker
from backend.calls.voice import Voice
from backend.core import call as commands
from backend.core.agent import Agent
from backend.core.call import CallMachine, Command
from backend.core.dtmf import DtmfMerger, Source
from backend.core.failover import Patience
from backend.core.flow import Flow
from backend.core.g711 import Codec
from backend.core.hearing import CarrierHearing
from backend.core.media import (
    AudioIn,
    CarrierFault,
    DtmfIn,
    Ignored,
    MarkReturned,
    MediaSession,
    Started,
    Stopped,
    UnsupportedLeg,
)
from backend.core.records import CallRecord
from backend.core.steps import Action, CallWebhook, Hangup, SendDtmf, Transfer
from backend.core.templates import render
from backend.core.turns import Expects, TurnPolicy
from backend.errors import (
    CallGone,
    CarrierError,
    FlowError,
    HearingError,
    SpeechError,
    SpeechFailure,
    StorageError,
)

log = logging.getLogger(__name__)

NOT_CONNECTED = "I'm sorry, I could not connect you. Please call again later."
"""Said when a transfer fails."""

SEND_CODEC = Codec.PCMU
"""What we ask the carrier to take from us (`stream_bidirectional_codec`): it transcodes for the leg. What
comes from the caller is in the leg's own codec, as `start.media_format` says."""
_MAX_INBOX = 200
_STORE_TRIES = 4
_LAST_WORDS_S = 4.0
# Silence after which the words so far are recognised, where an answer can be begun with them: each time costs
# some 90 ms of the recogniser, most of them for a pause that is none.
_EARLY_PAUSE_MS = 72.0
_MAX_WEBHOOKS = 8  # of one call at a time; more are dropped, which is logged


class LiveCall:
    """A call under way. `run` returns when it is over and everything about it is stored."""

    def __init__(self, record: CallRecord, agent: Agent, variables: dict[str, str], parts: CallParts) -> None:
        self.record, self.agent, self._parts = record, agent, parts
        self.machine = CallMachine(record.direction)
        self.media_token = ""
        self.auth_token = ""
        self._variables = variables
        self._inbox: asyncio.Queue[Callable[[], list[Command]]] = asyncio.Queue(_MAX_INBOX)
        self._recorder = TurnRecorder(parts.store, record.id, on_turn=parts.observer.turn_answered)
        self._carrier_voice = CarrierVoice(
            parts.carrier,
            language=agent.language,
            ccid=lambda: self._ccid,
            command_id=self.next_command_id,
        )
        self._prepared = parts.prepared(agent)
        self._voice = Voice(
            parts.plan_routes(agent),
            board=parts.board,
            clock=parts.clock,
            codec=SEND_CODEC,
            patience=Patience(first_audio_ms=agent.failover.first_audio_ms, hedge_ms=agent.failover.hedge_ms),
            ears=parts.transcriber if agent.language.startswith("en") else None,
            prepared=self._prepared,
            last_resort=self._carrier_voice.say if CARRIER in agent.tts_fallbacks else None,
        )
        self._ears = parts.make_ears(agent, self._start_hearing) if parts.make_ears else parts.transcriber
        self._getting_ears_ready: asyncio.Task[None] | None = None
        self._dtmf = DtmfMerger()
        self._socket: MediaSocket | None = None
        self._reader: asyncio.Task[Any] | None = None
        self._conversation: Conversation | None = None
        self._speaker: Speaker | None = None
        self._flow: Flow | None = None
        self._listener: Listener | None = None
        self._thinker: Thinker | None = None
        self._webhooks = 0
        self._talk: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._started_ms = 0.0
        self._commands = 0
        self._transferred = False
        self._closing = False
        self.error: str | None = None
        self.stored = True
        """Whether the database knows this call; if not, it is told again with every change."""
        self.finished = asyncio.Event()

    # --- told from outside -----------------------------------------------------------------------------

    def tell(self, what: Callable[[], list[Command]]) -> None:
        """Something happened to the call: a method of its machine, to be run in the call's own order."""
        try:
            self._inbox.put_nowait(what)
        except asyncio.QueueFull:
            log.error("call %s: event dropped, %d are waiting", self.record.id, _MAX_INBOX)

    def key_pressed(self, digit: str, source: Source) -> None:
        """The caller pressed a key, as told by the media socket or by a webhook."""
        if self._dtmf.accept(source) and self._conversation is not None:
            self._conversation.notify(KeyPressed(digit))

    def say(self, text: str, *, interrupt: bool) -> bool:
        """Have the agent say something. False when it cannot speak now."""
        if self._conversation is None or self._talk is None or self._talk.done() or self.machine.over:
            return False
        self._conversation.notify(SayRequest(text, interrupt))
        return True

    async def dialled(self, call_control_id: str, call_session_id: str | None) -> None:
        """The carrier gave our outbound call its id."""
        await self._update(call_control_id=call_control_id, call_session_id=call_session_id)
        if self._closing or self.machine.over:
            # Given up meanwhile, as on shutdown: the telephone must not ring for nobody.
            await self._command("hang up", self._hang_up)
        self.tell(self.machine.dialled)

    async def transfer(self, to: str) -> None:
        """Hand the call to another number, and fall silent. Raises CarrierError."""
        await self._hand_over(to)
        if self._talk is not None:
            self._talk.cancel()

    def carrier_spoke(self) -> None:
        """The carrier has said what it was asked to say in its own voice."""
        self._carrier_voice.spoke()

    def carrier_heard(self, text: str, *, final: bool, at: str) -> None:
        """The carrier, listening along, has heard the caller say this."""
        if isinstance(self._ears, CarrierTold):
            self._ears.told(text, final=final, at=at)

    def next_command_id(self, name: str) -> str:
        """An id that makes a retried command harmless."""
        self._commands += 1
        return f"{self.record.id}-{self._commands}-{name}"

    # --- life ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """From first ring to the last row. Cancelling it hangs up."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                writer = tasks.create_task(self._recorder.run(), name="recorder")
                warm_up = tasks.create_task(self._warm_up(), name="warm up")
                self._started_ms = self._parts.clock()
                try:
                    await self._live()
                finally:
                    self._closing = True
                    warm_up.cancel()
                    if not self.machine.over:
                        # Cancelled from outside, as on shutdown: nobody is left on a dead line.
                        await self._command("hang up", self._hang_up)
                    await self._stop_talking()
                    await self._store_the_end()
                    writer.cancel()
        finally:
            self.finished.set()
            if self._thinker is not None:
                await self._thinker.aclose()
            await self._voice.aclose()
            if isinstance(self._ears, StreamingTranscriber):
                await self._ears.aclose()
            await self._carrier_voice.aclose()
            if self._prepared is not None:
                await self._prepared.aclose()

    async def _live(self) -> None:
        if self.record.direction == "inbound":
            await self._obey(self.machine.rang())
        while not self.machine.over:
            try:
                async with asyncio.timeout(self.machine.patience_s):
                    what = await self._inbox.get()
            except TimeoutError:
                what = self.machine.timed_out
            await self._obey(what())
            if self.machine.state != self.record.state:
                await self._update(state=self.machine.state)

    async def _obey(self, orders: list[Command]) -> None:
        for order in orders:
            match order:
                case commands.Answer():
                    await self._command("answer", self._answer)
                case commands.StartStreaming():
                    answered_at = self.record.answered_at or _now()
                    await self._command("start streaming", self._start_streaming)
                    await self._update(state="answered", answered_at=answered_at)
                case commands.HangUp(reason):
                    log.info("call %s: hanging up: %s", self.record.id, reason)
                    await self._command("hang up", self._hang_up)
                case commands.Finish(state, cause, source):
                    # With its reason at once: whoever sees that it is over may look why.
                    await self._update(
                        state=state,
                        hangup_cause=cause,
                        hangup_source=source,
                        ended_at=_now(),
                        error=self.error,
                    )

    async def _command(self, name: str, command: Callable[[], Any]) -> None:
        try:
            await command()
        except CallGone:
            self.tell(self.machine.gone)
        except CarrierError as error:
            log.error("call %s: cannot %s: %s", self.record.id, name, error)
            self.error = self.error or f"cannot {name}: {error}"
            if name == "hang up":
                self.tell(lambda: self.machine.hung_up("hangup_failed", "backend"))
            else:
                self.tell(lambda: self.machine.hang_up(f"cannot {name}"))

    @property
    def _ccid(self) -> str:
        return self.record.call_control_id or ""

    async def _answer(self) -> None:
        await self._parts.carrier.answer(self._ccid, command_id=self.next_command_id("answer"))

    async def _hang_up(self) -> None:
        if not self._ccid:
            return  # a dial the carrier has not taken yet
        await self._parts.carrier.hangup(self._ccid, command_id=self.next_command_id("hangup"))

    async def _start_streaming(self) -> None:
        self.media_token, self.auth_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        await self._parts.carrier.start_streaming(
            self._ccid,
            stream_url=f"{self._parts.media_url}/{self.media_token}",
            auth_token=self.auth_token,
            codec=SEND_CODEC.value,
            command_id=self.next_command_id("stream"),
        )

    async def _warm_up(self) -> None:
        try:
            await self._voice.connect()
        except SpeechError as error:
            # Not the end yet: the voice may be back by the time somebody picks up.
            log.warning("call %s: %s", self.record.id, error)

    async def _store_the_end(self) -> None:
        if not self.machine.over:
            await self._update(
                state="ended", hangup_cause="shutdown", hangup_source="backend", ended_at=_now()
            )
        ended = self.record
        # Everything once more, so that whatever the database missed meanwhile is put right.
        for attempt in range(_STORE_TRIES):
            if await self._update(
                state=ended.state,
                call_control_id=ended.call_control_id,
                call_session_id=ended.call_session_id,
                answered_at=ended.answered_at,
                ended_at=ended.ended_at,
                hangup_cause=ended.hangup_cause,
                hangup_source=ended.hangup_source,
                error=self.error,
                variables=dict(self._variables),
            ):
                break
            await asyncio.sleep(0.2 * 2**attempt)
        else:
            log.error("call %s: its end is not in the database: %s", ended.id, self.record)
        try:
            async with asyncio.timeout(5.0):
                await self._recorder.flush()
        except TimeoutError:
            log.error("call %s: turns are missing from the database: it took too long", ended.id)

    async def _update(self, **changes: object) -> bool:
        """Change the call's record, here and in the database; False when that could not be told."""
        before = self.record.state
        self.record = replace(self.record, **changes)  # type: ignore[arg-type]
        if self.record.state != before:
            self._parts.observer.call_moved(self.record.direction, before, self.record.state)
        try:
            if self.stored:
                await self._parts.store.update(self.record.id, **changes)
            else:
                await self._parts.store.create(self.record)
                self.stored = True
        except StorageError as error:
            log.error("call %s: not stored: %s: %s", self.record.id, changes, error)
            return False
        return True

    # --- media -----------------------------------------------------------------------------------------

    def claims(self, token: str, auth_token: str | None) -> bool:
        """Whether a media socket with these tokens is the one asked for. A token serves once."""
        if not self.media_token or not secrets.compare_digest(token.encode(), self.media_token.encode()):
            return False
        if auth_token is not None and not secrets.compare_digest(
            auth_token.encode(), self.auth_token.encode()
        ):
            return False
        self.media_token = ""
        return not (self.machine.over or self._closing)

    async def attach(self, socket: MediaSocket) -> None:
        """Serve a media socket until it closes or the call is over."""
        session = MediaSession()
        reader = asyncio.create_task(self._read(socket, session), name="media")
        over = asyncio.create_task(self.finished.wait(), name="call over")
        try:
            await asyncio.wait([reader, over], return_when=asyncio.FIRST_COMPLETED)
            if reader.done() and not reader.cancelled():
                reader.result()
        except UnsupportedLeg as error:
            log.error("call %s: %s", self.record.id, error)
            self.error = str(error)
            self.tell(lambda: self.machine.hang_up("unsupported codec"))
        finally:
            reader.cancel()
            over.cancel()
            if self._socket is socket:
                self._socket = None
                if self._conversation is not None:
                    self._conversation.notify(LineLost())
                self.tell(self.machine.media_lost)
            await socket.close()

    async def _read(self, socket: MediaSocket, session: MediaSession) -> None:
        while (frame := await socket.receive()) is not None:
            for event in session.receive(frame):
                match event:
                    case AudioIn(g711):
                        if self._listener is not None and self._socket is socket:
                            self._listener.push(g711)
                    case MarkReturned(name):
                        if self._speaker is not None:
                            self._speaker.mark_returned(name)
                    case DtmfIn(digit):
                        self.key_pressed(digit, "media")
                    case Started():
                        self._line_is_up(socket, event)
                    case Stopped():
                        return
                    case CarrierFault(code, detail):
                        log.warning(
                            "call %s: carrier could not use a frame: %s %s", self.record.id, code, detail
                        )
                    case Ignored(reason):
                        log.debug("call %s: media frame ignored: %s", self.record.id, reason)

    def _line_is_up(self, socket: MediaSocket, started: Started) -> None:
        if self._closing or self.machine.over:
            return  # the call ended while its media socket was connecting
        self._socket, self._reader = socket, asyncio.current_task()
        if self._conversation is not None:
            self._conversation.notify(LineRestored())
        else:
            assert self._tasks is not None
            self._begin(started)
        self.tell(self.machine.media_attached)

    async def _send(self, frame: str) -> None:
        """To the carrier; into the void while its socket is gone, since the clock of speech goes on."""
        if self._socket is not None:
            try:
                await self._socket.send(frame)
            except ConnectionError as error:
                log.debug("call %s: frame lost: %s", self.record.id, error)
                # A socket that takes nothing may still give: it is of no use all the same.
                if self._reader is not None:
                    self._reader.cancel()

    # --- talk ------------------------------------------------------------------------------------------

    def _begin(self, started: Started) -> None:
        """The line is up for the first time: the call's clock starts, and the talk."""
        assert self._tasks is not None
        zero_ms = self._parts.clock()

        def clock() -> float:
            return self._parts.clock() - zero_ms

        turns = self.agent.turns
        model = self._parts.language_model(self.agent)
        self._speaker = Speaker(
            self._send,
            self._voice,
            codec=SEND_CODEC,
            clock=clock,
            language=self.agent.language,
        )
        self._listener = Listener(
            codec=started.codec,
            detector=self._parts.make_detector(),
            transcriber=self._ears,
            policy=TurnPolicy(
                end_of_turn_ms=turns.end_of_turn_ms,
                yes_no_ms=min(TurnPolicy().yes_no_ms, turns.end_of_turn_ms),
                incomplete_ms=turns.incomplete_ms,
                digits_ms=turns.digits_ms,
                pause_ms=_EARLY_PAUSE_MS if model and self.agent.llm.preemptive else TurnPolicy().pause_ms,
                min_speech_ms=turns.min_speech_ms,
                barge_in=turns.barge_in,
            ),
            clock=clock,
            tasks=self._tasks,
            agent_speaking=lambda: self._speaker is not None and self._speaker.speaking,
            on_event=lambda event: self._conversation.notify(event) if self._conversation else None,
            on_deaf=self._deaf,
            on_likely_end=self._likely_end,
            own_voice=OwnVoice(self._speaker.playout.loudness.loudest_dbfs, self._last_said),
        )
        if isinstance(self._ears, StreamingTranscriber):
            self._getting_ears_ready = self._tasks.create_task(self._ears.connect(), name="ears")
        today = datetime.now().astimezone().date()
        self._flow = flow = Flow(self.agent, self._variables, thinks=model is not None, today=today)
        self._variables = flow.variables
        if model is not None:
            toolbox = self._parts.toolbox(self.agent, self._variables)
            self._thinker = Thinker(self.agent, model, toolbox, count=self._parts.llm_answered)
        self._conversation = Conversation(
            flow=flow,
            speaker=self._speaker,
            recorder=self._recorder,
            perform=self._perform,
            expect=self._expect,
            clock=clock,
            thinker=self._thinker,
        )
        self._talk = self._tasks.create_task(
            self._converse(self._conversation, self._speaker), name="conversation"
        )

    async def _converse(self, conversation: Conversation, speaker: Speaker) -> None:
        sender = asyncio.create_task(speaker.run(), name="playout")
        try:
            async with asyncio.timeout(self.agent.limits.max_call_seconds):
                reason = await conversation.run()
        except TimeoutError:
            reason = f"the call reached its limit of {self.agent.limits.max_call_seconds} s"
        except (SpeechError, FlowError) as error:
            log.error("call %s: %s", self.record.id, error)
            self.error = str(error)
            reason = "the agent could not go on"
            await self._apologise(voice_is_left=isinstance(error, FlowError))
        except Exception as error:
            # A bug must not cost the call its end, nor the database its turns.
            log.exception("call %s: the conversation failed", self.record.id)
            self.error = f"internal error: {error!r}"
            reason = "the agent could not go on"
            await self._apologise(voice_is_left=True)
        finally:
            sender.cancel()
            await asyncio.wait([sender])
        if not self._transferred:
            self.tell(lambda: self.machine.hang_up(reason))

    async def _apologise(self, *, voice_is_left: bool) -> None:
        """Say sorry, then pass the caller on to somebody, if the agent says so."""
        assert self._conversation is not None
        assert self._speaker is not None
        failover = self.agent.failover
        await apologise(
            render(failover.apology, self._variables),
            self._conversation,
            self._speaker,
            self._prepared,
            self._carrier_voice,
            voice_is_left=voice_is_left,
        )
        if failover.transfer_to is not None:
            await self._perform(Transfer(render(failover.transfer_to, self._variables)))

    async def _perform(self, action: Action) -> str | None:
        try:
            match action:
                case Transfer(to):
                    await self._hand_over(to)
                case SendDtmf(digits):
                    await self._parts.carrier.send_dtmf(
                        self._ccid, digits=digits, command_id=self.next_command_id("dtmf")
                    )
                case CallWebhook(url):
                    self._tell_webhook(url)
                case Hangup():
                    pass  # the conversation ends, and with it the call
                case other:
                    log.warning("call %s: this version cannot do %s yet", self.record.id, other)
        except CarrierError as error:
            log.error("call %s: %s", self.record.id, error)
            self.error = str(error)
            if isinstance(action, Transfer):
                return NOT_CONNECTED
        return None

    def _tell_webhook(self, url: str) -> None:
        """Pass on what is known now; the call goes on meanwhile."""
        send = self._parts.webhook
        if send is None or self._tasks is None or self._webhooks >= _MAX_WEBHOOKS:
            log.error("call %s: webhook not sent: %s", self.record.id, url)
            return
        data = {
            "event": "node",
            "node_id": self._flow.node_id if self._flow is not None else None,
            "call_id": self.record.id,
            "call_control_id": self.record.call_control_id,
            "agent_id": self.agent.id,
            "direction": self.record.direction,
            "from": self.record.from_number,
            "to": self.record.to_number,
            "at": _now().isoformat(),
            "variables": dict(self._variables),
        }

        async def tell() -> None:
            try:
                await send(url, data)
            finally:
                self._webhooks -= 1

        self._webhooks += 1
        self._tasks.create_task(tell(), name="webhook")

    async def _hand_over(self, to: str) -> None:
        await self._parts.carrier.transfer(self._ccid, to=to, command_id=self.next_command_id("transfer"))
        self._transferred = True
        self.tell(self.machine.handed_over)

    def _expect(self, expects: Expects) -> None:
        if self._listener is not None:
            self._listener.turns.expects = expects
        if self._prepared is not None and self._flow is not None:
            self._prepared.prepare_soon(self._flow.likely_texts())

    def _likely_end(self, text: str) -> None:
        if self._conversation is not None and self._thinker is not None:
            self._conversation.notify(LikelyEnd(text))

    def _last_said(self) -> str:
        said = self._speaker.last if self._speaker is not None else None
        return said.text if said is not None else ""

    def _deaf(self, error: HearingError) -> None:
        log.error("call %s: %s", self.record.id, error)
        self.error = self.error or str(error)

    async def _start_hearing(self, order: CarrierHearing) -> None:
        carrier = self._parts.carrier
        if not isinstance(carrier, ListeningCarrier):
            what = "this carrier cannot listen along"
            raise HearingError(what, route="telnyx", reason="bad_request")
        try:
            await carrier.start_transcription(
                self._ccid,
                model=order.model,
                language=order.language,
                key_terms=order.key_terms,
                command_id=self.next_command_id("transcription"),
            )
        except CarrierError as error:
            raise HearingError(str(error), route="telnyx", reason=_refusal(error)) from error

    async def _stop_talking(self) -> None:
        if self._getting_ears_ready is not None:
            self._getting_ears_ready.cancel()
        if self._talk is not None:
            self._talk.cancel()
            await asyncio.wait([self._talk], timeout=2.0)
        if self._listener is not None and self._conversation is not None:
            await self._keep_last_words(self._listener, self._conversation)
            self._listener.close()

    async def _keep_last_words(self, listener: Listener, conversation: Conversation) -> None:
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                if (ended := await listener.last_words()) is not None:
                    conversation.record_last_words(ended)
        except TimeoutError:
            log.warning("call %s: the caller's last words were not recognised in time", self.record.id)
        except HearingError as error:
            self._deaf(error)


def _refusal(error: CarrierError) -> SpeechFailure:
    """Why the carrier does not listen along."""
    if isinstance(error, CallGone):
        return "bad_request"  # it is not the carrier's fault
    if error.status in (401, 403):
        return "unauthorized"
    if error.status is None:
        return "unreachable"
    return "rate_limited" if error.status == 429 else "generation_failed"


def _now() -> datetime:
    return datetime.now(UTC)
