from __future__ import annotations

import json
from contextlib import AsyncExitStack

import pytest
import websockets


@pytest.mark.parametrize(
    "limits, says",
    [({"max_connections": 2}, "all 2 connections"), ({"max_connections_per_client": 2}, "this client")],
)  # fmt: skip
async def test_one_connection_too_many_is_closed_with_1013(start, commanded, heard, limits, says) -> None:
    server = start(commanded({}), **limits)
    async with server.connect() as first, server.connect("/ws/tts"):
        async with server.connect() as refused:
            with pytest.raises(websockets.ConnectionClosed):
                await refused.recv()
            assert refused.close_code == 1013
            assert says in refused.close_reason
        await first.send(json.dumps({"text": "Hello."}))
        assert (await heard(first)).reply["done"] is True
    async with server.client() as http:
        while "sesame_connections 0.0" not in (await http.get("/metrics")).text:
            pass
    async with server.connect() as again:
        await again.send(json.dumps({"text": "Hello."}))
        assert (await heard(again)).reply["done"] is True


async def test_all_of_many_are_told_that_the_server_goes(start) -> None:
    server = start()
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(server.connect()) for _ in range(40)]
        server.stop()
        for socket in sockets:
            with pytest.raises(websockets.ConnectionClosed):
                await socket.recv()
        assert {socket.close_code for socket in sockets} == {1001}
