"""The agent as it ships, and a speech server of its own process of which one sentence goes wrong, once.

Whatever goes wrong, and wherever in the sentence: every word is heard once, the call goes on to its end, and
nobody apologises.
"""

from __future__ import annotations

import asyncio
import audioop
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from backend.calls.boards.route_board import RouteBoard
from backend.calls.speaking.speaker import Speaker
from backend.calls.speaking.voice import Voice
from backend.calls.talking.conversation import Conversation
from backend.calls.talking.recorder import TurnRecorder
from backend.core.agent import Agent
from backend.core.flow import Flow
from backend.core.g711 import Codec
from backend.core.records import TurnRecord
from backend.core.steps import Action
from backend.core.turns import SpeechStarted, TurnEnded
from backend.settings import load_settings
from backend.simulator.wordcount import word_errors
from backend.speech_routes import SpeechRoutes
from backend.stt.local import LocalTranscriber
from tests.backend.calls.fakes import MemoryStore
from tests.faults.line import HeardLine
from tests.faults.proxy import FaultProxy, Kind, Once
from tests.faults.servers import speech

ROOT = Path(__file__).parents[2]
FRONT_DESK = Agent.model_validate_json((ROOT / "agents" / "front-desk.json").read_text())
HOURS = 2  # the sentence of the opening hours: the greeting and the question are before it
KINDS: tuple[Kind, ...] = ("cut", "stall", "no_sound", "early", "error", "refused", "killed")
EARLY = {"middle": (HOURS, 0.25)}  # with more sound it might be honest haste, with none it is "no_sound"
PLACES = {"first piece": (0, 0.0), "middle": (HOURS, 0.5), "last word": (HOURS, 0.92)}
SIDE_BY_SIDE = 9


def now_ms() -> float:
    return asyncio.get_running_loop().time() * 1000


@pytest.fixture(scope="module")
def server_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    folder = tmp_path_factory.mktemp("server")
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "ENGINE": "preview",
        "HOST": "127.0.0.1", "PORT": str(port),
    }  # fmt: skip
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "runpod_server"], env=environment, cwd=folder, stdout=log, stderr=log
        )
    try:
        give_up_s = time.monotonic() + 60
        while not _is_well(port):
            assert server.poll() is None and time.monotonic() < give_up_s, (folder / "log").read_text()
        yield port
    finally:
        server.terminate()
        server.wait(20)


def _is_well(port: int) -> bool:
    try:
        return bool(httpx.get(f"http://127.0.0.1:{port}/health").json()["status"] == "healthy")
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def ears() -> Iterator[LocalTranscriber]:
    transcriber = LocalTranscriber()
    yield transcriber
    transcriber.close()


