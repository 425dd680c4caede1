"""An OpenAI-compatible transcription server on a real socket: hears with the local recogniser, or fails."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from backend.core.wav import WavReader
from backend.stt.local import LocalTranscriber


@dataclass
class Server:
    """`fault`: None | "silence" | "close" | "malformed" | "empty" | "endless" | a status | (status, body)."""

    url: str = ""
    fault: Any = None
    asked: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@asynccontextmanager
async def transcription_server(ears: LocalTranscriber | None = None) -> AsyncIterator[Server]:
    server = Server()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while await answer(reader, writer):
                    pass
        finally:
            writer.close()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
        assert head.startswith("POST /v1/audio/transcriptions "), head
        fields, audio = _form(headers["content-type"], head, body)
        server.asked.append(fields)
        server.headers.append(headers)
        server.came.set()
        status, told = 200, b""
        match server.fault:
            case "silence":
                await reader.read()
                server.gone.set()
                return False
            case "close":
                return False
            case "malformed":
                told = b"<html>hello</html>"
            case "empty":
                told = b'{"text": ""}'
            case "endless":
                told = b" " * (1 << 21)
            case int() as status:
                told = json.dumps({"error": {"message": f"because of {status}", "code": "some"}}).encode()
            case (status, body):
                told = json.dumps(body).encode()
            case _:
                wav = WavReader()
                pcm16 = wav.push(audio)
                assert wav.rate_hz == 8000
                text = await ears.transcribe(pcm16) if ears else "hello there"
                told = json.dumps({"text": f" {text}\n"}).encode()
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(told)) + told)
        await writer.drain()
        return True

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        tasks.add(task)

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _form(content_type: str, head: str, body: bytes) -> tuple[dict[str, str], bytes]:
    found = re.search(r"boundary=(\S+)", head)
    assert found, content_type
    fields: dict[str, str] = {}
    audio = b""
    for part in body.split(b"--" + found.group(1).encode())[1:-1]:
        about, _, content = part.partition(b"\r\n\r\n")
        name = re.search(rb'name="(\w+)"', about)
        assert name
        content = content.removesuffix(b"\r\n")
        if name.group(1) == b"file":
            audio = content
        else:
            fields[name.group(1).decode()] = content.decode()
    return fields, audio
