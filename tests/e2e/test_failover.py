"""A voice dies in the middle of a call: whole calls through real processes, each of which can be killed.

Two speech servers, an ElevenLabs stand-in, a Telnyx stand-in and the backend. What is asserted is what the
caller heard, recognised from the recording of the line, and what the backend tells about it.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import sys
import wave
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio

from backend.core.failover import Patience
from backend.core.resample import Resampler
from backend.core.sentences import pieces
from backend.core.urls import websocket_url
from backend.recorded import APOLOGY
from backend.simulator.call_run import Evidence, run_inbound
from backend.simulator.stack import Stack, StackConfig
from backend.simulator.wordcount import word_errors
from backend.stt.local import LocalTranscriber
from backend.tts.sesame_ws import RATE_HZ, SesameWebSocketService
from tests.words import errors_at_end, errors_within

pytestmark = pytest.mark.asyncio(loop_scope="module")

AUDIBLE = 300
FIRST_AUDIO_MS = Patience().first_audio_ms
CALLER = "+15550100077"
COLLEAGUE = "+15550100099"
RACHEL = "21m00Tcm4TlvDq8ikWAM"

# A weekday is known only when the call begins: no piece with one can be prepared.
STORY = (
    "The old lighthouse keeper climbed the stairs last {{now_weekday}} evening and found that somebody had "
    "left a basket of green apples beside the lamp."
)
# What the caller has just pressed cannot be made ahead either.
SEQUEL = (
    "He carried all {{apples}} of them down to the river, where the fishermen were mending their nets and "
    "singing about the winter."
)
FAREWELL = "Have a pleasant {{now_weekday}}, and goodbye."
NEWS = "Your parcel leaves the warehouse this {{now_weekday}} evening."
SORRY = "We are sorry, our telephone voice is broken today."


def speaks(*nodes: dict[str, Any], **agent: Any) -> dict[str, Any]:
    return {"tts_fallbacks": [], **agent, "call_flow": {"start": nodes[0]["id"], "nodes": list(nodes)}}


def asks(name: str, say: str, then: str) -> dict[str, Any]:
    return {"id": name, "say": say, "transitions": [{"to": then, "when": {"digits": "1"}}]}


def ends(name: str, say: str) -> dict[str, Any]:
    return {"id": name, "say": say, "actions": [{"type": "hangup"}]}


AGENTS = {
    "story": speaks(
        {"id": "story", "say": STORY, "collect": {"name": "apples", "type": "digits"},
         "transitions": [{"to": "sequel", "when": {"digits": "[2-9]"}}]},
        asks("sequel", SEQUEL, "farewell"), ends("farewell", FAREWELL),
        tts_fallbacks=["elevenlabs"], elevenlabs_settings={"voice_id": RACHEL},
    ),
    "news": speaks(ends("news", NEWS)),
    "prepared": speaks(
        asks("ask", "Would you like to hear the news?", "news"), ends("news", NEWS),
        greeting="Hello, this is the green bakery.",
        failover={"apology": SORRY, "transfer_to": COLLEAGUE},
    ),
    "unprepared": speaks(ends("news", NEWS), failover={"apology": "On {{now_weekday}} we cannot speak."}),
    "nora": speaks(
        ends("news", NEWS), tts_fallbacks=["elevenlabs"],
        sesame_settings={"voice": "nora"}, elevenlabs_settings={"voice_id": RACHEL},
    ),
    "carrier": speaks(
        asks("ask", STORY, "news"), ends("news", FAREWELL),
        tts_fallbacks=["telnyx"],
    ),
    "desk": speaks(
        asks("ask", "How can I help you?", "news"), ends("news", NEWS), turns={"idle_prompts": []},
    ),
}  # fmt: skip
NUMBERS = {name: f"+1555010000{at}" for at, name in enumerate(AGENTS, start=1)}


class Program:
    """A server of its own process that can be killed and started again."""

    def __init__(self, folder: Path, path: str, module: str, *arguments: str, **settings: str) -> None:
        """ "PORT" in an argument or a setting is its port, another one each time."""
        self._folder, self._path, self._module = folder, path, module
        self._arguments, self._settings = arguments, settings
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0

    async def start(self) -> None:
        """Start it unless it runs; it is healthy when this returns."""
        async with asyncio.timeout(30), httpx.AsyncClient(trust_env=False) as client:
            while not await self._answers(client):
                if self._process is None or self._process.returncode is not None:
                    await self._begin()
                await asyncio.sleep(0.05)

    async def _begin(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.port = taken.getsockname()[1]
        settings = {name: value.replace("PORT", str(self.port)) for name, value in self._settings.items()}
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        with (self._folder / f"{self._module}-{self.port}.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "backend.simulator.child", str(os.getpid()), self._module,
                *(argument.replace("PORT", str(self.port)) for argument in self._arguments),
                cwd=self._folder, stdout=log, stderr=log,
                env={**inherited, "PYTHONPATH": str(Path(__file__).parents[2]), **settings},
            )  # fmt: skip

    async def _answers(self, client: httpx.AsyncClient) -> bool:
        try:
            reply = await client.get(f"http://127.0.0.1:{self.port}{self._path}")
        except httpx.TransportError:
            return False
        return reply.status_code == 200 and reply.json().get("status") != "loading"

    async def kill(self) -> None:
        """SIGKILL; it is gone when this returns."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
            self._process = None