class Call:
    """One call of the shipped agent over these routes; the carrier's own voice plays on the same line."""

    def __init__(self, routes: SpeechRoutes, board: RouteBoard, ears: LocalTranscriber) -> None:
        self.line = HeardLine()
        self.by_carrier: list[str] = []
        self.voice = Voice(
            routes.plans(FRONT_DESK),
            board=board,
            clock=now_ms,
            ears=ears,
            last_resort=self._carrier_says if FRONT_DESK.falls_back_on_carrier else None,
        )
        self.speaker = Speaker(self.line.send, self.voice, codec=Codec.PCMU, clock=now_ms)
        self.line.on_mark = self.speaker.mark_returned
        self.turns: dict[int, TurnRecord] = {}
        recorder = TurnRecorder(MemoryStore(), "call")
        recorder.add = lambda turn: self.turns.update({turn.index: turn})  # type: ignore[method-assign]
        self.conversation = Conversation(
            flow=Flow(FRONT_DESK, {}),
            speaker=self.speaker,
            recorder=recorder,
            perform=self._perform,
            expect=lambda expects: None,
            clock=now_ms,
            thinker=None,
        )

    async def _carrier_says(self, text: str) -> None:
        self.by_carrier.append(text)
        sound = audioop.ratecv(speech(text).pcm16, 2, 1, 24_000, 8_000, None)[0]
        self.line.play_elsewhere(Codec.PCMU.encode(sound))
        await asyncio.sleep(len(sound) / 16_000)

    async def _perform(self, action: Action) -> str | None:
        return None

    async def asked(self, text: str) -> None:
        """Returns when the agent has said a turn that ends so."""
        while not any(turn.role == "agent" and turn.text.endswith(text) for turn in self.turns.values()):
            assert not self.held.done(), f"the call is over before {text!r}: {self.held}"
            await asyncio.sleep(0.02)

    def say(self, text: str) -> None:
        at_ms = now_ms()
        self.conversation.notify(SpeechStarted(at_ms - 0.02))
        self.conversation.notify(TurnEnded(text, at_ms - 0.02, at_ms - 0.01, at_ms, 300))

    async def hold(self) -> str:
        """Have the whole call; how it ended."""
        sender = asyncio.create_task(self.speaker.run())
        self.held = asyncio.create_task(self.conversation.run())
        try:
            await self.asked("How can I help you today?")
            self.say("When are you open?")
            await self.asked("Would you like to book an appointment?")
            self.say("No, thank you.")
            return await self.held
        finally:
            for task in (self.held, sender):
                task.cancel()
            await asyncio.wait([self.held, sender])
            await self.voice.aclose()
            self.line.close()

    @property
    def agent_text(self) -> str:
        turns = [self.turns[at] for at in sorted(self.turns)]
        return " ".join(turn.text for turn in turns if turn.role == "agent")

    @property
    def heard_text(self) -> str:
        turns = [self.turns[at] for at in sorted(self.turns)]
        return " ".join(turn.heard_text for turn in turns if turn.role == "agent")


@asynccontextmanager
async def proxied(port: int, fault: Once | None) -> AsyncIterator[FaultProxy]:
    proxy = FaultProxy(port, fault)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()


async def called(port: int, fault: Once | None, ears: LocalTranscriber) -> tuple[Call, FaultProxy]:
    async with proxied(port, fault) as proxy:
        board = RouteBoard(now_ms)
        settings = load_settings(None, sesame_self_hosted_url=proxy.url)
        async with SpeechRoutes(settings, board, lambda: [FRONT_DESK], now_ms) as routes:
            call = Call(routes, board, ears)
            async with asyncio.timeout(120):
                await call.hold()
        return call, proxy


@pytest.mark.timeout(300)
async def test_every_word_is_heard_once_and_the_call_goes_on(
    server_port: int, ears: LocalTranscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SESAME_API_KEY", "ELEVENLABS_API_KEY", "ELEVENLABS_VOICE_ID"):
        monkeypatch.delenv(name, raising=False)
    well, proxy = await called(server_port, None, ears)
    text = well.agent_text
    lost_by_ear = word_errors(text, await ears.transcribe(well.line.heard)).errors
    lengths = proxy.sound_bytes
    faults = {
        (kind, place): Once(kind, sentence, 0 if kind == "no_sound" else round(share * lengths[sentence]))
        for kind in KINDS
        for place, (sentence, share) in (EARLY if kind == "early" else PLACES).items()
    }  # fmt: skip
    places = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(fault: Once) -> tuple[Call, FaultProxy]:
        async with places:
            return await called(server_port, fault, ears)

    calls = await asyncio.gather(*map(one, faults.values()))
    for (kind, place), (call, through) in zip(faults, calls, strict=True):
        what = f"{kind} in the {place}; by the carrier {call.by_carrier}"
        # With the gaps and without: a recogniser stumbles over one where people do not.
        by_ear = [await ears.transcribe(sound) for sound in (call.line.heard, call.line.spoken)]
        errors = min((word_errors(text, heard) for heard in by_ear), key=lambda found: found.errors)
        print(f"{what}: {errors.differences() or 'every word'}; gaps {sum(call.line.gaps_ms):.0f} ms")
        assert through.struck, what
        assert call.agent_text == call.heard_text == text, f"{what}: {call.heard_text}"
        assert errors.errors <= lost_by_ear + 3, f"a word at the join, as the ear takes it: {what}"
