"""One measurement as a user asks for it: what to measure, the table, the picture, the line for machines."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from backend.core.agent import Agent
from backend.errors import ConfigError
from backend.extras import install_command
from backend.latency.figures import Measured
from backend.latency.measure import measure
from backend.latency.subjects import Choice, choose, route_names
from backend.latency.table import print_measured, print_subject
from backend.settings import Settings

MOST_RUNS = 1_000


async def run_latency(
    console: Console,
    settings: Settings,
    agents: Sequence[Agent],
    *,
    agent: Agent | None,
    routes: Sequence[str],
    runs: int,
    text: str,
    out: Path,
    as_json: bool,
) -> int:
    """Measure and tell. → exit status: 0; 1 when a run failed; 130 interrupted, having told what there is.

    Raises ConfigError, with a sentence, for what cannot be measured.
    """
    if not 1 <= runs <= MOST_RUNS:
        raise ConfigError(f"--runs {runs}: give a number from 1 to {MOST_RUNS}")
    choice = await choose(settings, agents, text, agent=agent, names=route_names(routes))
    made = _writable(out)
    console.print(f"[dim]“{escape(text)}”, {runs} runs a route, one request at a time[/]", soft_wrap=True)
    found: list[Measured] = []
    interrupted = False
    try:
        await measure(
            choice.subjects, runs, found, clock=_now_ms, told=lambda subject: print_subject(console, subject)
        )
    except asyncio.CancelledError:
        interrupted = True
    found = [measured for measured in found if measured.count]
    print_measured(console, found, choice.not_configured, runs)
    picture = _draw(console, found, text, out)
    if made and picture is None:
        _remove(out)
    if interrupted:
        console.print("[bold]Interrupted: this is what there is so far.[/]")
    if as_json:
        print(_as_json(found, choice, text, runs, picture, interrupted), flush=True)
    return 130 if interrupted else int(any(measured.failed for measured in found))


def _now_ms() -> float:
    return time.perf_counter() * 1000


def _remove(empty: Path) -> None:
    empty.rmdir()


def _writable(out: Path) -> bool:
    """Whether the folder was made just now."""
    there = out.is_dir()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: no folder can be made there: {error.strerror}") from error
    return not there


def _draw(console: Console, found: Sequence[Measured], text: str, out: Path) -> Path | None:
    if not found:
        return None
    if find_spec("matplotlib") is None:
        why = f"no picture: Matplotlib is not installed here; {install_command('local')}"
        console.print(f"[yellow]![/] {escape(why)}", soft_wrap=True)
        return None
    # It takes half a second to import, which must not fall into what is measured.
    from backend.latency.plot import draw_latency

    path = out / "latency.png"
    try:
        draw_latency(found, f"Speech routes, {len(text)} characters", path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    console.print(f"\n{escape(str(path))}", soft_wrap=True)
    return path


def _as_json(
    found: Sequence[Measured],
    choice: Choice,
    text: str,
    runs: int,
    picture: Path | None,
    interrupted: bool,
) -> str:
    return json.dumps(
        {
            "benchmark": "latency",
            "text": text,
            "runs": runs,
            "cpu_count": os.cpu_count(),
            "load_1min": round(os.getloadavg()[0], 2),
            "python": platform.python_version(),
            "routes": [measured.as_json() for measured in found],
            "not_configured": choice.not_configured,
            "picture": None if picture is None else str(picture),
            "interrupted": interrupted,
        }
    )