class Wire:
    """What lies between the backend and a speech server: nothing, until the server is to die on it."""

    def __init__(self, server: Program) -> None:
        self.server = server
        self._bytes_left: int | None = None
        self._listener: asyncio.Server | None = None
        self.url = ""
        self.cut = False

    async def open(self) -> None:
        self._listener = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        assert self._listener is not None
        self._listener.close()

    def kill_after(self, sound_ms: float) -> None:
        """Once so much sound has passed, be it for later, the server is killed, and not a byte of its
        follows."""
        self._bytes_left, self.cut = round(sound_ms * 48), False

    async def _carry(self, inward: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            outward, server = await asyncio.open_connection("127.0.0.1", self.server.port)
        except OSError:
            back.transport.abort()
            return
        ways = {
            asyncio.create_task(self._pass_on(inward, server, counts=False)),
            asyncio.create_task(self._pass_on(outward, back, counts=True)),
        }
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for writer in (back, server):
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, *, counts: bool) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(4096):
                if counts and self._bytes_left is not None:
                    self._bytes_left -= len(data)
                    if self._bytes_left < 0:
                        self._bytes_left, self.cut = None, True
                        await self.server.kill()
                        return
                to.write(data)
                await to.drain()


@dataclass
class World:
    """Everything that runs."""

    stack: Stack
    pods: tuple[Wire, ...]
    vendor: Wire
    ears: LocalTranscriber
    folder: Path

    async def all_up(self) -> None:
        """Every voice runs, and the backend knows it."""
        await asyncio.gather(*(wire.server.start() for wire in (*self.pods, self.vendor)))
        await self.servers_are("up")

    async def servers_are(self, state: str) -> None:
        """Returns once the backend says so of both."""

        async def told() -> bool:
            return await self.server_states() == {state}

        await until(told)

    async def server_states(self) -> set[str]:
        rows = await self.routes("sesame_ws")
        return {row["state"] for row in rows if not row["detail"].startswith("voice ")}

    async def all_down(self) -> None:
        await asyncio.gather(*(wire.server.kill() for wire in (*self.pods, self.vendor)))

    async def routes(self, name: str) -> list[dict[str, Any]]:
        health = (await self.stack.backend.get("/api/v1/health")).json()
        return [route for route in health["speech"] if route["name"] == name]

    async def die_and_come_back(self) -> None:
        """Returns once the backend saw both servers down, and up again."""
        await self.servers_are("down")
        await self.all_up()

    async def live_call(self, agent: str) -> str:
        """The call of this agent that is in progress, once its agent has begun to speak."""
        calls: list[dict[str, Any]] = []

        async def found() -> bool:
            wanted = {"agent_id": agent, "state": "in_progress"}
            calls.extend((await self.stack.backend.get("/api/v1/calls", params=wanted)).json()["calls"])
            return bool(calls)

        await until(found)
        return str(calls[0]["id"])

    async def say(self, call: str, text: str, *, interrupt: bool = False) -> None:
        body = {"text": text, "interrupt": interrupt}
        reply = await self.stack.backend.post(f"/api/v1/calls/{call}/say", json=body)
        assert reply.status_code == 202, reply.text

    async def said(self, call: str, text: str) -> bool:
        turns = (await self.stack.backend.get(f"/api/v1/calls/{call}")).json()["turns"]
        return any(turn["text"] == text for turn in turns)

    async def lasts_ms(self, text: str) -> float:
        """How long the voice itself takes for a text, from its first audible sample to the last."""
        voice = SesameWebSocketService(websocket_url(self.pods[0].url, "/ws/generate"))
        sound = np.concatenate([await samples_8k(voice, piece.spoken) for piece in pieces(text)])
        await voice.aclose()
        loud = np.flatnonzero(np.abs(sound) > AUDIBLE)
        return float(loud[-1] - loud[0]) / 8

    async def metrics(self) -> dict[str, float]:
        lines = (await self.stack.backend.get("/metrics")).text.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    async def ring(self, agent: str, *steps: Mapping[str, Any], **options: Any) -> Evidence:
        return await run_inbound(
            self.stack, to=NUMBERS[agent], from_number=CALLER, script={"steps": list(steps)}, **options
        )

    async def heard(self, evidence: Evidence) -> str:
        """What the caller heard, from the recording."""
        return await self.ears.transcribe(agent_side(evidence).tobytes())


