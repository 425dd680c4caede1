"""Calls with a language model, by the hundred, with every fault there is: what is left of them afterwards.

`python benchmarks/soak.py --calls 400 --at-once 40`. Real are calls, flow, adapters, database and metrics;
callers interrupt, cough, press keys and hang up at random moments; the language model, ElevenLabs' hearing,
transcriptions and a tool are servers in a second process that fail at random in all their ways. After each
round: tasks, descriptors, traced memory and resident memory. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import gc
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from backend.calls.boards.ears_board import EarsBoard
from backend.calls.boards.llm_board import LlmBoard
from backend.calls.boards.route_board import RouteBoard
from backend.calls.manager import CallManager
from backend.calls.ports import CallParts, RoutePlan
from backend.core.agent import Agent
from backend.core.agent_text import parse_agent
from backend.core.breaker import BreakerPolicy
from backend.core.g711 import Codec
from backend.core.health import RouteKey
from backend.core.speech import RouteName, Sound
from backend.errors import SpeechError
from backend.hearing_routes import HearingRoutes
from backend.settings import load_settings
from backend.simulator.llm import LlmStandIn, running
from backend.simulator.llm_script import LlmScript
from backend.storage.calls import CallStore
from backend.telnyx.control import DialedCall
from backend.telnyx.webhooks import TelnyxEvent
from backend.thinking import Thinking
from backend.web.metrics import Metrics

CALLED, CALLER = "+15550001111", "+15559998888"
FRAME_S = 0.02
LOUD = Codec.PCMU.encode((b"\x00\x30" * 40 + b"\x00\xd0" * 40) * 2)
QUIET = b"\xff" * 160
# Models that were left alone for long would meet few of their faults.
SOON_AGAIN = BreakerPolicy(cool_down_ms=200.0, crowded_ms=200.0, operator_ms=200.0, longest=1.0)
FAULTS: dict[str, Any] = {
    "fine": [{"say": "We are open until six. "}, {"say": "Is there anything else I can do for you?"}],
    "broken": [{"say": "We are. Until"}, {"cut": True}],
    "mute": [{"stall": True}],
    "garbled": [{"malformed": True}],
    "failing": [{"error": {"status": 500}}],
    "empty": [{"say": ""}],
    "signs": "*** 🙂 …",
    "half a call": [{"call": "go_to", "arguments": '{"choice": "is d'}, {"cut": True}],
    "wrong call": [{"call": "transfer", "arguments": {"to": "+19005550000"}}],
    "wrong choice": [{"call": "go_to", "arguments": {"choice": "vault"}}],
    "tool please": [{"call": "hours", "arguments": {"day": "Monday"}}],
    "long story": "And so it goes on and on, and on again. " * 60,
    "goodbye": [{"call": "go_to", "arguments": {"choice": "is done"}}],
}  # fmt: skip


# --- the second process: servers that fail --------------------------------------------------------------


async def _scribe(socket: ServerConnection) -> None:
    """ElevenLabs' hearing: words drawn at random, or one of its failures."""
    fault = random.choice(("none",) * 6 + ("mute", "silent", "close", "error", "garbage"))
    with suppress(ConnectionClosed):
        if fault == "mute":
            await socket.wait_closed()
            return
        await socket.send('{"message_type": "session_started"}')
        async for raw in socket:
            if not json.loads(raw)["commit"] or fault == "silent":
                continue
            if fault == "close":
                return
            text = {"message_type": "committed_transcript", "text": random.choice(list(FAULTS))}
            failed = {"message_type": "transcriber_error", "error": "because"}
            answers = {"error": json.dumps(failed), "garbage": "<html>"}
            await socket.send(answers.get(fault, json.dumps(text)))


