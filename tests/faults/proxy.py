"""A proxy before a speech server, written from the wire alone, that lets one sentence of a call go wrong.

It carries TCP as it comes; on `/ws/generate` it reads along, to know which sentence is under way and how
much of its sound has passed. After the one fault all is well again.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import websockets
from websockets.asyncio.server import ServerConnection

Kind = Literal["cut", "stall", "no_sound", "early", "error", "refused", "killed"]
"""`early`: no more sound, and then "done" as if that had been all. `no_sound`: the same from the begin."""
AWAY_S = {"refused": 0.5, "killed": 3.0}


@dataclass(frozen=True)
class Once:
    """The `sentence`-th request of the call (from 0) goes wrong once so much of its sound has passed."""

    kind: Kind
    sentence: int
    after_bytes: int = 0


@dataclass
class FaultProxy:
    """`url` is the speech server's, as a backend is told it. Use `open` and `close`."""

    server_port: int
    fault: Once | None = None
    struck: bool = False
    sound_bytes: list[int] = field(default_factory=list)
    """Of each request over the WebSocket, so far."""

    async def open(self) -> None:
        self._swallowing = self._failed_here = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._sockets = await websockets.serve(self._relay, "127.0.0.1", 0, compression=None)
        self._inner_port = next(iter(self._sockets.sockets)).getsockname()[1]
        self._front = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self._port = self._front.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def close(self) -> None:
        self._front.close()
        self._abort_all()
        for task in self._tasks:
            task.cancel()
        self._sockets.close(close_connections=True)
        await asyncio.gather(self._sockets.wait_closed(), *self._tasks, return_exceptions=True)

    # --- TCP ---------------------------------------------------------------------------------------------

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            head = await reader.readuntil(b"\r\n")
            port = self._inner_port if head.startswith(b"GET /ws/") else self.server_port
            there, back = await asyncio.open_connection("127.0.0.1", port)
            self._writers.add(back)
            back.write(head)
            await asyncio.wait(
                {asyncio.create_task(_pump(reader, back)), asyncio.create_task(_pump(there, writer))}
            )
            self._writers.discard(back)
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            self._writers.discard(writer)

    def _abort_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _go_away(self, for_s: float) -> None:
        """Nobody listens any more; later, somebody does."""
        self._front.close()
        self._abort_all()
        await asyncio.sleep(for_s)
        self._front = await asyncio.start_server(self._carry, "127.0.0.1", self._port)

    # --- the WebSocket -----------------------------------------------------------------------------------

    async def _relay(self, client: ServerConnection) -> None:
        headers = {"Authorization": client.request.headers.get("Authorization", "")} if client.request else {}
        address = f"ws://127.0.0.1:{self.server_port}/ws/generate"
        async with websockets.connect(address, additional_headers=headers, compression=None) as server:
            ways = {
                asyncio.create_task(self._requests(client, server)),
                asyncio.create_task(self._answers(client, server)),
            }
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)

    async def _requests(self, client: ServerConnection, server: websockets.ClientConnection) -> None:
        with suppress(websockets.ConnectionClosed):
            async for message in client:
                if "text" in json.loads(message):
                    self.sound_bytes.append(0)
                    if self._is_due(0):
                        await self._strike(client)
                await server.send(message)

    async def _answers(self, client: ServerConnection, server: websockets.ClientConnection) -> None:
        with suppress(websockets.ConnectionClosed):
            async for message in server:
                if isinstance(message, bytes):
                    if self._is_due(self.sound_bytes[-1] + len(message)):
                        await self._strike(client)
                    if self._swallowing:
                        continue
                    self.sound_bytes[-1] += len(message)
                elif self._failed_here and self._swallowing:  # an error was sent in place of this end
                    self._swallowing = self._failed_here = False
                    continue
                else:
                    self._swallowing = False
                await client.send(message)

    def _is_due(self, sound_bytes: int) -> bool:
        fault = self.fault
        if fault is None or self.struck or len(self.sound_bytes) - 1 != fault.sentence:
            return False
        return sound_bytes >= fault.after_bytes

    async def _strike(self, client: ServerConnection) -> None:
        assert self.fault is not None
        self.struck = True
        match self.fault.kind:
            case "cut":
                client.transport.abort()
            case "stall":
                await client.wait_closed()
            case "no_sound" | "early":
                self._swallowing = True
            case "error":
                self._swallowing = self._failed_here = True
                await client.send(json.dumps({"error": "generation_failed", "message": "it went wrong"}))
            case "refused" | "killed":
                task = asyncio.create_task(self._go_away(AWAY_S[self.fault.kind]))
                self._tasks.add(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError, RuntimeError):
        writer.close()
