"""The outside of a call, in memory: a carrier's line that plays in real time, voices and stores by script."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import struct
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from backend.calls.boards.route_board import RouteBoard
from backend.calls.ports import RoutePlan, SpeechRoute
from backend.calls.speaking.voice import Voice
from backend.core.agent import Agent
from backend.core.failover import Patience
from backend.core.health import RouteKey
from backend.core.recordings import placed
from backend.core.records import CallRecord, CallRecording, ToolUse, TurnRecord
from backend.core.speech import RouteName, Sound
from backend.errors import StorageError

SPEECH_HZ = 24_000
DEADLINE_S = 10.0


def now_ms() -> float:
    """The loop's own clock, which leaps: see `conftest.py`."""
    return asyncio.get_running_loop().time() * 1000


@cache
def tone(duration_ms: float, hz: float = 400.0) -> bytes:
    """Int16 PCM at 24 kHz."""
    count = int(SPEECH_HZ * duration_ms / 1000)
    step = 2 * math.pi * hz / SPEECH_HZ
    return struct.pack(f"<{count}h", *(int(8000 * math.sin(step * n)) for n in range(count)))


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Returns as soon as `condition` holds. Fails after ten seconds."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110 - any condition of any object, with a deadline
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"never happened: {what or condition}") from None


@dataclass
class Held:
    """A kind of frame that must wait: whether one does, and whether it may go on."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    granted: asyncio.Event = field(default_factory=asyncio.Event)


class Line:
    """The carrier's end of a media socket: plays what it is sent, 20 ms in 20 ms, returns marks, clears.

    As a MediaSocket it can be served; `hear` puts frames in.
    """

    def __init__(self, *, on_mark: Callable[[str], None] | None = None, returns_marks: bool = True) -> None:
        self.sent: list[tuple[str, Any]] = []  # ("media", bytes), ("mark", name), ("clear", None)
        self.at_ms: list[float] = []
        self.on_mark, self.returns_marks = on_mark, returns_marks
        self.closed = asyncio.Event()
        self.broken = False
        self._inbound: asyncio.Queue[str | None] = asyncio.Queue()
        self._held: dict[str, Held] = {}
        self._end_s = 0.0
        self._marks: dict[str, asyncio.TimerHandle] = {}

    # --- as the speaker sees it ------------------------------------------------------------------------

    async def send(self, frame: str) -> None:
        await asyncio.sleep(0)  # as a socket may: others run before the frame is out
        if self.broken or self.closed.is_set():
            raise ConnectionError("the socket is gone")
        message = json.loads(frame)
        if (held := self._held.get(message["event"])) is not None:
            held.asked.set()
            await held.granted.wait()
        self.at_ms.append(now_ms())
        loop = asyncio.get_running_loop()
        match message["event"]:
            case "media":
                g711 = base64.b64decode(message["media"]["payload"], validate=True)
                assert len(g711) % 160 == 0, "whole 20 ms frames only"
                self._end_s = max(loop.time(), self._end_s) + len(g711) / 8000
                self.sent.append(("media", g711))
            case "mark":
                name = message["mark"]["name"]
                self.sent.append(("mark", name))
                self._marks[name] = loop.call_at(max(loop.time(), self._end_s), self._return, name)
            case "clear":
                self.sent.append(("clear", None))
                self._end_s = 0.0
                for name in list(self._marks):
                    self._marks[name].cancel()
                    self._return(name)
            case other:
                raise AssertionError(f"the carrier knows no {other!r}")

    async def receive(self) -> str | None:
        return await self._inbound.get()

    async def close(self) -> None:
        self.closed.set()
        for timer in self._marks.values():
            timer.cancel()

    # --- as the carrier sees it ------------------------------------------------------------------------

    def hear(self, event: str, **fields: Any) -> None:
        self._inbound.put_nowait(json.dumps({"event": event, **fields}))

    def start(self, encoding: str = "PCMU", call_control_id: str = "v3:call") -> None:
        self.hear("connected", version="1.0.0")
        media_format = {"encoding": encoding, "sample_rate": 8000, "channels": 1}
        self.hear(
            "start", stream_id="s1", start={"call_control_id": call_control_id, "media_format": media_format}
        )

    def hold(self, event: str) -> Held:
        """Frames of this kind wait from now on."""
        return self._held.setdefault(event, Held())

    def drop(self) -> None:
        """The socket is gone."""
        self.broken = True
        self._inbound.put_nowait(None)

    def _return(self, name: str) -> None:
        self._marks.pop(name, None)
        if not self.returns_marks:
            return
        if self.on_mark is not None:
            self.on_mark(name)
        else:
            self.hear("mark", mark={"name": name})

    # --- what a test asks ------------------------------------------------------------------------------

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.sent]

    @property
    def audio(self) -> bytes:
        return b"".join(data for kind, data in self.sent if kind == "media")

    @property
    def audio_ms(self) -> float:
        return len(self.audio) / 8


@dataclass
class Script:
    """What a voice does for one text: chunks (bytes), waits (an Event), failures (an exception)."""

    steps: Sequence[bytes | Sound | asyncio.Event | Exception] = ()
    given: int = 0
    state: str = "new"  # running, done, cancelled, failed


def takes_ms(text: str) -> float:
    """A voice in a great hurry: less is taken for one that broke off, but for short texts."""
    return 26.0 * len(text) if len(text) > 20 else 0.0


class ScriptedRoute:
    """A voice that does as it is told: `script[text]`, else `default_ms` of tone in one chunk, or as much as
    a longer text takes at the very least."""

    name: RouteName = "sesame_ws"

    def __init__(self, scripts: Mapping[str, Script] | None = None, *, default_ms: float = 40.0) -> None:
        self.scripts = dict(scripts or {})
        self._default_ms = default_ms
        self.asked: list[str] = []
        self.befores: list[str] = []
        self.connects: list[Exception | None] = []
        self.failure: Exception | None = None
        self.closed = 0

    async def connect(self) -> None:
        self.connects.append(self.failure)
        if self.failure is not None:
            raise self.failure

    async def speak(self, text: str, *, before: str = "") -> AsyncGenerator[Sound]:
        self.asked.append(text)
        self.befores.append(before)
        if self.failure is not None:
            raise self.failure
        script = self.scripts.setdefault(text, Script([tone(max(self._default_ms, takes_ms(text)))]))
        script.state = "running"
        try:
            for step in script.steps:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    script.state = "failed"
                    raise step
                else:
                    yield step if isinstance(step, Sound) else Sound(step, "pcm16", SPEECH_HZ)
                    script.given += 1
            script.state = "done"
        finally:
            if script.state == "running":
                script.state = "cancelled"

    async def aclose(self) -> None:
        self.closed += 1


def plans_for(*routes: ScriptedRoute) -> list[RoutePlan]:
    """The routes in order, each at a server of its own."""

    def making(route: ScriptedRoute) -> Callable[[], SpeechRoute]:
        return lambda: route

    return [
        RoutePlan(RouteKey(route.name, f"server {number}"), "mara", making(route))
        for number, route in enumerate(routes, start=1)
    ]


ENDLESS = Patience(first_audio_ms=60_000, stall_ms=60_000)


def voice_of(
    *routes: ScriptedRoute, board: RouteBoard | None = None, patience: Patience = ENDLESS, **more: Any
) -> Voice:
    """A call's voice that has these routes, and all the time there is."""
    board = board or RouteBoard(now_ms)
    return Voice(plans_for(*routes), board=board, clock=now_ms, patience=patience, **more)


