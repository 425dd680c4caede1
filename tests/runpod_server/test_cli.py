"""The server as its user starts it: a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import websockets

from runpod_server.app import listen

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0


@asynccontextmanager
async def process(*arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    surroundings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOST": "127.0.0.1", "PORT": "0"}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "runpod_server", *arguments,
        env=surroundings | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def read_until(child: asyncio.subprocess.Process, pattern: str) -> re.Match[str]:
    assert child.stderr is not None
    async for line in child.stderr:
        if found := re.search(pattern, line.decode()):
            return found
    raise AssertionError(f"the server ended without saying {pattern!r}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_serves_until_the_signal_then_closes_with_1001(number: signal.Signals) -> None:
    async with process("serve", "--engine", "preview") as child:
        port = (await read_until(child, r"http://127\.0\.0\.1:(\d+)"))[1]
        await read_until(child, "loaded and warm")
        async with websockets.connect(f"ws://127.0.0.1:{port}/ws/generate", compression=None) as socket:
            await socket.send(json.dumps({"text": "Hello.", "speaker_id": 0}))
            assert len(await socket.recv()) == 1920 * 2
            child.send_signal(number)
            with pytest.raises(websockets.ConnectionClosed):
                while True:
                    await socket.recv()
            assert socket.close_code == 1001
        _, said = await child.communicate()
        assert child.returncode == 0
        assert b"Traceback" not in said


async def test_the_preview_voice_is_announced_loudly() -> None:
    async with process() as child:
        assert await read_until(child, r"WARNING .*PREVIEW VOICE")


async def test_a_taken_port_is_one_sentence_and_a_failure() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        async with process("serve", "--port", port) as child:
            _, said = await child.communicate()
        assert child.returncode == 1
        assert said.decode().startswith(f"speech server: port {port} on 127.0.0.1 is in use")
        assert b"Traceback" not in said


@pytest.mark.parametrize(
    "environment, sentence",
    [({"ENGINE": "csm"}, "ENGINE=csm: this version has no CSM engine yet"), ({"PORT": "x"}, "PORT='x'")],
)
async def test_what_cannot_start_says_why(environment: dict[str, str], sentence: str) -> None:
    async with process(**environment) as child:
        _, said = await child.communicate()
    assert child.returncode == 1
    assert sentence in said.decode()
    assert b"Traceback" not in said
