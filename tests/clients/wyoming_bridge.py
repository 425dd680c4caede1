"""wyoming-openai, the bridge for Home Assistant, in a process of its own, asked as Home Assistant asks.

Run by the environment that has it: a task on stdin, answers on stdout.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from client_script import kept, run
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.info import Describe, Info
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

START_DEADLINE_S = 60


@asynccontextmanager
async def bridge(task: dict[str, Any], options: list[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wyoming_openai", "--uri", f"tcp://127.0.0.1:{port}", "--languages", "en",
        "--tts-openai-url", task["base_url"], "--tts-openai-key", task["api_key"], *options,
        stdout=asyncio.subprocess.DEVNULL, stderr=None,
    )  # fmt: skip
    try:
        async with asyncio.timeout(START_DEADLINE_S):
            await until_it_listens(process, port)
        yield port
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def until_it_listens(process: asyncio.subprocess.Process, port: int) -> None:
    while True:
        if process.returncode is not None:
            raise SystemExit(f"wyoming_openai ended with {process.returncode}")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return


async def answer(task: dict[str, Any], case: dict[str, Any], sound: Path) -> dict[str, Any]:
    async with bridge(task, case["options"]) as port, AsyncTcpClient("127.0.0.1", port) as client:
        await client.write_event(Describe().event())
        info = Info.from_event(await client.read_event())
        voices = [voice.name for program in info.tts for voice in program.voices]
        if "text" not in case and "pieces" not in case:
            return {"voices": voices}
        for event in asked(case):
            await client.write_event(event)
        return {
            "voices": voices,
            **await heard(client, sound, ends_with=SynthesizeStopped if "pieces" in case else AudioStop),
        }


def asked(case: dict[str, Any]) -> list[Any]:
    voice = SynthesizeVoice(name=case["voice"])
    if "pieces" not in case:
        return [Synthesize(text=case["text"], voice=voice).event()]
    pieces = [SynthesizeChunk(text=piece).event() for piece in case["pieces"]]
    return [SynthesizeStart(voice=voice).event(), *pieces, SynthesizeStop().event()]


async def heard(client: AsyncTcpClient, sound: Path, ends_with: Any) -> dict[str, Any]:
    pcm16, formats = b"", set()
    while (event := await client.read_event()) is not None:
        if AudioStart.is_type(event.type):
            start = AudioStart.from_event(event)
            formats.add((start.rate, start.width, start.channels))
        elif AudioChunk.is_type(event.type):
            pcm16 += AudioChunk.from_event(event).audio
        elif Error.is_type(event.type):
            return {"message": Error.from_event(event).text}
        elif ends_with.is_type(event.type):
            break
    if formats != {(24000, 2, 1)}:
        return {"message": f"formats {sorted(formats)}"}
    return kept(sound, pcm16)


run("wyoming-openai", answer)