async def samples_8k(voice: SesameWebSocketService, text: str) -> np.ndarray[Any, np.dtype[np.int32]]:
    resampler = Resampler(RATE_HZ, 8_000)
    async with aclosing(voice.speak(text)) as sounds:
        pcm16 = b"".join([resampler.push(sound.data) async for sound in sounds])
    return np.frombuffer(pcm16 + resampler.flush(), "<i2").astype(np.int32)


def agent_side(evidence: Evidence) -> np.ndarray[Any, np.dtype[np.int16]]:
    """The agent as the line played it, 8 kHz."""
    with wave.open(io.BytesIO(evidence.wav)) as recording:
        both = np.frombuffer(recording.readframes(recording.getnframes()), "<i2")
    return both.reshape(-1, 2)[:, 1].copy()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("failover")
    agents = folder / "agents"
    agents.mkdir()
    for name, agent in AGENTS.items():
        numbered = {"id": name, "name": name, "phone_numbers": [NUMBERS[name]], **agent}
        (agents / f"{name}.json").write_text(json.dumps(numbered))
    pod = {"ENGINE": "preview", "HOST": "127.0.0.1", "PORT": "PORT"}
    servers = [Program(folder, "/health", "runpod_server", **pod) for _ in range(2)]
    servers.append(Program(folder, "/openapi.json", "backend.simulator.elevenlabs", "--port", "PORT"))
    *pods, vendor = wires = [Wire(server) for server in servers]
    ears = LocalTranscriber()
    async with AsyncExitStack() as exit_stack:
        exit_stack.callback(ears.close)
        for wire in wires:
            await wire.open()
            exit_stack.push_async_callback(wire.close)
            exit_stack.push_async_callback(wire.server.kill)
        await asyncio.gather(*(server.start() for server in servers))
        config = StackConfig(
            run_dir=folder / "run",
            agents_dir=agents,
            speech_url=pods[0].url,
            settings={
                "SESAME_SELF_HOSTED_URL": ",".join(wire.url for wire in pods),
                "ELEVENLABS_BASE_URL": vendor.url,
                "ELEVENLABS_API_KEY": "local-key",
            },
        )
        stack = await exit_stack.enter_async_context(Stack(config))
        world = World(stack, tuple(pods), vendor, ears, folder)
        await is_prepared(folder, "Would you like to hear the news?", SORRY)
        yield world


async def until(holds: Callable[[], Awaitable[bool]], *, within_s: float = 40.0) -> None:
    """Ask until it holds; the sleep only spaces the questions."""
    async with asyncio.timeout(within_s):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.1)


async def is_prepared(folder: Path, *texts: str) -> None:
    """Returns once the backend has kept these words, spoken."""

    def kept() -> bool:
        files = [file.read_bytes() for file in folder.glob("run/prompts-cache/*/*.wav")]
        return all(any(text.encode() in file for file in files) for text in texts)

    await until(lambda: asyncio.to_thread(kept))


def happened(evidence: Evidence, kind: str) -> list[dict[str, Any]]:
    return [event["data"] for event in evidence.line["events"] if event["kind"] == kind]


def longest_quiet_ms(evidence: Evidence, node: str) -> float:
    """The longest silence on the line between the first and the last sound of a node."""
    [turn] = [turn for turn in evidence.call["turns"] if turn["role"] == "agent" and turn["node_id"] == node]
    line = agent_side(evidence)[round(turn["started_ms"]) * 8 : round(turn["ended_ms"]) * 8]
    loud = np.flatnonzero(np.abs(line.astype(np.int32)) > AUDIBLE)
    return float(np.diff(loud).max()) / 8