class MemoryStore:
    """Calls in memory; refuses while `broken`, and each operation waits for `gate`."""

    def __init__(self) -> None:
        self.calls: dict[str, CallRecord] = {}
        self.turns: dict[str, dict[int, TurnRecord]] = {}
        self.tools: dict[str, dict[int, ToolUse]] = {}
        self.recordings: dict[str, dict[int, CallRecording]] = {}
        self.broken = False
        self.refused = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.updates: list[dict[str, object]] = []

    async def _ready(self) -> None:
        await self.gate.wait()
        if self.broken:
            self.refused += 1
            raise StorageError("the disk is full")

    async def create(self, call: CallRecord) -> CallRecord:
        await self._ready()
        for known in self.calls.values():
            if call.idempotency_key is not None and known.idempotency_key == call.idempotency_key:
                return known
        assert call.id not in self.calls, "created twice"
        self.calls[call.id] = call
        return call

    async def update(self, call_id: str, **changes: Any) -> CallRecord:
        await self._ready()
        self.updates.append(changes)
        if call_id not in self.calls:
            raise StorageError(f"no call {call_id}")
        self.calls[call_id] = replace(self.calls[call_id], **changes)
        return self.calls[call_id]

    async def add_turn(self, call_id: str, turn: TurnRecord) -> None:
        await self._ready()
        self.turns.setdefault(call_id, {})[turn.index] = turn

    async def add_tool(self, call_id: str, tool: ToolUse) -> None:
        await self._ready()
        self.tools.setdefault(call_id, {})[tool.index] = tool

    async def keep_recording(self, call_id: str, told: CallRecording) -> None:
        await self._ready()
        if call_id not in self.calls:
            raise StorageError(f"no call {call_id}")
        known = self.recordings.setdefault(call_id, {})
        item = placed([known[index] for index in sorted(known)], told)
        if item is not None:
            known[item.index] = item

    async def find(
        self,
        *,
        call_id: str | None = None,
        call_control_id: str | None = None,
        call_leg_id: str | None = None,
        call_session_id: str | None = None,
    ) -> str | None:
        await self._ready()
        wanted = {
            "id": call_id,
            "call_control_id": call_control_id,
            "call_leg_id": call_leg_id,
            "call_session_id": call_session_id,
        }
        for name, value in wanted.items():
            for call in self.calls.values():
                if value is not None and getattr(call, name) == value:
                    return call.id
        return None

    async def get(self, any_id: str) -> CallRecord | None:
        await self._ready()
        for call in self.calls.values():
            if any_id in (call.id, call.call_control_id):
                turns = sorted(self.turns.get(call.id, {}).items())
                return replace(call, turns=tuple(turn for _, turn in turns))
        return None

    @property
    def only(self) -> CallRecord:
        (call,) = self.calls.values()
        return call

    def spoken(self) -> list[tuple[str, str]]:
        """(role, heard text) of the only call's turns, in order."""
        turns = self.turns.get(self.only.id, {})
        assert sorted(turns) == list(range(len(turns))), "indices without gaps"
        return [(turns[index].role, turns[index].heard_text) for index in sorted(turns)]


@dataclass
class Nodes:
    """Agents for tests, from the least a file needs."""

    nodes: list[dict[str, Any]]
    extra: dict[str, Any] = field(default_factory=dict)

    def agent(self) -> Agent:
        file = {
            "id": "tester",
            "name": "Tester",
            "phone_numbers": ["+15550001111"],
            "tts_fallbacks": [],
            "call_flow": {"start": self.nodes[0]["id"], "nodes": self.nodes},
            **self.extra,
        }
        return Agent.model_validate_json(json.dumps(file))


def agent(*nodes: dict[str, Any], **extra: Any) -> Agent:
    return Nodes(list(nodes), extra).agent()
