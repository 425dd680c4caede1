"""A backend and a carrier in one process, without sockets: the real calls, the stand-in's real line.

Commands and webhooks are method calls, the media socket is two queues, the database a dictionary. Knows
nothing of suites, nor whether anything is really heard.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self

from backend.calls.live_call import LiveCall
from backend.calls.manager import CallManager, DiallingCarrier
from backend.calls.ports import CallParts
from backend.core.agent import Agent
from backend.core.recordings import placed
from backend.core.records import (
    CallRecord,
    CallRecording,
    CallState,
    Direction,
    ToolUse,
    TurnRecord,
    TurnTimings,
)
from backend.core.voicemail import Detection
from backend.errors import CallGone, CarrierError
from backend.simulator import commands
from backend.simulator.call import SimCall
from backend.simulator.eventlog import EventLog
from backend.simulator.media_leg import MediaFaults, StreamFailed
from backend.simulator.media_wire import Command, FrameWriter, StreamFacts, read_command
from backend.simulator.orders import CallTimes, Order, Plan
from backend.simulator.ports import Surroundings
from backend.simulator.refusal import Refusal
from backend.telnyx.control import DialedCall
from backend.telnyx.webhooks import TelnyxEvent

AGENT_NUMBER, CALLER_NUMBER = "+15550100001", "+15550100077"
MEDIA_URL = "ws://memory/media"
_USER = "simulated-user"
_MAX_FRAMES = 10_000


class MemoryStore:
    """Calls and turns of this process. `on_turn` is told of each turn as it is kept, `on_node` of each node
    as it is entered."""

    def __init__(
        self,
        on_turn: Callable[[TurnRecord], None] | None = None,
        on_node: Callable[[str], None] | None = None,
    ) -> None:
        self._calls: dict[str, CallRecord] = {}
        self._on_turn, self._on_node = on_turn, on_node

    async def create(self, call: CallRecord) -> CallRecord:
        return self._calls.setdefault(call.id, call)

    async def update(self, call_id: str, **changes: object) -> CallRecord:
        before = self._calls[call_id]
        self._calls[call_id] = replace(before, **changes)  # type: ignore[arg-type]
        if self._on_node is not None:
            for node_id in self._calls[call_id].nodes[len(before.nodes) :]:
                self._on_node(node_id)
        return self._calls[call_id]

    async def add_turn(self, call_id: str, turn: TurnRecord) -> None:
        call = self._calls[call_id]
        others = [known for known in call.turns if known.index != turn.index]
        turns = tuple(sorted([*others, turn], key=lambda known: known.index))
        self._calls[call_id] = replace(call, turns=turns)
        if self._on_turn is not None:
            self._on_turn(turn)

    async def add_tool(self, call_id: str, tool: ToolUse) -> None:
        call = self._calls[call_id]
        others = [known for known in call.tools if known.index != tool.index]
        tools = tuple(sorted([*others, tool], key=lambda known: known.index))
        self._calls[call_id] = replace(call, tools=tools)

    async def keep_recording(self, call_id: str, told: CallRecording) -> None:
        call = self._calls[call_id]
        item = placed(call.recordings, told)
        if item is not None:
            others = [known for known in call.recordings if known.index != item.index]
            kept = tuple(sorted([*others, item], key=lambda known: known.index))
            self._calls[call_id] = replace(call, recordings=kept)

    async def find(
        self,
        *,
        call_id: str | None = None,
        call_control_id: str | None = None,
        call_leg_id: str | None = None,
        call_session_id: str | None = None,
    ) -> str | None:
        return next(iter(self._calls), None)  # there is but one

    async def get(self, any_id: str) -> CallRecord | None:
        if any_id in self._calls:
            return self._calls[any_id]
        return next((call for call in self._calls.values() if call.call_control_id == any_id), None)


class NobodyCounts:
    """An observer of calls and turns that does not look."""

    def call_moved(self, direction: Direction, before: CallState | None, now: CallState) -> None:
        """Not counted."""

    def turn_answered(self, timings: TurnTimings) -> None:
        """Not counted."""


class OneAgent:
    """The agents there are: one, whatever number is called."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def get(self, agent_id: str) -> Agent | None:
        return self._agent if agent_id == self._agent.id else None

    def by_number(self, number: str) -> Agent | None:
        return self._agent

    def all(self) -> list[Agent]:
        return [self._agent]


