"""How soon prepared words leave for the carrier: `python benchmarks/prepared_prompts.py --at-once 1 8 32`.

Every text of an agent that is the same for everybody is prepared, kept on disk, and read again by another
store, as at a backend's start. Then calls say these texts at random moments, 50 a second, each through its
own speaker into its own WebSocket; measured is from the decision to say a text until its first frame is in
the socket. Prompts are tones: their sound has no part in it. The last line is JSON; times are milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import random
import struct
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack
from itertools import cycle, islice
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket

from backend.calls.boards.route_board import RouteBoard
from backend.calls.ports import PreparedVoice, RoutePlan
from backend.calls.speaking.prepare import Preparer
from backend.calls.speaking.speaker import Speaker
from backend.calls.speaking.voice import Voice
from backend.core.agent import Agent
from backend.core.agent_text import parse_agent
from backend.core.flow import Flow
from backend.core.g711 import Codec
from backend.core.health import RouteKey
from backend.core.prompts import cut
from backend.core.speech import RouteName, Sound
from backend.simulator.report import percentile
from backend.storage.prompts import PromptStore

_PER_SECOND = 50  # texts said by all calls together: as many as some 300 calls would


def now_ms() -> float:
    return time.monotonic() * 1000


class Tones:
    """A second of tone for every piece."""

    name: RouteName = "sesame_ws"
    sound = struct.pack("<24000h", *(int(8000 * math.sin(n / 10)) for n in range(24_000)))

    async def connect(self) -> None: ...

    async def speak(self, text: str, *, before: str = "") -> AsyncGenerator[Sound]:
        yield Sound(self.sound, "pcm16", 24_000)

    async def aclose(self) -> None: ...


def plan(agent: Agent) -> list[RoutePlan]:
    return [RoutePlan(RouteKey("sesame_ws", "ws://nowhere"), "0", Tones)]


async def prepared(agent: Agent, folder: Path) -> tuple[PreparedVoice, int]:
    """The agent's voice with everything prepared, read from disk."""
    _, count = await Preparer(PromptStore(folder, max_bytes=1 << 30), plan, clock=now_ms).prepare(agent)
    again = Preparer(PromptStore(folder, max_bytes=1 << 30), plan, clock=now_ms)
    made, _ = await again.prepare(agent)
    assert made == 0, "all of it was on disk"
    return again.voice(agent), count


def static_texts(agent: Agent, voice: PreparedVoice) -> list[str]:
    texts = [text for node in agent.call_flow.nodes for text in Flow(agent, {}).texts_at(node.id)]
    return [
        text
        for text in dict.fromkeys(texts)
        if all(voice.lookup(piece) is not None for piece in cut(text, agent.language))
    ]


async def call(url: str, voice: PreparedVoice, texts: Iterator[str], pause_s: float) -> list[float]:
    """One call says texts, each interrupted once its first frame is out."""
    took_ms: list[float] = []
    async with connect(url, compression=None) as socket, AsyncExitStack() as stack:
        written = asyncio.Event()

        async def send(frame: str) -> None:
            await socket.send(frame)
            if '"media"' in frame:
                written.set()

        own = Voice([], board=RouteBoard(now_ms), clock=now_ms, prepared=voice)
        stack.push_async_callback(own.aclose)
        speaker = Speaker(send, own, codec=Codec.PCMU, clock=now_ms)
        running = asyncio.create_task(speaker.run())
        stack.callback(running.cancel)
        for text in texts:
            await asyncio.sleep(random.expovariate(1 / pause_s))
            written.clear()
            decided_ms = now_ms()
            saying = asyncio.create_task(speaker.say(text))
            await written.wait()
            took_ms.append(now_ms() - decided_ms)
            await speaker.interrupt()
            assert (await saying).route == "prepared"
    return took_ms


async def swallow(connection: ServerConnection) -> None:
    async for _ in connection:
        pass


def lookup_us(agent: Agent, voice: PreparedVoice, texts: list[str]) -> float:
    pieces = [piece for text in texts for piece in cut(text, agent.language)]
    rounds = 20_000 // len(pieces) + 1
    started = time.perf_counter()
    for _ in range(rounds):
        for piece in pieces:
            voice.lookup(piece)
    return (time.perf_counter() - started) * 1e6 / (rounds * len(pieces))


async def measure(options: argparse.Namespace) -> dict[str, object]:
    agent = parse_agent(options.agent.read_bytes(), file=options.agent.name)
    with tempfile.TemporaryDirectory() as folder:
        voice, count = await prepared(agent, Path(folder))
        texts = static_texts(agent, voice)
        by_calls: dict[str, object] = {}
        async with serve_websocket(swallow, "127.0.0.1", 0, compression=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            for at_once in options.at_once:
                each = max(1, options.texts // at_once)
                ways = [islice(cycle(texts[n % len(texts) :] + texts), each) for n in range(at_once)]
                calls = (call(f"ws://127.0.0.1:{port}", voice, way, at_once / _PER_SECOND) for way in ways)
                took_ms = [took for one in await asyncio.gather(*calls) for took in one]
                figures = {f"p{p}": round(percentile(took_ms, p), 2) for p in (50, 95, 99)}
                by_calls[str(at_once)] = figures | {"max": round(max(took_ms), 2), "n": len(took_ms)}
                print(f"{at_once} calls at once: {by_calls[str(at_once)]}", flush=True)
    return {
        "benchmark": "prepared_prompts",
        "prompts": count,
        "texts": len(texts),
        "lookup_us": round(lookup_us(agent, voice, texts), 1),
        "decision_to_first_frame_ms": by_calls,
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agent", type=Path, default=Path("agents/front-desk.json"))
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--texts", type=int, default=600, help="said per number of calls, by all together")
    print(json.dumps(asyncio.run(measure(parser.parse_args()))))
