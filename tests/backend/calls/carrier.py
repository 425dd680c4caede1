"""A carrier in memory: does what it is commanded, tells by events, connects media sockets as lines."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from backend.calls.boards.route_board import RouteBoard
from backend.calls.manager import CallManager
from backend.calls.ports import CallParts, RoutePlan
from backend.core.agent import Agent
from backend.core.health import RouteKey
from backend.core.records import CallState, Direction, TurnTimings
from backend.errors import CallGone, CarrierError
from backend.telnyx.control import DialedCall
from backend.telnyx.webhooks import TelnyxEvent
from tests.backend.calls.fakes import Line, MemoryStore, ScriptedRoute, now_ms, until

CCID = "v3:call"
CALLED, CALLER = "+15550001111", "+15559998888"


class Counter:
    """The observer: counts what it is told."""

    def __init__(self) -> None:
        self.moves: list[tuple[CallState | None, CallState]] = []
        self.turns: list[TurnTimings] = []

    def call_moved(self, direction: Direction, before: CallState | None, now: CallState) -> None:
        self.moves.append((before, now))

    def turn_answered(self, timings: TurnTimings) -> None:
        self.turns.append(timings)


class Deaf:
    """Ears that hear nothing."""

    async def transcribe(self, pcm16_8k: bytes) -> str:
        return ""

    def push(self, pcm16: bytes) -> list[float]:
        return []


class Agents:
    def __init__(self, *agents: Agent) -> None:
        self._agents = agents

    def get(self, agent_id: str) -> Agent | None:
        return next((agent for agent in self._agents if agent.id == agent_id), None)

    def by_number(self, number: str) -> Agent | None:
        return next((agent for agent in self._agents if number in agent.phone_numbers), None)

    def all(self) -> tuple[Agent, ...]:
        return self._agents


class Carrier:
    """Telnyx as far as calls can see. `react` (per command) runs in place of the usual reaction."""

    def __init__(self) -> None:
        self.manager: CallManager | None = None
        self.commands: list[tuple[str, str, dict[str, Any]]] = []
        self.command_ids: list[str] = []
        self.react: dict[str, Callable[[], Any]] = {}
        self.refuse: dict[str, Exception] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.lines: list[Line] = []
        self.over: set[str] = set()
        self._numbers = itertools.count(1)
        self._sockets: set[asyncio.Task[None]] = set()

    # --- commands --------------------------------------------------------------------------------------

    async def answer(self, ccid: str, *, command_id: str) -> None:
        await self._do("answer", ccid, command_id, lambda: self.tell("call.answered", ccid))

    async def start_streaming(
        self, ccid: str, *, stream_url: str, auth_token: str, codec: str, command_id: str
    ) -> None:
        what = {"stream_url": stream_url, "auth_token": auth_token, "codec": codec}
        token = stream_url.rsplit("/", 1)[1]
        await self._do(
            "start_streaming", ccid, command_id, lambda: self.connect(token, auth_token, ccid), **what
        )

    async def hangup(self, ccid: str, *, command_id: str) -> None:
        await self._do("hangup", ccid, command_id, lambda: self.hang_up(ccid, source="callee"))

    async def reject(self, ccid: str, *, cause: str, command_id: str) -> None:
        await self._do("reject", ccid, command_id, lambda: None, cause=cause)

    async def transfer(self, ccid: str, *, to: str, command_id: str) -> None:
        await self._do("transfer", ccid, command_id, lambda: None, to=to)

    async def send_dtmf(self, ccid: str, *, digits: str, command_id: str) -> None:
        await self._do("send_dtmf", ccid, command_id, lambda: None, digits=digits)

    async def speak(self, ccid: str, *, text: str, language: str, command_id: str) -> None:
        what = {"text": text, "language": language}
        await self._do("speak", ccid, command_id, lambda: self.tell("call.speak.ended", ccid), **what)

    async def stop_speaking(self, ccid: str, *, command_id: str) -> None:
        await self._do("stop_speaking", ccid, command_id, lambda: self.tell("call.speak.ended", ccid))

    async def start_recording(
        self, ccid: str, *, channels: str, audio_format: str, client_state: str, command_id: str
    ) -> None:
        what = {"channels": channels, "audio_format": audio_format, "client_state": client_state}
        await self._do("start_recording", ccid, command_id, lambda: None, **what)

    async def stop_recording(self, ccid: str, *, command_id: str) -> None:
        await self._do("stop_recording", ccid, command_id, lambda: None)

    async def dial(
        self,
        *,
        to: str,
        from_: str,
        client_state: str | None,
        machine_detection: str | None,
        command_id: str,
    ) -> DialedCall:
        what = {
            "to": to,
            "from_": from_,
            "client_state": client_state,
            "machine_detection": machine_detection,
        }
        await self._do("dial", "", command_id, lambda: None, **what)
        return DialedCall(CCID, "leg", "session")

    async def _do(self, name: str, ccid: str, command_id: str, usual: Callable[[], Any], **what: Any) -> None:
        self.commands.append((name, ccid, what))
        assert command_id not in self.command_ids, "every command has an id of its own"
        self.command_ids.append(command_id)
        if name != "dial":
            assert ccid, f"{name} of no call"
        if (gate := self.gates.get(name)) is not None:
            await gate.wait()
        if (refusal := self.refuse.get(name)) is not None:
            raise refusal
        if ccid in self.over:
            raise CallGone("this call has ended", status=422, code="90018")
        self.react.get(name, usual)()

    # --- events ----------------------------------------------------------------------------------------

    def event(self, event_type: str, ccid: str = CCID, **payload: Any) -> TelnyxEvent:
        payload = {"call_control_id": ccid, **payload}
        return TelnyxEvent(f"event-{next(self._numbers)}", event_type, ccid, "leg", "session", None, payload)

    def tell(self, event_type: str, ccid: str = CCID, **payload: Any) -> bool:
        assert self.manager is not None
        return self.manager.accept_event(self.event(event_type, ccid, **payload))

    def tell_recording(self, known_by: str, call_id: str, payload: dict[str, Any]) -> None:
        """A recording is saved; the event names the call by one thing only."""
        assert self.manager is not None
        named: dict[str, Any] = {"call_control_id": None, "call_leg_id": None, "call_session_id": None}
        match known_by:
            case "client_state":
                payload = {**payload, "client_state": base64.b64encode(call_id.encode()).decode()}
            case "leg":
                named["call_leg_id"] = "leg"
            case "session":
                named["call_session_id"] = "session"
            case other:
                named["call_control_id"] = other
        event_id = f"event-{next(self._numbers)}"
        self.manager.accept_event(
            TelnyxEvent(event_id, "call.recording.saved", payload=payload, occurred_at=None, **named)
        )

    def ring(self, ccid: str = CCID, to: str = CALLED) -> None:
        self.tell("call.initiated", ccid, direction="incoming", **{"from": CALLER, "to": to})

    def hang_up(self, ccid: str = CCID, *, cause: str = "normal_clearing", source: str = "caller") -> None:
        self.over.add(ccid)
        for line in self.lines:
            if not line.broken:
                line.drop()
        self.tell("call.hangup", ccid, hangup_cause=cause, hangup_source=source)

    # --- media -----------------------------------------------------------------------------------------

    def connect(
        self, token: str, auth_token: str | None, ccid: str = CCID, *, start: bool = True
    ) -> Line | None:
        """What the web route does when a media socket comes."""
        assert self.manager is not None
        call = self.manager.claim_media(token, auth_token)
        if call is None:
            return None
        line = Line()
        self.lines.append(line)
        if start:
            line.start(call_control_id=ccid)
        task = asyncio.create_task(self.manager.serve_media(call, line), name="socket")
        self._sockets.add(task)
        return line

    async def sockets_closed(self) -> None:
        async with asyncio.timeout(5):
            for task in self._sockets:
                await task
        assert all(line.closed.is_set() for line in self.lines)

    # --- what a test asks ------------------------------------------------------------------------------

    @property
    def done(self) -> list[str]:
        return [name for name, _, _ in self.commands]

    def last(self, name: str) -> dict[str, Any]:
        return next(what for command, _, what in reversed(self.commands) if command == name)

    @property
    def line(self) -> Line:
        return self.lines[-1]


class House:
    """A manager with everything around it."""

    def __init__(
        self, agents: Agents, route: ScriptedRoute, ears: Any, max_calls: int, more: dict[str, Any]
    ) -> None:
        self.carrier, self.store, self.route, self.counter = Carrier(), MemoryStore(), route, Counter()
        self.routes: list[ScriptedRoute] = []
        self.board = RouteBoard(now_ms)
        parts = CallParts(
            carrier=self.carrier,
            store=self.store,
            transcriber=ears,
            make_detector=lambda: ears,
            plan_routes=self._plan_routes,
            board=self.board,
            clock=now_ms,
            observer=self.counter,
            media_url="wss://example.test/media",
            **more,
        )
        self.manager = CallManager(
            parts, self.carrier, agents, from_number="+15550002222", max_calls=max_calls
        )
        self.carrier.manager = self.manager

    def _plan_routes(self, agent: Agent) -> list[RoutePlan]:
        return [RoutePlan(RouteKey("sesame_ws", "here"), "mara", self._make_route)]

    def _make_route(self) -> ScriptedRoute:
        route = ScriptedRoute(self.route.scripts)
        route.asked, route.failure = self.route.asked, self.route.failure
        self.routes.append(route)
        return route

    async def calls_over(self) -> None:
        """At least one call was there, and none is any more."""
        await until(lambda: self.counter.moves and self.manager.live_calls == 0, "all calls over")

    async def says(self, text: str) -> None:
        await until(lambda: text in self.route.asked, f"{text!r} of {self.route.asked}")

    async def heard(self, text: str) -> None:
        await until(
            lambda: any(t.heard_text == text for turns in self.store.turns.values() for t in turns.values()),
            f"{text!r} heard",
        )


@asynccontextmanager
async def house(
    *agents: Agent,
    route: ScriptedRoute | None = None,
    ears: Any = None,
    max_calls: int = 200,
    **more: Any,
) -> AsyncIterator[House]:
    """`more`: further parts of the calls."""
    under_test = House(Agents(*agents), route or ScriptedRoute(), ears or Deaf(), max_calls, more)
    async with asyncio.timeout(25):
        async with under_test.manager:
            yield under_test
        assert under_test.manager.live_calls == 0
        await under_test.carrier.sockets_closed()
    assert all(made.closed for made in under_test.routes), "a voice was not let go of"


REFUSED = CarrierError("the carrier says no", status=403, code="10010")