class _Socket:
    """The media socket as the backend sees it."""

    def __init__(self, on_frame: Callable[[str], None]) -> None:
        self._on_frame = on_frame
        self.inbox: asyncio.Queue[str | None] = asyncio.Queue(_MAX_FRAMES)
        self.closed = False

    async def send(self, frame: str) -> None:
        if self.closed:
            raise ConnectionError("the line is gone")
        self._on_frame(frame)

    async def receive(self) -> str | None:
        return None if self.closed else await self.inbox.get()

    async def close(self) -> None:
        self.closed = True


class _Leg:
    """The media socket as the carrier sees it. Satisfies `backend.simulator.ports.Stream`."""

    def __init__(
        self,
        manager: CallManager,
        url: str,
        facts: StreamFacts,
        *,
        user_id: str,
        on_command: Callable[[Command], None],
        faults: MediaFaults,
    ) -> None:
        self.facts = facts
        self._manager, self._token, self._user_id = manager, url.rsplit("/", 1)[1], user_id
        self._socket = _Socket(lambda frame: on_command(read_command(frame)))
        self._writer = FrameWriter(facts)

    async def run(self, on_started: Callable[[], None]) -> None:
        call = self._manager.claim_media(self._token, self.facts.auth_token)
        if call is None:
            raise StreamFailed("the backend does not want this stream")
        self._put(self._writer.connected())
        self._put(self._writer.start(self._user_id))
        on_started()
        await self._serve(call)

    async def _serve(self, call: LiveCall) -> None:
        await self._manager.serve_media(call, self._socket)

    def send_audio(self, g711: bytes, timestamp_ms: int, *, track: str = "inbound") -> None:
        self._put(self._writer.media(g711, timestamp_ms=timestamp_ms, track=track))

    def send_mark(self, name: str) -> None:
        self._put(self._writer.mark(name))

    def send_dtmf(self, digit: str) -> None:
        self._put(self._writer.dtmf(digit))

    def stop(self) -> None:
        self._put(self._writer.stop(self._user_id))
        self._put(None)

    def drop(self) -> None:
        self._put(None)

    def _put(self, frame: str | None) -> None:
        if self._socket.inbox.full():
            self._socket.inbox.get_nowait()  # the backend stands still: a network would lose it, too
        self._socket.inbox.put_nowait(frame)


class _Webhooks:
    """Carrier events, delivered at once and once."""

    def __init__(self, manager: Callable[[], CallManager]) -> None:
        self._manager = manager

    def send(self, url: str, event_type: str, payload: dict[str, Any]) -> str:
        event_id = str(uuid.uuid4())
        ids = {name: payload.get(name) for name in ("call_control_id", "call_leg_id", "call_session_id")}
        self._manager().accept_event(TelnyxEvent(event_id, event_type, payload=payload, **ids))
        return event_id


class MemoryCarrier(DiallingCarrier):
    """Call Control by method call, on the stand-in's own calls. Raises CallGone and CarrierError."""

    def __init__(self, place: Callable[[Order], SimCall], of: Callable[[str], SimCall]) -> None:
        self._place, self._of = place, of

    async def answer(self, ccid: str, *, command_id: str) -> None:
        _do(lambda: self._of(ccid).answer(None))

    async def start_streaming(
        self, ccid: str, *, stream_url: str, auth_token: str, codec: Literal["PCMU", "PCMA"], command_id: str
    ) -> None:
        body = {
            "stream_url": stream_url, "stream_auth_token": auth_token, "stream_track": "inbound_track",
            "stream_bidirectional_mode": "rtp", "stream_bidirectional_codec": codec,
            "stream_bidirectional_target_legs": "self",
        }  # fmt: skip
        order = commands.stream(body, required=True)
        assert order is not None
        _do(lambda: self._of(ccid).start_streaming(order))

    async def hangup(self, ccid: str, *, command_id: str) -> None:
        _do(lambda: self._of(ccid).hang_up())

    async def reject(self, ccid: str, *, cause: str, command_id: str) -> None:
        _do(lambda: self._of(ccid).reject(cause))

    async def transfer(self, ccid: str, *, to: str, command_id: str) -> None:
        _do(lambda: self._of(ccid).transfer(to, None, None))

    async def send_dtmf(self, ccid: str, *, digits: str, command_id: str) -> None:
        _do(lambda: self._of(ccid).send_dtmf(digits))

    async def speak(self, ccid: str, *, text: str, language: str, command_id: str) -> None:
        _do(lambda: self._of(ccid).speak(text))

    async def stop_speaking(self, ccid: str, *, command_id: str) -> None:
        _do(lambda: self._of(ccid).stop_playback("all"))

    async def start_recording(
        self, ccid: str, *, channels: str, audio_format: str, client_state: str, command_id: str
    ) -> None:
        body = {"channels": channels, "format": audio_format}
        _do(lambda: self._of(ccid).start_recording(commands.recording(body, "memory:")))

    async def stop_recording(self, ccid: str, *, command_id: str) -> None:
        _do(lambda: self._of(ccid).stop_recording())

    async def dial(
        self,
        *,
        to: str,
        from_: str,
        client_state: str | None,
        machine_detection: Detection | None,
        command_id: str,
    ) -> DialedCall:
        state = None if client_state is None else base64.b64encode(client_state.encode()).decode("ascii")
        call = self._place(Order("outbound", from_, to, "memory", "", client_state=state))
        return DialedCall(call.call_control_id, call.call_leg_id, call.call_session_id)