@dataclass
class Lateness:
    """How long the backend takes at worst for what takes it no time, on this machine as busy as it is now."""

    stack: Stack
    worst_ms: float = 0.0

    async def watch(self) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            asked_s = loop.time()
            await self.stack.backend.get("/docs")
            self.worst_ms = max(self.worst_ms, (loop.time() - asked_s) * 1000)
            await asyncio.sleep(0.05)


def reasons(evidence: Evidence, node: str) -> set[str | None]:
    """Why routes were left in the middle of a node, as the API tells it."""
    [turn] = [turn for turn in evidence.call["turns"] if turn["role"] == "agent" and turn["node_id"] == node]
    return {part["reason"] for part in turn["spoken"]}


def spoken(evidence: Evidence, node: str) -> list[tuple[str, str]]:
    """Which route spoke which words of a node, as the API tells it."""
    [turn] = [turn for turn in evidence.call["turns"] if turn["role"] == "agent" and turn["node_id"] == node]
    return [(part["route"], part["text"]) for part in turn["spoken"]]


async def test_a_sentence_survives_the_death_of_two_voices(world: World) -> None:
    """Both speech servers are killed in the middle of a sentence, one after the other, and come back."""
    await world.all_up()
    for wire in world.pods:
        wire.kill_after(sound_ms=3_000)
    async with asyncio.TaskGroup() as at_once:
        calling = at_once.create_task(
            world.ring(
                "story",
                {"wait_for": "beside the lamp"}, {"press": "7"},
                {"wait_for": "about the winter"}, {"press": "1"}, {"wait_for": "goodbye"},
            )
        )  # fmt: skip
        lateness = Lateness(world.stack)
        watching = at_once.create_task(lateness.watch())
        calling.add_done_callback(lambda _: watching.cancel())
        at_once.create_task(world.die_and_come_back())
    evidence = calling.result()
    assert all(wire.cut for wire in world.pods)
    story, sequel, farewell = (
        text.replace("{{now_weekday}}", evidence.call["variables"]["now_weekday"]).replace("{{apples}}", "7")
        for text in (STORY, SEQUEL, FAREWELL)
    )
    heard = await world.heard(evidence)
    errors = word_errors(f"{story} {sequel} {farewell}", heard)
    assert errors.errors <= 2, f"a word at each of two joins: {errors.differences()}"
    assert reasons(evidence, "story") <= {None, "closed", "unreachable"}, "no deadline was waited for"
    quiet_ms = longest_quiet_ms(evidence, "story")
    # The pauses of the voices themselves are shorter; what this machine adds is measured meanwhile.
    assert quiet_ms < FIRST_AUDIO_MS / 2 + 3 * lateness.worst_ms, "nor was anything else"
    parts = spoken(evidence, "story")
    # A server may die of what is prepared meanwhile, and be back before the last of the sentence is made.
    assert [route for route, _ in parts] in (["sesame_ws", "elevenlabs"], ["sesame_ws"], ["elevenlabs"])
    assert all(text for _, text in parts)
    assert " ".join(text for _, text in parts) == story
    assert " ".join(text for _, text in spoken(evidence, "sequel")) == sequel
    assert [e["data"]["by"] for e in evidence.line["events"] if e["kind"] == "hangup"] == ["agent"]
    assert not evidence.call["error"]
    again, nora = await asyncio.gather(world.ring("news"), world.ring("nora"))
    assert [route for route, _ in spoken(again, "news")] == ["sesame_ws"], "the next call uses it again"
    # A voice that a speech server does not know is told, and another speaks.
    assert [route for route, _ in spoken(nora, "news")] == ["elevenlabs"]
    told = [route["detail"] for route in await world.routes("sesame_ws") if route["state"] == "down"]
    assert any("voice nora" in detail and "the voices are: " in detail for detail in told), told


TALE = (
    "The tea is ready. It stands on the table, next to the window. Shall we sit down? The roses need water."
)


async def test_sentences_follow_each_other_without_a_seam(world: World) -> None:
    await world.all_up()
    expected_ms = await world.lasts_ms(TALE)
    calling = asyncio.create_task(world.ring("desk", {"wait_for": "need water"}, {"hang_up": True}))
    await world.say(await world.live_call("desk"), TALE)
    evidence = await calling
    [aside] = [turn for turn in evidence.call["turns"] if turn["text"] == TALE]
    assert aside["heard_text"] == TALE
    line = agent_side(evidence)[round(aside["started_ms"] - 100) * 8 :]
    loud = np.flatnonzero(np.abs(line.astype(np.int32)) > AUDIBLE)
    # On a busy machine the line may run dry: that is no seam, and the carrier tells for how long.
    dry_ms = sum(event["ms"] for event in happened(evidence, "underrun"))
    assert (loud[-1] - loud[0]) / 8 == pytest.approx(expected_ms + dry_ms, abs=60)


