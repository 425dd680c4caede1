"""Real servers on real sockets, each in a thread of its own, and an engine that fails or waits on command."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Self

import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from runpod_server.app import choose_engine, listen, serve
from runpod_server.engine.request import EndReason, Engine, EngineStatus, HeardTurn, SpeechRequest, Voice
from runpod_server.engine.scheduler import Slots
from runpod_server.settings import Settings
from runpod_server.voices.store import VoiceStore

DEADLINE_S = 20.0
KEY = "a-key-nobody-guesses"


@dataclass
class Running:
    """A server that runs, and clients for it."""

    host: str
    engine: Engine
    stop: Callable[[], None]

    @asynccontextmanager
    async def connect(self, path: str = "/ws/generate", **options: Any) -> AsyncIterator[ClientConnection]:
        url = f"ws://{self.host}{path}"
        async with websockets.connect(url, compression=None, **options) as socket:
            yield socket

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(
            base_url=f"http://{self.host}", headers=headers, timeout=DEADLINE_S, verify=False
        )

    async def health(self) -> dict[str, Any]:
        async with self.client(KEY) as http:
            answer: dict[str, Any] = (await http.get("/health")).json()
        return answer

    async def until_health(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask /health until it says so, or fail at the deadline."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                health = await self.health()
                if condition(health):
                    return health


@dataclass
class Spoken:
    """What a client heard of one request."""

    frames: list[bytes]
    reply: dict[str, Any]

    @property
    def pcm16(self) -> bytes:
        return b"".join(self.frames)


async def hear(socket: ClientConnection) -> Spoken:
    """The minimal client of the contract: bytes until a text frame."""
    frames: list[bytes] = []
    async with asyncio.timeout(DEADLINE_S):
        async for message in socket:
            if isinstance(message, str):
                return Spoken(frames, json.loads(message))
            frames.append(message)
    raise AssertionError("the server closed before it was done")


@pytest.fixture(scope="session")
def heard() -> Callable[[ClientConnection], Awaitable[Spoken]]:
    return hear


@pytest.fixture(scope="session")
def settings() -> Callable[..., Settings]:
    """Settings that owe nothing to the machine's environment."""

    def make(**given: Any) -> Settings:
        return Settings(_env_file=None, **{"engine": "preview", "host": "127.0.0.1", "port": 0, **given})

    return make


@contextmanager
def running(settings: Settings, engine: Engine, *, warm: bool = True, **options: Any) -> Iterator[Running]:
    listener = listen("127.0.0.1", 0)
    host = f"127.0.0.1:{listener.getsockname()[1]}"
    loop_ready: list[Any] = []
    started = threading.Event()

    async def main() -> None:
        stop = asyncio.Event()
        loop_ready.extend((asyncio.get_running_loop(), stop))
        started.set()
        await serve(settings, engine, listener, stop, **options)

    thread = threading.Thread(target=asyncio.run, args=(main(),), name="server")
    thread.start()
    assert started.wait(DEADLINE_S)
    loop, stop = loop_ready

    def end() -> None:
        loop.call_soon_threadsafe(stop.set)

    try:
        if warm:
            _wait_until_healthy(host)
        yield Running(host, engine, end)
    finally:
        if thread.is_alive():
            end()
        thread.join(DEADLINE_S)
        assert not thread.is_alive(), "the server did not stop"


def _wait_until_healthy(host: str) -> None:
    give_up_s = time.monotonic() + DEADLINE_S
    while httpx.get(f"http://{host}/health", timeout=DEADLINE_S).json()["status"] != "healthy":
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


@pytest.fixture(scope="session")
def server(settings: Callable[..., Settings]) -> Iterator[Running]:
    """The preview engine with default settings, shared by all tests that leave it as they found it."""
    chosen = settings()
    with running(chosen, choose_engine(chosen)) as shared:
        yield shared


@pytest.fixture
def start(settings: Callable[..., Settings]) -> Iterator[Callable[..., Running]]:
    """Start a server with settings of one's own, on an engine of one's own if given."""
    with ExitStack() as servers:

        def make(engine: Engine | None = None, *, options: Any = None, **given: Any) -> Running:
            chosen = settings(**given)
            runs = running(chosen, engine or choose_engine(chosen), warm=engine is None, **(options or {}))
            return servers.enter_context(runs)

        yield make


class CommandedEngine:
    """Makes one frame of zeros, then does what its text says: fails as listed, or "wait"s for ever.

    A listed text is refused before any sound, unless it begins with "late".
    """

    name = "commanded"
    model = "none"
    device = "cpu"
    notice = None
    voices: tuple[Voice, ...] = ()
    uses_references = False

    def __init__(self, failures: dict[str, Exception], *, loaded: bool = True) -> None:
        self.failures, self.loaded = failures, loaded
        self.references = VoiceStore()
        self.forgotten: list[str] = []
        self.heard: list[HeardTurn] = []
        self.slots: Slots[object] = Slots(4, 0)

    async def load(self) -> None:
        """Never finishes when it is to stay "loading"."""
        if not self.loaded:
            await asyncio.Event().wait()

    def open(self, request: SpeechRequest) -> CommandedStream:
        if request.text in self.failures and not request.text.startswith("late"):
            raise self.failures[request.text]
        stream = CommandedStream(self, request)
        self.slots.enter(stream)
        return stream

    async def hear(self, turn: HeardTurn) -> bool:
        self.heard.append(turn)
        return True

    def forget(self, context_id: str) -> None:
        self.forgotten.append(context_id)

    def status(self) -> EngineStatus:
        state = "healthy" if self.loaded else "loading"
        return EngineStatus(state, self.slots.active, 4, self.slots.waiting, 0)

    async def close(self) -> None:
        """Nothing is held."""


class CommandedStream:
    reason: EndReason | None = None

    def __init__(self, engine: CommandedEngine, request: SpeechRequest) -> None:
        self.engine, self.request = engine, request
        self.gone = asyncio.Event()
        self.pieces = 0

    async def admitted(self) -> None:
        """At once."""

    def cancel(self) -> None:
        if self.reason is None:
            self.reason = "cancelled"
        self.engine.slots.leave(self)
        self.gone.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self.pieces += 1
        if self.pieces == 1:
            return bytes(1920 * 2)
        if failure := self.engine.failures.get(self.request.text):
            raise failure
        if self.request.text == "wait":
            await self.gone.wait()
        else:
            self.reason = "eos"
        raise StopAsyncIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


@pytest.fixture
def commanded() -> Callable[..., CommandedEngine]:
    return CommandedEngine
