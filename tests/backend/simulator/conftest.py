"""A stand-in on a free port and the other side of it: webhook receiver and media peer, all real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest
import telnyx
import uvicorn
from fastapi import FastAPI, Request, Response
from websockets.asyncio.server import ServerConnection, serve

from backend.core.g711 import Codec
from backend.errors import SpeechError
from backend.simulator.carrier import Carrier, CarrierConfig
from backend.simulator.line import Utterance
from backend.simulator.server import create_app
from backend.simulator.webhooks import WebhookPolicy
from backend.stt.local import LocalTranscriber

DEADLINE_S = 30.0  # a busy machine is slow, not wrong


class _Server(uvicorn.Server):
    """Tells when it is up, and ends without looking at the clock for it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up, self.end = asyncio.Event(), asyncio.Event()

    async def main_loop(self) -> None:
        self.up.set()
        await self.end.wait()


@asynccontextmanager
async def serving(app: FastAPI, *, abrupt: bool = False) -> AsyncIterator[str]:
    """The app on a free loopback port → its base URL. `abrupt`: end without waiting for connections."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        config = uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=1)
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[sock]))
        async with asyncio.timeout(DEADLINE_S):
            await server.up.wait()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.force_exit = abrupt
            server.end.set()
            await task


@dataclass
class Received:
    """One webhook as it came in."""

    headers: dict[str, str]
    raw: bytes

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.raw)

    @property
    def type(self) -> str:
        return self.event["data"]["event_type"]

    @property
    def payload(self) -> dict[str, Any]:
        return self.event["data"]["payload"]


@dataclass
class Webhooks:
    """The backend's webhook route. `answers` decides the status, by default 200."""

    received: list[Received] = field(default_factory=list)
    answer: Callable[[Received], Awaitable[int]] | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    url: str = ""

    async def wait(self, event_type: str, *, count: int = 1, ccid: str | None = None) -> Received:
        """The `count`-th event of the type."""

        def found() -> list[Received]:
            return [
                one
                for one in self.received
                if one.type == event_type and ccid in (None, one.payload.get("call_control_id"))
            ]

        async with asyncio.timeout(DEADLINE_S), self.changed:
            await self.changed.wait_for(lambda: len(found()) >= count)
        return found()[count - 1]

    def types(self) -> list[str]:
        return [one.type for one in self.received]


@pytest.fixture
async def webhooks() -> AsyncIterator[Webhooks]:
    hooks = Webhooks()
    app = FastAPI()

    @app.post("/hook")
    async def hook(request: Request) -> Response:
        one = Received(dict(request.headers), await request.body())
        async with hooks.changed:
            hooks.received.append(one)
            hooks.changed.notify_all()
        return Response(status_code=await hooks.answer(one) if hooks.answer else 200)

    async with serving(app, abrupt=True) as url:
        hooks.url = f"{url}/hook"
        yield hooks


@dataclass
class Stream:
    """One media socket, from the backend's side."""

    socket: ServerConnection
    frames: list[dict[str, Any]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    closed: bool = False

    async def until(self, event: str, *, count: int = 1) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE_S), self.changed:
            await self.changed.wait_for(lambda: len(self.of(event)) >= count)
        return self.of(event)[count - 1]

    async def until_closed(self) -> None:
        async with asyncio.timeout(DEADLINE_S), self.changed:
            await self.changed.wait_for(lambda: self.closed)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["event"] == event]

    async def play(self, g711: bytes) -> None:
        payload = base64.b64encode(g711).decode()
        await self.socket.send(json.dumps({"event": "media", "media": {"payload": payload}}))

    async def mark(self, name: str) -> None:
        await self.socket.send(json.dumps({"event": "mark", "mark": {"name": name}}))

    async def clear(self) -> None:
        await self.socket.send('{"event":"clear"}')


@dataclass
class MediaPeer:
    url: str = ""
    streams: asyncio.Queue[Stream] = field(default_factory=asyncio.Queue)

    async def accept(self) -> Stream:
        async with asyncio.timeout(DEADLINE_S):
            return await self.streams.get()


