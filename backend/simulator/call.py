"""One call leg as Telnyx keeps it: its states, and the commands it takes.

Commands are plain methods that act at once or raise `Refusal`; what takes time runs in tasks the call owns.
Its jobs have modules of their own: `streaming`, `announcing`, `transcribing`, `transferring`, `machine` …
Knows nothing of HTTP or of how its other end listens and speaks (`conversation`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Literal

from backend.simulator import refusal
from backend.simulator.announcing import Announcing
from backend.simulator.billing import SIP_CAUSES, call_cost
from backend.simulator.caller import KEY_GAP_MS
from backend.simulator.conversation import Conversation
from backend.simulator.lifetime import Lifetime
from backend.simulator.line import Utterance
from backend.simulator.machine import find_out
from backend.simulator.orders import Order, Plan, RecordingOrder, StreamOrder, TranscriptionOrder
from backend.simulator.ports import Surroundings
from backend.simulator.record import LineEvent, LineRecord
from backend.simulator.recording import Recorder
from backend.simulator.script import Say
from backend.simulator.streaming import Streaming
from backend.simulator.telling import Telling
from backend.simulator.transcribing import Transcribing
from backend.simulator.transferring import Transferring

log = logging.getLogger(__name__)

State = Literal["ringing", "answered", "ended"]
Party = Literal["caller", "agent", "carrier"]


class SimCall:
    """One leg. `run` lives until the call has ended and everything about it is known."""

    def __init__(self, order: Order, plan: Plan, around: Surroundings) -> None:
        self.order, self.plan, self._around = order, plan, around
        self.state: State = "ringing"
        self.complete = False
        self.hangup_cause: str | None = None
        self.hangup_source: str | None = None
        self.script_error: str | None = None
        self.created_at = datetime.now(UTC)
        self._answered_s: float | None = None
        self._spoke = asyncio.Event()  # the person's first words are over
        self._answered = asyncio.Event()
        self.conversation = Conversation(
            plan.codec,
            plan.script,
            plan.said,
            around.ears,
            on_event=self._line_event,
            on_key=self._caller_key,
            on_hang_up=self._caller_hangs_up,
            activity=around.make_activity(),
            shelf=around.shelf,
        )
        line = self.conversation.line
        self._telling = telling = Telling(order, around, lambda: line.now_ms)
        self.call_control_id = telling.call_control_id
        self.call_leg_id, self.call_session_id = telling.call_leg_id, telling.call_session_id
        self._life = life = Lifetime(self.call_control_id)
        self._streaming = Streaming(order, plan, around, life, telling, self.conversation)
        self._announcing = Announcing(around.voice, line, life, telling)
        self._transcribing = Transcribing(life, telling)
        self._transferring = Transferring(order, around.times, life, telling, self.conversation)
        self.recorder = Recorder(line)

    @property
    def client_state(self) -> str | None:
        """What the backend wants to be told again with every webhook, in base64."""
        return self._telling.client_state

    @client_state.setter
    def client_state(self, state: str) -> None:
        self._telling.client_state = state

    def record(self) -> LineRecord:
        """Everything so far."""
        return self._telling.record(self.plan.codec)

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
            await self._life.settle()
            self._save_recording()
            self.complete = True

    async def _ring_in(self) -> None:
        self._telling.note("ringing", to=self.order.to_number)
        self._telling.tell_numbered("call.initiated", direction="incoming", state="parked")
        if not await self._life.happens(self._answered, self._around.times.caller_rings_s):
            self._end("caller", "originator_cancel")

    async def _ring_out(self) -> None:
        self._telling.note("ringing", to=self.order.to_number)
        self._telling.tell_numbered("call.initiated", direction="outgoing", state="bridging")
        plan, patience_s = self.plan, self.order.timeout_s
        after_s = 1.0 if plan.answer_after_ms is None else plan.answer_after_ms / 1000
        if plan.outcome == "no_answer" and plan.answer_after_ms is None:
            after_s = patience_s
        if await self._life.happens(self._life.over, min(after_s, patience_s)):
            return
        if after_s >= patience_s:
            self._end("carrier", "timeout")
        elif plan.outcome == "answer":
            self._pick_up()
            if self.order.stream is not None:
                self.start_streaming(self.order.stream)
            if self.order.machine_detection != "disabled":
                self._life.spawn(self._find_out_who_answered(), "machine detection")
        else:
            self._end("caller", "user_busy" if plan.outcome == "busy" else "no_answer")

    async def _talk(self) -> None:
        times = self._around.times
        await self._life.happens(self._life.line_wanted, times.media_grace_s)
        if self._life.over.is_set():
            return
        self._telling.start_clock()
        limit_s = min(self.order.time_limit_s or times.longest_call_s, times.longest_call_s)
        limit = asyncio.get_running_loop().call_later(limit_s, self._end, "carrier", "time_limit")
        try:
            await self.conversation.run(self._life.over)
        finally:
            limit.cancel()

    def _pick_up(self) -> None:
        self.state, self._answered_s = "answered", time.monotonic()
        self._answered.set()
        self._telling.note("answered")
        self._telling.tell_numbered("call.answered", state="answered")

    def _end(self, by: Party, cause: str) -> None:
        if self.state == "ended":
            return
        self.state, self.hangup_cause = "ended", cause
        self.hangup_source = self._source(by)
        self._telling.note("hangup", by=by, cause=cause)
        self._life.over.set()
        self._streaming.end()
        self._telling.tell_numbered(
            "call.hangup",
            state="hangup",
            hangup_cause=cause,
            hangup_source=self.hangup_source,
            sip_hangup_cause=SIP_CAUSES.get(cause, "unspecified"),
            start_time=self.created_at.isoformat().replace("+00:00", "Z"),
        )
        self._transferring.hung_up(cause)
        if self._answered_s is not None:
            talked_s = time.monotonic() - self._answered_s
            cost = call_cost(
                talked_s,
                streamed=self._streaming.used,
                recorded=self.recorder.running or bool(self.recorder.done),
                detection=self.order.machine_detection,
            )
            self._telling.tell("call.cost", **cost)

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
        return self._streaming.start(order)

    def stop_streaming(self) -> None:
        self._must_talk()
        self._streaming.stop()

    def speak(self, text: str) -> None:
        self._must_talk()
        self._announcing.speak(text)

    def stop_playback(self, which: str) -> None:
        """The carrier's own voice falls silent, and what waits behind it is not said ("all") or now is."""
        self._must_talk()
        self._announcing.hush(everything=which == "all")

    def start_transcription(self, order: TranscriptionOrder) -> None:
        """From now on what the person says is told by webhook."""
        self._must_talk()
        self._transcribing.start(order)

    def stop_transcription(self) -> None:
        self._must_talk()
        self._transcribing.stop()

    def start_recording(self, order: RecordingOrder) -> None:
        """What both sides say is recorded from now on; where it lies is told by webhook when it has ended."""
        self._must_talk()
        if self.recorder.running:
            raise refusal.bad_request("This call is recorded already.")
        self.recorder.start(order, datetime.now(UTC))
        self._telling.note("recording", state="started", channels=order.channels)

    def stop_recording(self) -> None:
        self._must_talk()
        if not self.recorder.running:
            raise refusal.bad_request("This call is not recorded.")
        self._save_recording()

    def _save_recording(self) -> None:
        recorded = self.recorder.stop(datetime.now(UTC))
        if recorded is not None:
            self._telling.note("recording", state="saved", id=recorded.id)
            # As the documents have it: without the call's own id.
            self._telling.tell("call.recording.saved", self._telling.ids(control=False), **recorded.facts())

    def send_dtmf(self, digits: str) -> None:
        self._must_talk()
        for digit in digits:
            if digit not in "wW":
                self._telling.note("dtmf", digit=digit, by="agent")

    def transfer(self, to: str, from_number: str | None, target_client_state: str | None) -> None:
        self._must_talk()
        self._transferring.start(to, from_number, target_client_state)

    def drop_media(self) -> None:
        """Break the media socket as a network would. Raises Refusal when there is none."""
        self._streaming.drop()

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
        self._life.spawn(self._press(digits), "keys")

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

    async def _press(self, digits: str) -> None:
        for digit in digits:
            self.conversation.press(digit)
            if await self._life.happens(self._life.over, KEY_GAP_MS / 1000):
                return

    async def _find_out_who_answered(self) -> None:
        await self._life.happens(self._life.line_wanted, self._around.times.media_grace_s)
        script = self.plan.script
        first = script.steps[0] if script.steps else None
        await find_out(
            self.order.machine_detection,
            is_machine=script.machine,
            beeps=isinstance(first, Say) and first.beep,
            spoke=self._spoke,
            happens=self._life.happens,
            over=self._life.over.is_set,
            tell=lambda event_type, result: self._telling.tell_numbered(event_type, result=result),
        )

    # --- the person's doings ------------------------------------------------------------------------------

    def _line_event(self, event: LineEvent) -> None:
        self._telling.note_event(event)
        if event.kind == "caller_speech":
            self._spoke.set()
            self._transcribing.heard(str(event.data["text"]))

    def _caller_key(self, digit: str) -> None:
        self._telling.note("dtmf", digit=digit, by="caller")
        self._telling.tell_numbered("call.dtmf.received", digit=digit)

    def _caller_hangs_up(self, reason: str | None) -> None:
        self.script_error = reason
        self._end("caller", "normal_clearing")