def _scribe_door(socket: ServerConnection, request: Request) -> Response | None:
    return socket.respond(random.choice((401, 429, 500)), "no") if random.random() < 0.02 else None


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Transcriptions and the tool: an answer, or one of their failures."""
    with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            sizes = (line.split(":")[1] for line in head.splitlines() if line.startswith("content-length:"))
            await reader.readexactly(int(next(sizes, "0")))
            body = json.dumps({"text": random.choice(list(FAULTS))})
            fault = random.choice(("none",) * 8 + ("close", "silent", "500", "garbage", "long"))
            if fault == "close":
                break
            if fault == "silent":
                await reader.read()
                break
            body = {"garbage": "<html>", "long": body + " " * 300_000}.get(fault, body)
            status = "500 No" if fault == "500" else "200 OK"
            answer = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
            writer.write(f"{answer}\r\n\r\n{body}".encode())
            await writer.drain()
    writer.close()


async def serve_faults() -> None:
    """The servers, until the end of standard input."""
    rules: list[dict[str, Any]] = [{"when": {"tool": {"regex": "."}}, "reply": "It is so, I am told."}]
    rules += [{"when": {"user": said}, "reply": reply} for said, reply in FAULTS.items()]
    rules += [{"when": {"user": "refused"}, "refuse": {"status": 429}}]
    script = LlmScript.model_validate({"rules": rules, "first_ms": 100})
    http = await asyncio.start_server(_http, "127.0.0.1", 0, limit=1 << 20)
    quiet = logging.getLogger("quiet")
    quiet.setLevel(logging.CRITICAL)
    async with (
        running(LlmStandIn(script)) as model,
        serve(_scribe, "127.0.0.1", 0, process_request=_scribe_door, compression=None, logger=quiet) as ears,
    ):
        port = next(iter(ears.sockets)).getsockname()[1]
        scribe, tool = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{http.sockets[0].getsockname()[1]}"
        print(json.dumps({"model": model, "scribe": scribe, "http": tool}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


# --- the callers' side ----------------------------------------------------------------------------------


class Loudness:
    """Speech is what is loud."""

    def __init__(self) -> None:
        self._left = b""

    def push(self, pcm16: bytes) -> list[float]:
        self._left += pcm16
        count = len(self._left) // 512
        windows = [self._left[at * 512 : at * 512 + 512] for at in range(count)]
        self._left = self._left[count * 512 :]
        return [1.0 if max(window[1::2]) and any(8 < byte < 248 for byte in window[1::2]) else 0.0
                for window in windows]  # fmt: skip


class LastEars:
    """The recogniser of this machine, which always hears something."""

    async def transcribe(self, pcm16_8k: bytes) -> str:
        return random.choice(list(FAULTS)) if len(pcm16_8k) > 8_000 else ""


class Tone:
    """A voice: 40 ms of sound for each character, sometimes none."""

    name: RouteName = "sesame_ws"

    async def connect(self) -> None:
        await asyncio.sleep(0)

    async def speak(self, text: str, *, before: str = "") -> AsyncGenerator[Sound]:
        await asyncio.sleep(0.05)
        if random.random() < 0.03:
            raise SpeechError("it broke", route=self.name, reason="closed")
        for _ in range(max(1, len(text) // 5)):
            yield Sound(b"\x00\x20\x00\xe0" * 1_200, "pcm16", 24_000)
            await asyncio.sleep(0.01)

    async def aclose(self) -> None:
        await asyncio.sleep(0)


class Line:
    """A media socket: plays at the line's own pace, and returns marks."""

    def __init__(self) -> None:
        self._inbox: asyncio.Queue[str | None] = asyncio.Queue(2_000)
        self._played_at_s = 0.0
        self._marks: dict[str, asyncio.TimerHandle] = {}
        self.speaking_until_s = 0.0
        self.gone = False

    async def send(self, frame: str) -> None:
        if self.gone:
            raise ConnectionError("gone")
        loop, told = asyncio.get_running_loop(), json.loads(frame)
        match told["event"]:
            case "media":
                size_s = len(base64.b64decode(told["media"]["payload"])) / 8_000
                self._played_at_s = max(self._played_at_s, loop.time()) + size_s
                self.speaking_until_s = self._played_at_s
            case "mark":
                name = told["mark"]["name"]
                self._marks[name] = loop.call_at(self._played_at_s, self._return, name)
            case "clear":
                self._played_at_s = self.speaking_until_s = loop.time()
                for name, timer in list(self._marks.items()):
                    timer.cancel()
                    self._return(name)

    def _return(self, name: str) -> None:
        self._marks.pop(name, None)
        self.tell("mark", mark={"name": name})

    def tell(self, event: str, **more: Any) -> None:
        if not self._inbox.full():
            self._inbox.put_nowait(json.dumps({"event": event, "stream_id": "s", **more}))

    async def receive(self) -> str | None:
        return None if self.gone and self._inbox.empty() else await self._inbox.get()

    def drop(self) -> None:
        self.gone = True
        for timer in self._marks.values():
            timer.cancel()
        self._marks.clear()
        if self._inbox.full():
            self._inbox.get_nowait()
        self._inbox.put_nowait(None)

    async def close(self) -> None:
        if not self.gone:
            self.drop()