def _do(command: Callable[[], object]) -> None:
    try:
        command()
    except Refusal as error:
        gone = error.code in ("90018", "10005") or error.status == 404
        raise (CallGone if gone else CarrierError)(
            str(error), status=error.status, code=error.code
        ) from error


class MemoryCall:
    """One call between an agent and somebody: `async with`, then `place`, then wait for `ended`."""

    def __init__(
        self,
        agent: Agent,
        plan: Plan,
        make_parts: Callable[[DiallingCarrier, MemoryStore], CallParts],
        around: Callable[..., Surroundings],
        *,
        on_turn: Callable[[TurnRecord], None] | None = None,
        on_node: Callable[[str], None] | None = None,
    ) -> None:
        """`make_parts` gives the backend's parts, around the carrier and the store it is handed; `around`
        the carrier's surroundings, given its webhooks, events and streams."""
        self.agent, self._plan = agent, plan
        self.store = MemoryStore(on_turn, on_node)
        self.events = EventLog()
        self._sim: SimCall | None = None
        carrier = MemoryCarrier(self._place, lambda _: self.sim)
        self.manager = CallManager(
            make_parts(carrier, self.store), carrier, OneAgent(agent), from_number=AGENT_NUMBER
        )
        self._around = around(
            webhooks=_Webhooks(lambda: self.manager),
            events=self.events,
            open_stream=lambda url, facts, **options: _Leg(self.manager, url, facts, **options),
            faults=MediaFaults(),
            times=CallTimes(),
            user_id=_USER,
        )
        self._exit = AsyncExitStack()
        self._run: asyncio.Task[None] | None = None
        self._there = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._exit.enter_async_context(self.manager)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sim is not None:
            self._sim.cut()
        if self._run is not None:
            await asyncio.wait([self._run], timeout=10)
            self._run.cancel()
        await self._exit.__aexit__(kind, error, trace)

    @property
    def sim(self) -> SimCall:
        """The carrier's side of the call, once it was placed."""
        assert self._sim is not None
        return self._sim

    async def place(self, direction: Direction, variables: Mapping[str, str]) -> None:
        """Let it ring; returns once there is a call. Raises RequestError when the agent cannot dial."""
        if direction == "inbound":
            self._place(Order("inbound", CALLER_NUMBER, AGENT_NUMBER, "memory", ""))
            return
        await self.manager.place_call(
            agent_id=self.agent.id, to=CALLER_NUMBER, from_number=None, variables=variables,
            idempotency_key=None,
        )  # fmt: skip
        await self._there.wait()

    async def ended(self) -> CallRecord:
        """Once it is over and everything about it is known: the backend's record."""
        assert self._run is not None
        await asyncio.shield(self._run)
        while self.manager.live_calls:  # noqa: ASYNC110 - nobody tells; a moment, after the line is down
            await asyncio.sleep(0.02)
        call = await self.store.get(self.sim.call_control_id)
        if call is None:
            raise CarrierError("the backend does not know the call")
        return call

    def _place(self, order: Order) -> SimCall:
        self._sim = SimCall(order, self._plan, self._around)
        self._run = asyncio.create_task(self._sim.run(), name="line")
        self._there.set()
        return self._sim
