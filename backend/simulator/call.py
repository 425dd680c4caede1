"""One call leg as Telnyx keeps it: its state, the commands it takes, the webhooks it causes, its stream.

Commands are plain methods that act at once or raise `Refusal`; what takes time runs in tasks the call owns.
Knows nothing of HTTP or of how its other end listens and speaks (`conversation`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, Protocol

from backend.errors import SpeechError
from backend.simulator import refusal
from backend.simulator.billing import SIP_CAUSES, call_cost
from backend.simulator.caller import KEY_GAP_MS
from backend.simulator.conversation import Activity, Conversation, Leg, Transcriber
from backend.simulator.eventlog import EventLog
from backend.simulator.line import Utterance
from backend.simulator.machine import find_out
from backend.simulator.media_leg import MediaFaults, MediaLeg, StreamFailed
from backend.simulator.media_wire import BadFrame, ClearQueue, Command, PlayAudio, PlayMark, StreamFacts
from backend.simulator.orders import (
    CallTimes,
    Order,
    Plan,
    RecordingOrder,
    StreamOrder,
    TranscriptionOrder,
)
from backend.simulator.record import EventKind, LineEvent, LineRecord, Logbook
from backend.simulator.recording import Recorder
from backend.simulator.script import Say
from backend.stt.vad import VoiceActivity

log = logging.getLogger(__name__)

State = Literal["ringing", "answered", "ended"]
Party = Literal["caller", "agent", "carrier"]
_FINAL_WORDS_AFTER_S = 0.25  # of the end of the person's speech


class Webhooks(Protocol):
    """Where word of a call goes. See `webhooks.WebhookSender`."""

    def send(self, url: str, event_type: str, payload: dict[str, Any]) -> str:
        """Returns at once: the event's id."""
        ...


class Announcer(Protocol):
    """The carrier's own voice. See `voice.CallerVoice`."""

    async def announce(self, text: str) -> bytes:
        """Int16 at 8 kHz. Raises SpeechError."""
        ...


class Stream(Leg, Protocol):
    """A media stream to the backend. See `media_leg.MediaLeg`."""

    facts: StreamFacts

    async def run(self, on_started: Callable[[], None]) -> None:
        """Live until either side ends it. Raises StreamFailed."""

    def stop(self) -> None: ...

    def drop(self) -> None: ...