class Callers:
    """The carrier, and whoever calls."""

    def __init__(self, longest_s: float) -> None:
        self.manager: CallManager | None = None
        self._longest_s = longest_s
        self._lines: dict[str, Line] = {}
        self._up: dict[str, asyncio.Event] = {}
        self._over: set[str] = set()
        self._events = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    # what it is commanded
    async def answer(self, ccid: str, *, command_id: str) -> None:
        self._tell("call.answered", ccid)

    async def start_streaming(self, ccid: str, *, stream_url: str, auth_token: str, **_: Any) -> None:
        self._spawn(self._connect(ccid, stream_url.rsplit("/", 1)[1], auth_token))

    async def hangup(self, ccid: str, *, command_id: str) -> None:
        self._end(ccid, "callee")

    async def nothing(self, *_: Any, **__: Any) -> None:
        return None

    async def dial(self, **_: Any) -> DialedCall:
        raise NotImplementedError

    reject = transfer = send_dtmf = speak = stop_speaking = nothing

    async def _connect(self, ccid: str, token: str, auth_token: str) -> None:
        await asyncio.sleep(random.uniform(0, 0.05))
        assert self.manager is not None
        call = self.manager.claim_media(token, auth_token)
        if call is None or ccid in self._over:
            return
        line = Line()
        self._lines[ccid] = line
        media_format = {"encoding": "PCMU", "sample_rate": 8000, "channels": 1}
        line.tell("connected", version="1.0.0")
        line.tell("start", start={"call_control_id": ccid, "media_format": media_format})
        if ccid in self._up:
            self._up[ccid].set()
        await self.manager.serve_media(call, line)

    def _tell(self, kind: str, ccid: str, **payload: Any) -> None:
        assert self.manager is not None
        self._events += 1
        payload = {"call_control_id": ccid, **payload}
        event = TelnyxEvent(f"event-{self._events}", kind, ccid, "leg", "session", None, payload)
        self.manager.accept_event(event)

    def _end(self, ccid: str, source: str) -> None:
        if ccid in self._over:
            return
        self._over.add(ccid)
        if (line := self._lines.get(ccid)) is not None:
            line.drop()
        self._tell("call.hangup", ccid, hangup_cause="normal_clearing", hangup_source=source)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # what a caller does
    async def call(self, number: int) -> None:
        """One call, from its ring to the end."""
        ccid = f"call-{number}"
        self._up[ccid] = asyncio.Event()
        self._tell("call.initiated", ccid, direction="incoming", **{"from": CALLER, "to": CALLED})
        with suppress(TimeoutError):
            async with asyncio.timeout(random.choice((0.01, 0.1, 1, 3, self._longest_s, self._longest_s))):
                await self._up[ccid].wait()
                while ccid not in self._over:
                    await self._act(ccid)
        self._end(ccid, "caller")
        # Whatever is under way for it may look for it once more.
        await asyncio.sleep(0.1)
        self._lines.pop(ccid, None)
        self._up.pop(ccid, None)

    async def _act(self, ccid: str) -> None:
        line, loop = self._lines[ccid], asyncio.get_running_loop()
        deed = random.choice(
            ("listen", "listen", "interrupt", "interrupt", "cough", "keys", "silence", "drop")
        )
        if deed == "listen":
            await self._sound(ccid, QUIET, 0.3)
            while line.speaking_until_s > loop.time() and ccid not in self._over:
                await self._sound(ccid, QUIET, 0.1)
        elif deed == "interrupt":
            await self._sound(ccid, QUIET, random.uniform(0, 0.8))
        if deed in ("listen", "interrupt"):
            await self._sound(ccid, LOUD, random.uniform(0.3, 1.5))
            await self._sound(ccid, QUIET, random.uniform(0.1, 1.2))
        elif deed == "cough":
            await self._sound(ccid, LOUD, 0.12)
        elif deed == "keys":
            line.tell("dtmf", dtmf={"digit": random.choice("0123456789*#")})
        elif deed == "silence":
            await self._sound(ccid, QUIET, 1.0)
        elif random.random() < 0.3:
            line.drop()
            await self._sound(ccid, QUIET, 0.5)

    async def _sound(self, ccid: str, frame: bytes, seconds: float) -> None:
        payload = {"payload": base64.b64encode(frame).decode()}
        for _ in range(int(seconds / FRAME_S)):
            if ccid in self._over:
                return
            self._lines[ccid].tell("media", media=payload)
            await asyncio.sleep(FRAME_S)


