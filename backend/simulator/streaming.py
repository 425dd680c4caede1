"""The media stream of one call, as Telnyx keeps it: opened, carried, ended, and what comes over it played.

Refuses to know when a call may have one.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from functools import partial

from backend.simulator import refusal
from backend.simulator.conversation import Conversation
from backend.simulator.lifetime import Lifetime
from backend.simulator.media_leg import StreamFailed
from backend.simulator.media_wire import BadFrame, ClearQueue, Command, PlayAudio, PlayMark, StreamFacts
from backend.simulator.orders import Order, Plan, StreamOrder
from backend.simulator.ports import Stream, Surroundings
from backend.simulator.telling import Telling

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Stream:
    leg: Stream
    order: StreamOrder
    live: bool = False


class Streaming:
    """One call's: at most one stream at a time."""

    def __init__(
        self,
        order: Order,
        plan: Plan,
        around: Surroundings,
        life: Lifetime,
        telling: Telling,
        conversation: Conversation,
    ) -> None:
        self._order, self._plan, self._around = order, plan, around
        self._life, self._telling, self._conversation = life, telling, conversation
        self._stream: _Stream | None = None
        self.used = False  # a stream was live at some time

    def start(self, order: StreamOrder) -> str:
        """→ the stream's id; whether it could be opened is told by webhook. Raises Refusal."""
        if self._stream is not None:
            raise refusal.streaming_in_use()
        facts = StreamFacts(
            stream_id=str(uuid.uuid4()),
            call_control_id=self._telling.call_control_id,
            call_session_id=self._telling.call_session_id,
            from_number=self._order.from_number,
            to_number=self._order.to_number,
            encoding=(order.send_codec or self._plan.codec).value,
            client_state=self._telling.client_state,
            auth_token=order.auth_token,
            custom_parameters=order.custom_parameters,
        )
        leg = self._around.open_stream(
            order.url,
            facts,
            user_id=self._around.user_id,
            on_command=partial(self._play_command, facts.stream_id),
            faults=self._plan.faults or self._around.faults,
        )
        self._stream = _Stream(leg, order)
        self._life.spawn(self._carry(self._stream), "stream")
        return facts.stream_id

    def stop(self) -> None:
        """Raises Refusal when there is none."""
        if self._stream is None:
            raise refusal.not_streaming()
        self.end()

    def end(self) -> None:
        """As `stop`, but there may be none."""
        if (stream := self._stream) is not None:
            stream.leg.stop()
            self._forget(stream, None)

    def drop(self) -> None:
        """Break the socket as a network would. Raises Refusal when there is none."""
        if self._stream is None or not self._stream.live:
            raise refusal.not_streaming()
        self._stream.leg.drop()

    async def _carry(self, stream: _Stream) -> None:
        failure: str | None = None
        try:
            await stream.leg.run(partial(self._began, stream))
        except StreamFailed as error:
            failure = str(error)
            log.warning("call %s: %s", self._telling.call_control_id, failure)
        self._forget(stream, failure)

    def _began(self, stream: _Stream) -> None:
        if self._stream is not stream:
            return
        stream.live = self.used = True
        order, stream_id = stream.order, stream.leg.facts.stream_id
        self._conversation.attach(
            stream.leg,
            order.send_codec or self._plan.codec,
            inbound=order.inbound_track,
            outbound=order.outbound_track,
        )
        self._life.line_wanted.set()
        self._telling.note("streaming", state="started", stream_id=stream_id)
        self._telling.tell("streaming.started", stream_id=stream_id, stream_url=order.url)

    def _forget(self, stream: _Stream, failure: str | None) -> None:
        """The call goes on without it. Its end is told once."""
        if self._stream is stream:
            self._stream = None
            self._conversation.detach()
            self._tell_ended(stream, failure)

    def _tell_ended(self, stream: _Stream, failure: str | None) -> None:
        state = "stopped" if failure is None else "failed"
        stream_id = stream.leg.facts.stream_id
        self._telling.note("streaming", state=state, stream_id=stream_id)
        if failure is None:
            self._telling.tell("streaming.stopped", stream_id=stream_id, stream_url=stream.order.url)
            return
        self._telling.tell(
            "streaming.failed",
            failure_reason=failure,
            stream_id=stream_id,
            stream_type="websocket",
            stream_params={"stream_url": stream.order.url},
        )

    # --- what comes over it ---------------------------------------------------------------------------

    def _play_command(self, stream_id: str, command: Command) -> None:
        stream = self._stream
        if stream is None or stream.leg.facts.stream_id != stream_id:
            return  # the last words of a stream that was stopped
        queue = self._conversation.line.queue
        match command:
            case PlayAudio(g711):
                if stream.order.plays:  # else it is dropped without a word, as Telnyx does
                    queue.push_audio(stream.order.play_codec.decode(g711))
            case PlayMark(name):
                if queue.push_mark(name):
                    self._return_mark(stream.leg, name)
            case ClearQueue():
                cleared = queue.clear()
                self._telling.note("clear", queued_ms_dropped=cleared.dropped_ms)
                for name in cleared.marks:
                    self._return_mark(stream.leg, name, cleared=True)
            case BadFrame(code, _, detail):
                self._telling.note("media_error", code=code, detail=detail)

    def _return_mark(self, leg: Stream, name: str, *, cleared: bool = False) -> None:
        leg.send_mark(name)
        self._telling.note("mark", name=name, **({"cleared": True} if cleared else {}))