class OpenStream(Protocol):
    """Makes a stream that `run` connects."""

    def __call__(
        self,
        url: str,
        facts: StreamFacts,
        *,
        user_id: str,
        on_command: Callable[[Command], None],
        faults: MediaFaults,
    ) -> Stream: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every call needs of the process."""

    webhooks: Webhooks
    voice: Announcer
    ears: Transcriber
    events: EventLog
    faults: MediaFaults
    times: CallTimes
    user_id: str
    open_stream: OpenStream = MediaLeg
    make_activity: Callable[[], Activity] = VoiceActivity


@dataclass(slots=True)
class _Stream:
    leg: Stream
    order: StreamOrder
    live: bool = False


class SimCall:
    """One leg. `run` lives until the call has ended and everything about it is known."""

    def __init__(self, order: Order, plan: Plan, around: Surroundings) -> None:
        self.order, self.plan, self._around = order, plan, around
        self.call_control_id = f"v3:{uuid.uuid4().hex}{uuid.uuid4().hex[:12]}"
        self.call_leg_id, self.call_session_id = str(uuid.uuid1()), str(uuid.uuid1())
        self.client_state = order.client_state
        self.state: State = "ringing"
        self.complete = False
        self.hangup_cause: str | None = None
        self.hangup_source: str | None = None
        self.script_error: str | None = None
        self.created_at = datetime.now(UTC)
        self._answered_s: float | None = None
        self._book = Logbook(now_s=time.monotonic(), unix_s=time.time())
        self._spoke = asyncio.Event()  # the person's first words are over
        self._answered, self._line_wanted, self._ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._stream: _Stream | None = None
        self._streamed = self._recorded = False
        self._speaking = asyncio.Lock()  # what is to be spoken queues up
        self._hushes = 0  # `speak` commands given before the last hush are not heard any more
        self._hushed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._transfer_leg: dict[str, Any] | None = None
        self._transcribing: TranscriptionOrder | None = None
        self.conversation = Conversation(
            plan.codec,
            plan.script,
            plan.said,
            around.ears,
            on_event=self._note_line,
            on_key=self._caller_key,
            on_hang_up=self._caller_hangs_up,
            activity=around.make_activity(),
        )
        self.recorder = Recorder(self.conversation.line)

    # --- the call's life ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ring, talk, end. Never raises; what goes wrong ends the call and is logged."""
        try:
            await (self._ring_in() if self.order.direction == "inbound" else self._ring_out())
            if self._answered.is_set():
                await self._talk()
        except Exception:
            log.exception("call %s broke", self.call_control_id)
        finally:
            self._end("carrier", "unspecified")
            for task in tuple(self._tasks):
                with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                    async with asyncio.timeout(5):
                        await task
            self._save_recording()
            self.complete = True

    async def _ring_in(self) -> None:
        self._note("ringing", to=self.order.to_number)
        self._tell("call.initiated", direction="incoming", state="parked", **self._numbers())
        if not await self._happens(self._answered, self._around.times.caller_rings_s):
            self._end("caller", "originator_cancel")

    async def _ring_out(self) -> None:
        self._note("ringing", to=self.order.to_number)
        self._tell("call.initiated", direction="outgoing", state="bridging", **self._numbers())
        plan, patience_s = self.plan, self.order.timeout_s
        after_s = 1.0 if plan.answer_after_ms is None else plan.answer_after_ms / 1000
        if plan.outcome == "no_answer" and plan.answer_after_ms is None:
            after_s = patience_s
        if await self._happens(self._ended, min(after_s, patience_s)):
            return
        if after_s >= patience_s:
            self._end("carrier", "timeout")
        elif plan.outcome == "answer":
            self._pick_up()
            if self.order.stream is not None:
                self.start_streaming(self.order.stream)
            if self.order.machine_detection != "disabled":
                self._spawn(self._find_out_who_answered(), "machine detection")
        else:
            self._end("caller", "user_busy" if plan.outcome == "busy" else "no_answer")

    async def _talk(self) -> None:
        times = self._around.times
        await self._happens(self._line_wanted, times.media_grace_s)
        if self._ended.is_set():
            return
        self._book.start_clock(now_s=time.monotonic(), unix_s=time.time())
        limit_s = min(self.order.time_limit_s or times.longest_call_s, times.longest_call_s)
        limit = asyncio.get_running_loop().call_later(limit_s, self._end, "carrier", "time_limit")
        try:
            await self.conversation.run(self._ended)
        finally:
            limit.cancel()

    async def _happens(self, event: asyncio.Event, within_s: float) -> bool:
        """Whether it happened in time; returns early when the call ends."""
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._ended.wait())]
        try:
            await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return event.is_set()

    def _pick_up(self) -> None:
        self.state, self._answered_s = "answered", time.monotonic()
        self._answered.set()
        self._note("answered")
        self._tell("call.answered", state="answered", **self._numbers())

    def _end(self, by: Party, cause: str) -> None:
        if self.state == "ended":
            return
        self.state, self.hangup_cause = "ended", cause
        self.hangup_source = self._source(by)
        self._note("hangup", by=by, cause=cause)
        self._ended.set()
        if self._stream is not None:
            self._end_stream(self._stream)
        self._tell(
            "call.hangup",
            state="hangup",
            hangup_cause=cause,
            hangup_source=self.hangup_source,
            sip_hangup_cause=SIP_CAUSES.get(cause, "unspecified"),
            start_time=self.created_at.isoformat().replace("+00:00", "Z"),
            **self._numbers(),
        )
        if self._transfer_leg is not None:
            self._tell("call.hangup", self._transfer_leg, state="hangup", hangup_cause=cause)
        if self._answered_s is not None:
            talked_s = time.monotonic() - self._answered_s
            cost = call_cost(
                talked_s,
                streamed=self._streamed,
                recorded=self._recorded,
                detection=self.order.machine_detection,
            )
            self._tell("call.cost", **cost)

    def _source(self, by: Party) -> str:
        """The caller of an outbound call is the backend."""
        if by == "carrier":
            return "unknown"
        return "caller" if (by == "caller") == (self.order.direction == "inbound") else "callee"

    # --- commands ---------------------------------------------------------------------------------------

    def answer(self, stream: StreamOrder | None) -> None:
        self._must_live()
        if self.order.direction == "outbound":
            raise refusal.answer_on_outbound()
        if self.state == "answered":
            raise refusal.bad_request("This call is answered already.")
        self._pick_up()
        if stream is not None:
            self.start_streaming(stream)

    def reject(self, cause: str) -> None:
        self._must_live()
        if self.order.direction == "outbound" or self.state != "ringing":
            raise refusal.bad_request("Only an incoming call that still rings can be rejected.")
        causes = {"USER_BUSY": "user_busy", "CALL_REJECTED": "call_rejected", "NOT_FOUND": "not_found"}
        self._end("agent", causes.get(cause, "unspecified"))

    def hang_up(self) -> None:
        self._must_live()
        ringing_out = self.state == "ringing" and self.order.direction == "outbound"
        self._end("agent", "originator_cancel" if ringing_out else "normal_clearing")

    def start_streaming(self, order: StreamOrder) -> str:
        """→ the stream's id; whether it could be opened is told by webhook."""
        self._must_talk()
        if self._stream is not None:
            raise refusal.streaming_in_use()
        facts = StreamFacts(
            stream_id=str(uuid.uuid4()),
            call_control_id=self.call_control_id,
            call_session_id=self.call_session_id,
            from_number=self.order.from_number,
            to_number=self.order.to_number,
            encoding=(order.send_codec or self.plan.codec).value,
            client_state=self.client_state,
            auth_token=order.auth_token,
            custom_parameters=order.custom_parameters,
        )
        leg = self._around.open_stream(
            order.url,
            facts,
            user_id=self._around.user_id,
            on_command=partial(self._play_command, facts.stream_id),
            faults=self.plan.faults or self._around.faults,
        )
        self._stream = _Stream(leg, order)
        self._spawn(self._carry(self._stream), "stream")
        return facts.stream_id

    def stop_streaming(self) -> None:
        self._must_talk()
        if self._stream is None:
            raise refusal.not_streaming()
        self._end_stream(self._stream)

    def speak(self, text: str) -> None:
        self._must_talk()
        self._line_wanted.set()
        self._note("speak", text=text)
        self._spawn(self._speak(text, self._hushes), "speak")

    def stop_playback(self, which: str) -> None:
        """The carrier's own voice falls silent, and what waits behind it is not said ("all") or now is."""
        self._must_talk()
        self._note("speak_stop")
        if which == "all":
            self._hushes += 1
        self._hushed.set()

    def start_transcription(self, order: TranscriptionOrder) -> None:
        """From now on what the person says is told by webhook."""
        self._must_talk()
        if self._transcribing is not None:
            raise refusal.bad_request("This call is transcribed already.")
        self._transcribing = order

    def stop_transcription(self) -> None:
        self._must_talk()
        if self._transcribing is None:
            raise refusal.bad_request("This call is not transcribed.")
        self._transcribing = None

    def start_recording(self, order: RecordingOrder) -> None:
        """What both sides say is recorded from now on; where it lies is told by webhook when it has ended."""
        self._must_talk()
        if self.recorder.running:
            raise refusal.bad_request("This call is recorded already.")
        self.recorder.start(order, datetime.now(UTC))
        self._recorded = True
        self._note("recording", state="started", channels=order.channels)

    def stop_recording(self) -> None:
        self._must_talk()
        if not self.recorder.running:
            raise refusal.bad_request("This call is not recorded.")
        self._save_recording()

    def _save_recording(self) -> None:
        recorded = self.recorder.stop(datetime.now(UTC))
        if recorded is not None:
            self._note("recording", state="saved", id=recorded.id)
            # As the documents have it: without the call's own id.
            self._tell("call.recording.saved", self._ids(control=False), **recorded.facts())

    def send_dtmf(self, digits: str) -> None:
        self._must_talk()
        for digit in digits:
            if digit not in "wW":
                self._note("dtmf", digit=digit, by="agent")

    def transfer(self, to: str, from_number: str | None, target_client_state: str | None) -> None:
        self._must_talk()
        if self._transfer_leg is not None:
            raise refusal.bad_request("This call was transferred already.")
        self._note("transfer", to=to)
        self._transfer_leg = {
            "call_control_id": f"v3:{uuid.uuid4().hex}{uuid.uuid4().hex[:12]}",
            "call_leg_id": str(uuid.uuid1()),
            "call_session_id": self.call_session_id,
            "connection_id": self.order.connection_id,
            "client_state": target_client_state,
            "from": from_number or self.order.to_number,
            "to": to,
        }
        self._spawn(self._bridge(self._transfer_leg), "transfer")

    def drop_media(self) -> None:
        """Break the media socket as a network would. Raises Refusal when there is none."""
        if self._stream is None or not self._stream.live:
            raise refusal.not_streaming()
        self._stream.leg.drop()

    def end_by_caller(self) -> None:
        """The person hangs up now, whatever the script says. Raises Refusal when the call has ended."""
        self._must_live()
        self._end("caller", "normal_clearing" if self.state == "answered" else "originator_cancel")

    def say_by_caller(self, utterance: Utterance) -> None:
        """The person says this now, whatever the script says. Raises Refusal when there is no line."""
        self._must_talk()
        self.conversation.say(utterance)

    def press_by_caller(self, digits: str) -> None:
        """The person presses keys from now on. Raises Refusal when there is no line."""
        self._must_talk()
        self._spawn(self._press(digits), "keys")

    def cut(self) -> None:
        """The process ends, and the call with it."""
        self._end("carrier", "unspecified")

    def _must_live(self) -> None:
        if self.state == "ended":
            raise refusal.already_ended()

    def _must_talk(self) -> None:
        self._must_live()
        if self.state != "answered":
            raise refusal.not_answered()

    # --- what takes time ----------------------------------------------------------------------------------

    async def _carry(self, stream: _Stream) -> None:
        failure: str | None = None
        try:
            await stream.leg.run(partial(self._stream_began, stream))
        except StreamFailed as error:
            failure = str(error)
            log.warning("call %s: %s", self.call_control_id, failure)
        self._forget_stream(stream, failure)

    def _stream_began(self, stream: _Stream) -> None:
        if self._stream is not stream:
            return
        stream.live = self._streamed = True
        order, stream_id = stream.order, stream.leg.facts.stream_id
        self.conversation.attach(
            stream.leg,
            order.send_codec or self.plan.codec,
            inbound=order.inbound_track,
            outbound=order.outbound_track,
        )
        self._line_wanted.set()
        self._note("streaming", state="started", stream_id=stream_id)
        self._tell("streaming.started", stream_id=stream_id, stream_url=order.url)

    def _end_stream(self, stream: _Stream) -> None:
        stream.leg.stop()
        self._forget_stream(stream, None)

    def _forget_stream(self, stream: _Stream, failure: str | None) -> None:
        """The call goes on without it. Its end is told once."""
        if self._stream is stream:
            self._stream = None
            self.conversation.detach()
            self._tell_stream_ended(stream, failure)

    def _tell_stream_ended(self, stream: _Stream, failure: str | None) -> None:
        state = "stopped" if failure is None else "failed"
        stream_id = stream.leg.facts.stream_id
        self._note("streaming", state=state, stream_id=stream_id)
        if failure is None:
            self._tell("streaming.stopped", stream_id=stream_id, stream_url=stream.order.url)
            return
        self._tell(
            "streaming.failed",
            failure_reason=failure,
            stream_id=stream_id,
            stream_type="websocket",
            stream_params={"stream_url": stream.order.url},
        )

    async def _speak(self, text: str, hushes: int) -> None:
        try:
            pcm16 = await self._around.voice.announce(text)
        except SpeechError as error:
            log.error("speak: %s", error)
            pcm16 = b""
        async with self._speaking:
            if self.state == "ended":
                return
            if hushes == self._hushes:
                self._hushed.clear()
                self._tell("call.speak.started")
                self.conversation.line.announce(pcm16)
                if await self._happens(self._hushed, len(pcm16) / 2 / 8000):
                    self.conversation.line.hush()
            # Telnyx has no word of its own for one that was stopped.
            self._tell("call.speak.ended", status="call_hangup" if self._ended.is_set() else "completed")

    async def _press(self, digits: str) -> None:
        for digit in digits:
            self.conversation.press(digit)
            if await self._happens(self._ended, KEY_GAP_MS / 1000):
                return

    async def _find_out_who_answered(self) -> None:
        await self._happens(self._line_wanted, self._around.times.media_grace_s)
        script = self.plan.script
        first = script.steps[0] if script.steps else None
        await find_out(
            self.order.machine_detection,
            is_machine=script.machine,
            beeps=isinstance(first, Say) and first.beep,
            spoke=self._spoke,
            happens=self._happens,
            over=self._ended.is_set,
            tell=lambda event_type, result: self._tell(event_type, result=result, **self._numbers()),
        )

    async def _bridge(self, leg: dict[str, Any]) -> None:
        self._tell("call.initiated", leg, direction="outgoing", state="bridging")
        if await self._happens(self._ended, self._around.times.transfer_rings_s):
            return
        self._tell("call.answered", leg, state="answered")
        self._tell("call.bridged", leg)
        self._tell("call.bridged", **self._numbers())
        self.conversation.transferred()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"{name} {self.call_control_id}")
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s broke", task.get_name(), exc_info=error)

    # --- the stream's and the person's doings -------------------------------------------------------------

    def _play_command(self, stream_id: str, command: Command) -> None:
        stream = self._stream
        if stream is None or stream.leg.facts.stream_id != stream_id:
            return  # the last words of a stream that was stopped
        queue = self.conversation.line.queue
        match command:
            case PlayAudio(g711):
                if stream.order.plays:  # else it is dropped without a word, as Telnyx does
                    queue.push_audio(stream.order.play_codec.decode(g711))
            case PlayMark(name):
                if queue.push_mark(name):
                    self._return_mark(stream.leg, name)
            case ClearQueue():
                cleared = queue.clear()
                self._note("clear", queued_ms_dropped=cleared.dropped_ms)
                for name in cleared.marks:
                    self._return_mark(stream.leg, name, cleared=True)
            case BadFrame(code, _, detail):
                self._note("media_error", code=code, detail=detail)

    def _return_mark(self, leg: Stream, name: str, *, cleared: bool = False) -> None:
        leg.send_mark(name)
        self._note("mark", name=name, **({"cleared": True} if cleared else {}))

    def _caller_key(self, digit: str) -> None:
        self._note("dtmf", digit=digit, by="caller")
        self._tell("call.dtmf.received", digit=digit, **self._numbers())

    def _caller_hangs_up(self, reason: str | None) -> None:
        self.script_error = reason
        self._end("caller", "normal_clearing")

    # --- telling ------------------------------------------------------------------------------------------

    def record(self) -> LineRecord:
        """Everything so far."""
        return self._book.record(
            call_control_id=self.call_control_id,
            direction=self.order.direction,
            codec=self.plan.codec.value,
            duration_ms=self.conversation.line.now_ms,
        )

    def _note(self, kind: EventKind, **data: Any) -> None:
        self._note_line(LineEvent(self.conversation.line.now_ms, kind, data))

    def _note_line(self, event: LineEvent) -> None:
        t_ms = self._book.add(event, now_s=time.monotonic())
        self._around.events.add(self.call_control_id, event, t_ms)
        if event.kind == "caller_speech":
            self._spoke.set()
        if event.kind == "caller_speech" and self._transcribing is not None and self.state == "answered":
            self._spawn(self._transcribe(str(event.data["text"]), self._transcribing), "transcription")

    async def _transcribe(self, text: str, order: TranscriptionOrder) -> None:
        """What the script says is what was heard: so far at once, if that is wanted, then for good."""
        if order.interim:
            self._tell_transcript(text, is_final=False)
        if not await self._happens(self._ended, _FINAL_WORDS_AFTER_S):
            self._tell_transcript(text, is_final=True)

    def _tell_transcript(self, text: str, *, is_final: bool) -> None:
        data = {
            "transcript": text,
            "is_final": is_final,
            "confidence": 0.97,
            "transcription_track": "inbound",
        }
        self._tell("call.transcription", transcription_data=data)

    def _numbers(self) -> dict[str, str]:
        return {"from": self.order.from_number, "to": self.order.to_number}

    def _tell(self, event_type: str, leg: dict[str, Any] | None = None, /, **payload: Any) -> None:
        ids = leg or self._ids()
        self._around.webhooks.send(self.order.webhook_url, event_type, {**ids, **payload})

    def _ids(self, *, control: bool = True) -> dict[str, Any]:
        ids = {
            "call_leg_id": self.call_leg_id,
            "call_session_id": self.call_session_id,
            "connection_id": self.order.connection_id,
            "client_state": self.client_state,
        }
        return {"call_control_id": self.call_control_id, **ids} if control else ids