# --- measuring ------------------------------------------------------------------------------------------


def make_agent(urls: dict[str, str]) -> Agent:
    """One that uses everything that fails."""
    nodes: list[dict[str, Any]] = [
        {
            "id": "help",
            "prompt": "Answer questions about opening hours.",
            "say": "How can I help?",
            "tools": ["hours"],
            "transitions": [
                {"to": "number", "when": {"keywords": ["refused"]}},
                {"to": "bye", "when": {"intent": "is done"}},
            ],
        },
        {
            "id": "number",
            "prompt": "Ask for the number.",
            "collect": {"name": "number", "type": "digits"},
            "transitions": [{"to": "bye", "when": {"otherwise": True}}],
        },
        {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]},
    ]
    tool = {
        "name": "hours", "description": "Opening hours.", "url": f"{urls['http']}/hours/{{day}}",
        "method": "GET", "timeout_ms": 800, "filler": "One moment.",
        "parameters": {"type": "object", "properties": {"day": {"type": "string"}}},
    }  # fmt: skip
    file = {
        "id": "soak",
        "name": "Soak",
        "phone_numbers": [CALLED],
        "greeting": "Hello.",
        "llm": {
            "provider": "openai", "model": "m", "base_url": urls["model"], "fallback_model": "n",
            "first_token_ms": 600, "timeout_ms": 3_000,
        },
        "stt": {
            "provider": "elevenlabs", "fallbacks": ["openai"], "base_url": urls["http"], "timeout_ms": 300,
            "key_terms": ["Goodbye"],
        },
        "tools": [tool],
        "call_flow": {"start": "help", "nodes": nodes},
    }  # fmt: skip
    return parse_agent(json.dumps(file), file="soak.json")


