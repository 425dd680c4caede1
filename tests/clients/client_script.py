"""What the clients' scripts have in common. Each runs where its client is: Python's own library only."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

Answer = Callable[[dict[str, Any], dict[str, Any], Path], Awaitable[dict[str, Any]]]


def kept(sound: Path, pcm16: bytes) -> dict[str, Any]:
    """The answer of a client that spoke."""
    sound.write_bytes(pcm16)
    return {"sound": str(sound)}


def run(client: str, answer: Answer) -> None:
    """Answer the task on stdin: case by case, each with a file for its sound. The report is the last line."""
    asyncio.run(_report(client, answer))


async def _report(client: str, answer: Answer) -> None:
    task = json.load(sys.stdin)
    answers = {}
    for name, case in task["cases"].items():
        answers[name] = await answer(task, case, Path(task["folder"]) / name)
    print("\n" + json.dumps({"client": client, "version": version(client), "answers": answers}))
