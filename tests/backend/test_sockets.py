"""The client side of a WebSocket, against a real server."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import websockets
from websockets.asyncio.server import Request, Response, Server, ServerConnection, serve

from backend.sockets import dial, hang_up, unreachable


@asynccontextmanager
async def server(*, closes: bool = True) -> AsyncIterator[str]:
    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed() if closes else await asyncio.Event().wait()

    running: Server
    async with serve(handler, "127.0.0.1", 0, logger=logging.getLogger("tests.quiet")) as running:
        yield f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}"
        running.close(close_connections=True)


async def test_no_header_reaches_even_a_debug_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("tests.quiet").setLevel(logging.CRITICAL)
    async with server() as url:
        connection = await dial(url, headers={"xi-api-key": "canary"}, max_message_bytes=1000)
        assert connection.request is not None
        assert connection.request.headers["xi-api-key"] == "canary"
        await hang_up(connection)
    assert "canary" not in caplog.text


async def test_hanging_up_takes_no_longer_than_it_may() -> None:
    async with server() as url:
        connection = await dial(url, headers={}, max_message_bytes=1000, let_go_s=50)
        connection.transport.pause_reading()  # so that its goodbye is never read
        began_s = asyncio.get_running_loop().time()
        await hang_up(connection, 0.1)
        assert asyncio.get_running_loop().time() - began_s < 30
        assert connection.transport.is_closing()


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (ssl.SSLError(1, "certificate verify failed"), "no secure connection (TLS): "),
        (ConnectionRefusedError(111, "refused"), "cannot connect: "),
        (websockets.InvalidURI("x", "no scheme"), "cannot connect: "),
    ],
)
def test_why_there_is_no_connection(error: Exception, what: str) -> None:
    reason, said = unreachable(error)
    assert reason == "unreachable"
    assert said.startswith(what)


async def test_no_redirect_takes_a_key_to_another_host() -> None:
    given: list[str] = []

    async def other(connection: ServerConnection) -> None:
        assert connection.request is not None
        given.append(connection.request.headers.get("xi-api-key", ""))

    quiet = logging.getLogger("tests.quiet")
    async with serve(other, "127.0.0.1", 0, logger=quiet) as there:
        location = f"ws://localhost:{there.sockets[0].getsockname()[1]}/"

        def redirect(connection: ServerConnection, request: Request) -> Response:
            response = connection.respond(302, "there")
            response.headers["Location"] = location
            return response

        async with serve(other, "127.0.0.1", 0, process_request=redirect, logger=quiet) as here:
            url = f"ws://127.0.0.1:{here.sockets[0].getsockname()[1]}"
            with pytest.raises(websockets.InvalidStatus):
                await hang_up(await dial(url, headers={"xi-api-key": "canary"}, max_message_bytes=1000))
    assert given == []