class OneAgent:
    """The agents there are."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def get(self, agent_id: str) -> Agent | None:
        return self.agent

    def by_number(self, number: str) -> Agent | None:
        return self.agent

    def all(self) -> list[Agent]:
        return [self.agent]


def clock_ms() -> float:
    """Milliseconds, monotonic."""
    return time.monotonic() * 1000


def figures() -> dict[str, Any]:
    """What this process holds now."""
    for _ in range(3):
        gc.collect()
    names = Counter(task.get_name().rstrip("0123456789-") for task in asyncio.all_tasks())
    status = Path("/proc/self/statm").read_text().split()
    held, _ = tracemalloc.get_traced_memory()
    return {
        "tasks": sum(names.values()),
        "task_names": dict(names),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "traced_kb": held // 1024,
        "resident_mb": round(int(status[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
    }


async def soak(urls: dict[str, str], options: argparse.Namespace) -> dict[str, Any]:
    """The rounds, and what was held before the first and after each."""
    settings = load_settings(
        None, elevenlabs_api_key="k", elevenlabs_base_url=urls["scribe"], openai_base_url=urls["model"]
    )
    agent = make_agent(urls)
    rounds: list[dict[str, Any]] = []
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        store = await CallStore.open(f"sqlite+aiosqlite:///{folder}/calls.sqlite3")
        stack.push_async_callback(store.close)
        metrics, callers = Metrics(), Callers(options.longest_s)
        hearing = HearingRoutes(settings, EarsBoard(clock_ms, metrics), lambda: [agent], clock_ms, LastEars())
        stack.push_async_callback(hearing.aclose)
        thinking = Thinking(settings, {}, LlmBoard(clock_ms, policy=SOON_AGAIN))
        stack.push_async_callback(thinking.aclose)
        parts = CallParts(
            carrier=callers,
            store=store,
            transcriber=LastEars(),
            make_detector=Loudness,
            plan_routes=lambda agent: [RoutePlan(RouteKey("sesame_ws", "here"), "v", Tone)],
            board=RouteBoard(clock_ms, metrics),
            clock=clock_ms,
            observer=metrics,
            media_url="wss://here/media",
            make_ears=hearing.ears,
            language_model=thinking.language_model,
            toolbox=thinking.toolbox,
            llm_answered=metrics.llm_answered,
            webhook=thinking.webhook,
        )
        manager = CallManager(parts, callers, OneAgent(agent))
        callers.manager = manager
        await stack.enter_async_context(manager)
        numbers = iter(range(1, 1_000_000))
        per_round = options.calls // options.rounds
        before = figures()
        for at in range(options.rounds):
            await _round([callers.call(next(numbers)) for _ in range(per_round)], options.at_once)
            async with asyncio.timeout(20):
                while manager.live_calls:  # noqa: ASYNC110 - nobody tells, and the deadline is long
                    await asyncio.sleep(0.05)
                await asyncio.sleep(0.3)
            rounds.append(figures())
            print(f"round {at + 1}: {rounds[-1]}", file=sys.stderr)
        kept = await store.list(limit=200)
        found = [await store.get(call.id) for call in kept[:40]]
        turns = sum(len(call.turns) for call in found if call is not None)
        text = metrics.registry.get_sample_value("voice_llm_turns_total", {"outcome": "used"}) or 0
        failed = metrics.registry.get_sample_value("voice_llm_turns_total", {"outcome": "failed"}) or 0
        wasted = metrics.registry.get_sample_value("voice_llm_turns_total", {"outcome": "wasted"}) or 0
    return {
        "calls": per_round * options.rounds,
        "turns_of_last_40_calls": turns,
        "states": dict(Counter(call.state for call in kept)),
        "llm": {"used": text, "failed": failed, "wasted": wasted},
        "before": before,
        "rounds": rounds,
        "after_closing": figures(),
    }


async def _round(calls: list[Awaitable[None]], at_once: int) -> None:
    places = asyncio.Semaphore(at_once)

    async def one(call: Awaitable[None]) -> None:
        async with places:
            await call

    async with asyncio.TaskGroup() as tasks:
        for call in calls:
            tasks.create_task(one(call))


def main() -> None:
    """Both processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--at-once", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument(
        "--longest-s", type=float, default=12.0, help="then the caller hangs up at the latest"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--servers", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    random.seed(options.seed)
    if options.servers:
        asyncio.run(serve_faults())
        return
    logging.disable(logging.CRITICAL if not os.environ.get("SOAK_LOG") else logging.NOTSET)
    logging.basicConfig(level="WARNING")
    command = [sys.executable, __file__, "--servers", "--seed", str(options.seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as servers:
        try:
            assert servers.stdout is not None
            urls = json.loads(servers.stdout.readline())
            tracemalloc.start()
            began_s = time.monotonic()
            told = asyncio.run(soak(urls, options))
            told["took_s"] = round(time.monotonic() - began_s, 1)
            told["load"] = os.getloadavg()[0]
        finally:
            with contextlib.suppress(OSError):
                servers.terminate()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
