"""What a language model's turn costs besides the model: `python benchmarks/llm_turns.py --at-once 1 8`.

The stand-in model (a process of its own) gives its first sentence 250 ms after the request, the voice its
first sound 120 ms after the text; the conversation, the flow, the official SDK, clauses, speaker and playout
are the real ones. A caller's turns end at random moments; measured is from there to the first audio frame on
the line. Begun ahead, the words are known as early as pause and recognition allow. The last line is JSON;
times are milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import platform
import random
import struct
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

from backend.calls.boards.route_board import RouteBoard
from backend.calls.ports import LanguageModel, RoutePlan
from backend.calls.speaking.speaker import Speaker
from backend.calls.speaking.voice import Voice
from backend.calls.talking.conversation import Conversation
from backend.calls.talking.events import LikelyEnd
from backend.calls.talking.recorder import TurnRecorder
from backend.calls.talking.thinker import Thinker
from backend.core.agent import Agent
from backend.core.agent_text import parse_agent
from backend.core.flow import Flow
from backend.core.g711 import Codec
from backend.core.health import RouteKey
from backend.core.percentile import percentile
from backend.core.speech import RouteName, Sound
from backend.core.turns import SpeechStarted, TurnEnded
from backend.evals.memory import MemoryStore
from backend.llm.openai import OpenAiModel

MODEL_MS, VOICE_MS = 250, 120
# Silence before the words are recognised, and the recogniser's own time; then the rest of the wait.
PAUSE_MS, RECOGNITION_MS, END_OF_TURN_MS = 72, 90, 320
_FIRST, _REST = "Certainly, we are open today.", "You can come in until half past five."
_AGENT = {
    "id": "desk",
    "name": "Desk",
    "llm": {"provider": "openai", "model": "stand-in"},
    "system_prompt": "You are the front desk of a dentist.",
    "greeting": "Hello.",
    "call_flow": {
        "start": "help",
        "nodes": [
            {
                "id": "help",
                "prompt": "Answer questions about opening hours.",
                "transitions": [{"to": "bye", "when": {"intent": "wants to end the call"}}],
            },
            {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]},
        ],
    },
}


def now_ms() -> float:
    return time.monotonic() * 1000


class Tones:
    """A voice that takes its time for the first sound."""

    name: RouteName = "sesame_ws"
    sound = struct.pack("<4800h", *(int(8000 * math.sin(n / 10)) for n in range(4_800)))

    async def connect(self) -> None: ...

    async def speak(self, text: str, *, before: str = "") -> AsyncGenerator[Sound]:
        await asyncio.sleep(VOICE_MS / 1000)
        yield Sound(self.sound, "pcm16", 24_000)

    async def aclose(self) -> None: ...


class Line:
    """A carrier that plays at once, and notes when the first audio of an answer came."""

    def __init__(self) -> None:
        self.first_ms: float | None = None
        self.spoke = asyncio.Event()
        self.speaker: Speaker | None = None

    async def send(self, frame: str) -> None:
        message = json.loads(frame)
        if message["event"] == "media" and self.first_ms is None:
            self.first_ms = now_ms()
            self.spoke.set()
        if message["event"] == "mark" and self.speaker is not None:
            self.speaker.mark_returned(message["mark"]["name"])


async def call(agent: Agent, model: LanguageModel, turns: int, *, ahead: bool) -> list[float]:
    """From the end of each turn of the caller's to the first audio."""
    line, took = Line(), list[float]()
    route = Tones()
    plan = RoutePlan(RouteKey(route.name, "here"), "mara", lambda: route)
    voice = Voice([plan], board=RouteBoard(now_ms), clock=now_ms)
    speaker = line.speaker = Speaker(line.send, voice, codec=Codec.PCMU, clock=now_ms)
    recorder = TurnRecorder(MemoryStore(), "call")
    quiet = asyncio.Event()
    answered = [0]

    def on_turn(turn: object) -> None:
        answered[0] += 1
        quiet.set()

    recorder.add = lambda turn: on_turn(turn) if turn.role == "agent" else None  # type: ignore[method-assign]
    thinker = Thinker(agent, model, None)
    conversation = Conversation(
        flow=Flow(agent, {}, thinks=True),
        speaker=speaker,
        recorder=recorder,
        perform=_nothing,
        expect=lambda expects: None,
        clock=now_ms,
        thinker=thinker,
    )
    tasks = [asyncio.create_task(speaker.run()), asyncio.create_task(conversation.run())]
    try:
        await asyncio.wait_for(quiet.wait(), 10)
        for number in range(turns):
            await asyncio.sleep(random.uniform(0.02, 0.3))
            quiet.clear()
            line.spoke.clear()
            line.first_ms = None
            text = f"Are you open today, please, number {number}?"
            spoke_ms = now_ms()
            conversation.notify(SpeechStarted(spoke_ms))
            await asyncio.sleep((PAUSE_MS + RECOGNITION_MS) / 1000)
            if ahead:
                conversation.notify(LikelyEnd(text.lower()))
            await asyncio.sleep((END_OF_TURN_MS - PAUSE_MS - RECOGNITION_MS) / 1000)
            ended_ms = now_ms()
            conversation.notify(TurnEnded(text, spoke_ms, spoke_ms, spoke_ms, END_OF_TURN_MS))
            await asyncio.wait_for(line.spoke.wait(), 10)
            assert line.first_ms is not None
            took.append(line.first_ms - ended_ms)
            await asyncio.wait_for(quiet.wait(), 10)
        return took
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await thinker.aclose()
        await voice.aclose()


async def _nothing(action: object) -> str | None:
    return None


@contextlib.asynccontextmanager
async def stand_in() -> AsyncIterator[str]:
    """The model, in a process of its own; gives its base URL."""
    script = {"first_ms": MODEL_MS, "rules": [{"reply": f"{_FIRST} {_REST}"}]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "script.json"
        path.write_text(json.dumps(script), encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "backend.simulator.llm", "--port", "0", "--script", str(path),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
            yield line.strip().removeprefix("OPENAI_BASE_URL=")
        finally:
            process.terminate()
            await process.wait()


def figures(took: list[float]) -> dict[str, float]:
    """Of the whole, and of what is ours: without the model's and the voice's own time."""
    own = [each - MODEL_MS - VOICE_MS for each in took]
    rounded = {"p50": percentile(took, 50), "p95": percentile(took, 95)}
    rounded |= {"own_p50": percentile(own, 50), "own_p95": percentile(own, 95), "own_longest": max(own)}
    return {name: round(value, 1) for name, value in rounded.items()}


async def measure(turns: int, at_once: list[int]) -> dict[str, object]:
    agent = parse_agent(json.dumps(_AGENT), file="benchmark")
    results: dict[str, object] = {}
    async with stand_in() as base_url:
        model = OpenAiModel(base_url, None, "stand-in")
        try:
            for calls in at_once:
                for ahead in (False, True):
                    work = [call(agent, model, turns, ahead=ahead) for _ in range(calls)]
                    took = [each for one in await asyncio.gather(*work) for each in one]
                    name = f"{calls} at once, {'begun ahead' if ahead else 'begun at the end of the turn'}"
                    results[name] = figures(took)
                    print(f"{name}: {results[name]}", flush=True)
        finally:
            await model.aclose()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=60, help="of each call")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args()
    results = asyncio.run(measure(options.turns, options.at_once))
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}
    print(json.dumps({"benchmark": "llm_turns", **machine, **results}))


if __name__ == "__main__":
    main()