STRANGE = {
    "emoji only": "\U0001f600\U0001f44d \u2764\ufe0f",
    "punctuation": "... !!! ---",
    "like SSML": '<speak>Please <break time="3s"/> hold <emphasis level="strong">on</emphasis></speak>',
    "right to left": "\u0645\u0631\u062d\u0628\u0627 \u0628\u0643\u0645.",
    "one word": "a" * 4_000,
    "long": ("The queue is long today. " * 160).strip(),
    "numbers": "1" * 3_000,
    "NUL and friends": "one\x00two\x07three\u202efour\ufeff",
}


async def test_texts_that_are_our_own_fault_make_no_voice_fail(world: World) -> None:
    await world.all_up()
    before = await world.metrics()
    calling = asyncio.create_task(world.ring("desk"))
    call = await world.live_call("desk")
    for text, complaint in (("", "nothing to say"), (" \n", "nothing to say"), ("x" * 10_000, "at most")):
        reply = await world.stack.backend.post(f"/api/v1/calls/{call}/say", json={"text": text})
        assert (reply.status_code, complaint in reply.text) == (422, True), reply.text
    for text in STRANGE.values():
        await world.say(call, text, interrupt=True)
        await asyncio.sleep(0.7)  # so that it is under way
    await world.say(call, "Thank you for waiting.", interrupt=True)
    await until(lambda: world.said(call, "Thank you for waiting."))
    await world.stack.backend.post(f"/api/v1/calls/{call}/hangup")
    evidence = await calling
    assert not evidence.call["error"]
    turns = {turn["text"]: turn for turn in evidence.call["turns"]}
    kept = {text.replace("\0", "") for text in STRANGE.values()}  # PostgreSQL takes no null character
    assert kept <= set(turns)
    for unsayable in ("emoji only", "punctuation", "right to left"):
        assert turns[STRANGE[unsayable]]["spoken"] == []
    assert errors_within("speak", await world.heard(evidence)) == 1, "tags are not read out"
    after = await world.metrics()
    failovers = [name for name in after if name.startswith("voice_speech_failovers_total")]
    assert [after[name] for name in failovers] == [before.get(name, 0) for name in failovers]
    assert await world.server_states() == {"up"}
    assert turns["Thank you for waiting."]["heard_text"] == "Thank you for waiting."


async def test_with_every_voice_down_what_is_prepared_is_heard_then_an_apology(world: World) -> None:
    await world.all_up()
    await world.all_down()
    async with asyncio.TaskGroup() as at_once:
        calls = [
            at_once.create_task(world.ring(name, *steps))
            for name, steps in (
                ("prepared", [{"wait_for": "hear the news"}, {"press": "1"}]),
                ("unprepared", []),
                (
                    "carrier",
                    [
                        {"interrupt_after_ms": 1_500, "say": "Stop, stop, please."},
                        {"wait_for": "didn't catch that"}, {"press": "1"}, {"wait_for": "goodbye"},
                    ],
                ),
            )
        ]  # fmt: skip
    prepared, unprepared, carrier = (call.result() for call in calls)

    said = f"Hello, this is the green bakery. Would you like to hear the news? {SORRY}"
    assert word_errors(said, await world.heard(prepared)).errors <= 1
    assert prepared.call["routes"] == ["prepared", "recorded"]
    assert happened(prepared, "transfer") == [{"to": COLLEAGUE}]
    assert "no voice is left" in prepared.call["error"]

    assert word_errors(APOLOGY, await world.heard(unprepared)).errors <= 1, "the one that ships"
    assert happened(unprepared, "hangup")[0]["by"] == "agent"

    carrier_says_last = FAREWELL.replace("{{now_weekday}}", carrier.call["variables"]["now_weekday"])
    assert happened(carrier, "interrupt")
    assert happened(carrier, "speak_stop"), "not waited out: what was heard of it is short of the whole below"
    story, *_, farewell = [turn for turn in carrier.call["turns"] if turn["role"] == "agent"]
    assert story["interrupted"]
    assert story["text"].startswith(story["heard_text"])
    assert 0 < len(story["heard_text"]) < len(story["text"])
    assert [part["route"] for part in farewell["spoken"]] == ["telnyx"]
    assert farewell["heard_text"] == farewell["text"]
    assert errors_at_end(carrier_says_last, await world.heard(carrier)) <= 2, "two of six, to an ear"