@pytest.fixture
async def media() -> AsyncIterator[MediaPeer]:
    peer = MediaPeer()

    async def handle(socket: ServerConnection) -> None:
        stream = Stream(socket)
        peer.streams.put_nowait(stream)
        try:
            async for message in socket:
                async with stream.changed:
                    stream.frames.append(json.loads(message))
                    stream.changed.notify_all()
        except Exception:  # noqa: BLE001 a torn socket is what some tests want
            pass
        async with stream.changed:
            stream.closed = True
            stream.changed.notify_all()

    async with serve(handle, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        peer.url = f"ws://127.0.0.1:{port}/media/secret"
        yield peer


class ToneVoice:
    """Tones instead of speech, for tests in which nobody listens to words: 60 ms per character."""

    async def say(self, text: str, *, pitch: float, speed: float, noise_db: float | None = None) -> Utterance:
        if text == "unpronounceable":
            raise SpeechError("there is nothing to pronounce", route="simulator", reason="bad_request")
        pcm16 = tone(60 * len(text))
        return Utterance(text, pcm16, 0, len(pcm16) // 2)

    async def announce(self, text: str) -> bytes:
        return (await self.say(text, pitch=1.0, speed=1.0)).pcm16


class NoEars:
    async def transcribe(self, pcm16_8k: bytes) -> str:
        return ""


def tone(ms: int, *, hz: float = 440.0, level: float = 8000.0) -> bytes:
    """int16 at 8 kHz."""
    time = np.arange(ms * 8) / 8000
    return np.rint(level * np.cos(2 * np.pi * hz * time)).astype("<i2").tobytes()


def g711_tone(ms: int, codec: Codec = Codec.PCMU) -> bytes:
    return codec.encode(tone(ms))


@dataclass
class StandIn:
    """A running stand-in and its clients."""

    url: str
    carrier: Carrier
    http: httpx.AsyncClient
    sdk: telnyx.AsyncTelnyx
    webhooks: Webhooks
    media: MediaPeer

    async def ring(self, *steps: dict[str, Any], codec: str = "PCMU") -> str:
        """Somebody calls → call_control_id."""
        body = {
            "to": "+13125550100",
            "from": "+13125550199",
            "script": {"steps": list(steps)},
            "codec": codec,
        }
        answer = await self.http.post("/sim/calls", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["call_control_id"]

    async def answered(
        self, *steps: dict[str, Any], codec: str = "PCMU", **stream: Any
    ) -> tuple[str, Stream]:
        """Somebody calls, the backend answers and streams → call_control_id and the stream, begun."""
        ccid = await self.ring(*steps, codec=codec)
        await self.webhooks.wait("call.initiated", ccid=ccid)
        await self.sdk.calls.actions.answer(ccid)
        await self.webhooks.wait("call.answered", ccid=ccid)
        await self.stream(ccid, **stream)
        accepted = await self.media.accept()
        await accepted.until("start")
        return ccid, accepted

    async def stream(self, ccid: str, **options: Any) -> None:
        defaults = {
            "stream_url": self.media.url,
            "stream_track": "inbound_track",
            "stream_bidirectional_mode": "rtp",
            "stream_bidirectional_codec": "PCMU",
            "stream_bidirectional_target_legs": "self",
        }
        await self.sdk.calls.actions.start_streaming(ccid, **{**defaults, **options})

    async def ended(self, ccid: str) -> dict[str, Any]:
        """The call once its record is whole."""
        after = 0
        async with asyncio.timeout(DEADLINE_S):
            while (call := (await self.http.get(f"/sim/calls/{ccid}")).json())["state"] != "ended":
                found = await self.http.get("/sim/events", params={"after": after, "wait_s": 0.2})
                after = found.json()["next"]
        return call


StartStandIn = Callable[..., Awaitable[StandIn]]


@asynccontextmanager
async def standing_in(
    webhooks: Webhooks, media: MediaPeer, *, voice: Any = None, ears: Any = None, **config: Any
) -> AsyncIterator[StandIn]:
    config.setdefault("webhooks", WebhookPolicy(first_pause_s=0.02, answer_within_s=0.5))
    carrier = Carrier(
        CarrierConfig(webhook_url=webhooks.url, **config), voice=voice or ToneVoice(), ears=ears or NoEars()
    )
    async with (
        serving(create_app(carrier)) as url,
        httpx.AsyncClient(base_url=url, timeout=15) as http,
        telnyx.AsyncTelnyx(api_key="key", base_url=f"{url}/v2", max_retries=0) as sdk,
    ):
        yield StandIn(url, carrier, http, sdk, webhooks, media)


@pytest.fixture
async def stand_in(webhooks: Webhooks, media: MediaPeer) -> AsyncIterator[StandIn]:
    """Without models: the caller's voice is tones, and they hear no words."""
    async with standing_in(webhooks, media) as one:
        yield one


@pytest.fixture(scope="session")
def ears() -> Any:
    transcriber = LocalTranscriber()
    yield transcriber
    transcriber.close()


@pytest.fixture
def start(webhooks: Webhooks, media: MediaPeer) -> Callable[..., Any]:
    """`async with start(faults=…)`: a stand-in with another configuration."""

    def make(**config: Any) -> Any:
        return standing_in(webhooks, media, **config)

    return make
