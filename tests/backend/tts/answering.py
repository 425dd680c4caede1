"""A small HTTP server for looks at vendors: answers what it is told to, or never."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


@asynccontextmanager
async def server(answer: Callable[[str, str], tuple[int, object] | None]) -> AsyncIterator[str]:
    """HTTP on a free port; `answer(path, key)` → status and body; None: never. `key`: of either header."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            lines = (line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            headers = {name.lower(): value for name, value in lines}
            key = headers.get("authorization") or headers.get("xi-api-key", "")
            reply = answer(path, key)
            if reply is None:
                await reader.read()
                return
            status, told = reply
            body = told if isinstance(told, bytes) else json.dumps(told).encode()
            writer.write(
                b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(body))
            )
            writer.write(body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
