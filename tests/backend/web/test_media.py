"""The media WebSocket on a real server: who gets in, and what passes through."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import uvicorn
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from backend.calls.manager import CallManager
from backend.calls.ports import MediaSocket
from backend.web.media import media_router
from tests.backend.calls.carrier import house
from tests.backend.calls.fakes import agent, until

AUTH = "x-telnyx-streaming-auth-token"


class _Server(uvicorn.Server):
    """uvicorn without its hands on the process's signals."""

    @asynccontextmanager
    async def running(self, listener: socket.socket) -> AsyncIterator[None]:
        serving = asyncio.create_task(self._serve([listener]))
        await until(lambda: self.started or serving.done(), "the server up")
        try:
            yield
        finally:
            self.should_exit = True
            await asyncio.wait([serving])
            serving.result()


@asynccontextmanager
async def served(manager: Any) -> AsyncIterator[str]:
    app = FastAPI()
    app.include_router(media_router(cast(CallManager, manager)))
    config = uvicorn.Config(
        app, log_level="warning", ws="websockets-sansio", ws_per_message_deflate=False, lifespan="off"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/media"
        async with asyncio.timeout(20), _Server(config).running(listener):
            yield url


class Doorkeeper:
    """Lets one token in, and does with its socket what the test says."""

    def __init__(self, serve: Callable[[MediaSocket], Awaitable[None]]) -> None:
        self._serve = serve
        self.asked: list[tuple[str, str | None]] = []
        self.served = asyncio.Event()

    def claim_media(self, token: str, auth_token: str | None) -> object | None:
        self.asked.append((token, auth_token))
        return object() if token == "right" else None

    async def serve_media(self, call: object, media_socket: MediaSocket) -> None:
        try:
            await self._serve(media_socket)
        finally:
            self.served.set()


def enter(url: str, **headers: str) -> connect:
    return connect(url, additional_headers=headers, compression=None, proxy=None)


async def closed(connection: ClientConnection) -> None:
    with pytest.raises(ConnectionClosed):
        while True:
            await connection.recv()


async def echo(media_socket: MediaSocket) -> None:
    while (frame := await media_socket.receive()) is not None:
        await media_socket.send(frame)
        await media_socket.send(frame.upper())
    await media_socket.close()


async def test_a_wrong_token_is_refused_before_the_socket_opens() -> None:
    keeper = Doorkeeper(echo)
    async with served(keeper) as url:
        for path in ("/wrong", "/", "", "/right/more"):
            with pytest.raises(InvalidStatus) as caught:
                async with enter(url + path):
                    pass
            assert caught.value.response.status_code in (403, 404)
        assert keeper.asked == [("wrong", None)]


async def test_the_header_reaches_whoever_decides() -> None:
    keeper = Doorkeeper(echo)
    async with served(keeper) as url:
        async with enter(f"{url}/right", **{AUTH: "s3cret"}):
            pass
        async with asyncio.timeout(5):
            await keeper.served.wait()
    assert keeper.asked == [("right", "s3cret")]


async def test_frames_pass_both_ways_as_text_whatever_their_kind() -> None:
    keeper = Doorkeeper(echo)
    async with served(keeper) as url, enter(f"{url}/right") as carrier:
        for sent, back in (('{"event":"ü"}', '{"event":"ü"}'), (b"bytes", "bytes"), (b"\xff", "\ufffd")):
            await carrier.send(sent)
            assert await carrier.recv() == back
            assert await carrier.recv() == back.upper()
        assert "permessage-deflate" not in str(carrier.response and carrier.response.headers)
        await carrier.close()
        async with asyncio.timeout(5):
            await keeper.served.wait()


@pytest.mark.parametrize("politely", [True, False])
async def test_a_carrier_that_goes_is_the_end_of_the_frames(politely: bool) -> None:
    keeper = Doorkeeper(echo)
    async with served(keeper) as url, enter(f"{url}/right") as carrier:
        await carrier.send("x")
        await carrier.recv()
        if politely:
            await carrier.close()
        else:
            carrier.transport.abort()
        async with asyncio.timeout(5):
            await keeper.served.wait()


async def test_sending_to_a_carrier_that_is_gone_is_a_connection_error() -> None:
    outcome: list[BaseException] = []

    async def serve(media_socket: MediaSocket) -> None:
        assert await media_socket.receive() is None
        for _ in range(2):
            try:
                await media_socket.send("too late")
            except ConnectionError as error:
                outcome.append(error)
        await media_socket.close()
        await media_socket.close()

    keeper = Doorkeeper(serve)
    async with served(keeper) as url:
        async with enter(f"{url}/right"):
            pass
        async with asyncio.timeout(5):
            await keeper.served.wait()
    assert len(outcome) == 2


async def test_closing_from_our_side() -> None:
    async def serve(media_socket: MediaSocket) -> None:
        await media_socket.send("bye")
        await media_socket.close()
        await media_socket.close()

    keeper = Doorkeeper(serve)
    async with served(keeper) as url, enter(f"{url}/right") as carrier, asyncio.timeout(5):
        assert await carrier.recv() == "bye"
        await closed(carrier)


async def test_a_carrier_that_stops_reading_does_not_hold_us_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backend.web.media._SEND_TIMEOUT_S", 0.1)
    outcome: list[BaseException] = []

    async def serve(media_socket: MediaSocket) -> None:
        try:
            while True:
                await media_socket.send("x" * 100_000)
        except ConnectionError as error:
            outcome.append(error)
        await media_socket.close()

    keeper = Doorkeeper(serve)
    async with served(keeper) as url, enter(f"{url}/right") as carrier:
        carrier.transport.pause_reading()
        async with asyncio.timeout(5):
            await keeper.served.wait()
        assert "media socket" in str(outcome[0])
        carrier.transport.abort()


async def test_a_real_call_over_the_real_socket() -> None:
    talker = agent(
        {"id": "ask", "say": "Shall we?", "transitions": [{"to": "bye", "when": {"digits": "1"}}]},
        {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]},
    )
    async with house(talker) as h, served(h.manager) as url:
        h.carrier.react["start_streaming"] = lambda: None
        h.carrier.ring()
        await until(lambda: "start_streaming" in h.carrier.done)
        asked = h.carrier.last("start_streaming")
        token = asked["stream_url"].rsplit("/", 1)[1]
        with pytest.raises(InvalidStatus):
            async with enter(f"{url}/{token}", **{AUTH: "guessed"}):
                pass
        async with enter(f"{url}/{token}", **{AUTH: asked["auth_token"]}) as carrier:
            media_format = {"encoding": "PCMA", "sample_rate": 8000, "channels": 1}
            await carrier.send(json.dumps({"event": "connected", "version": "1.0.0"}))
            await carrier.send(json.dumps({"event": "start", "start": {"media_format": media_format}}))
            audio, marks = b"", []
            while len(marks) < 2:
                frame = json.loads(await carrier.recv())
                if frame["event"] == "media":
                    audio += base64.b64decode(frame["media"]["payload"])
                else:
                    marks.append(frame)
                    await carrier.send(json.dumps(frame))
            assert len(audio) >= 320
            await h.heard("Shall we?")
            await carrier.send(json.dumps({"event": "dtmf", "dtmf": {"digit": "1"}}))
            await closed(carrier)
        await h.calls_over()
        assert h.store.only.state == "ended"
        with pytest.raises(InvalidStatus):
            async with enter(f"{url}/{token}", **{AUTH: asked["auth_token"]}):
                pass
