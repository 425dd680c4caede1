"""Runs a plan: one number of streams after another, then the search for the largest."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Protocol

import numpy as np

from runpod_server.audio import SAMPLE_RATE_HZ, pcm16_from_float, wav
from runpod_server.bench import meters
from runpod_server.bench.figures import LoadFigures
from runpod_server.bench.load import Observed, observe
from runpod_server.bench.plan import MOST_STREAMS, Load, Plan
from runpod_server.bench.report import Level, Report
from runpod_server.bench.script import Script, text_lasting
from runpod_server.bench.search import largest, next_to_try
from runpod_server.bench.target import ServerTarget
from runpod_server.voices.store import VoiceStore

Tell = Callable[[str], None]

_LIBRARIES = ("torch", "transformers")
_CHARS_PER_TOKEN = 4


class Levels(Protocol):
    """Whatever can measure a number of streams."""

    def prepare(self) -> None:
        """What is measured once."""

    def measure(self, level: Level, loads: tuple[Load, ...]) -> None:
        """Fill the level in; `failure` where it could not be measured to its end."""


def run(plan: Plan, levels: Levels, report: Report) -> None:
    """All of the plan. The first level that fails, as for want of memory, is the last but for the search.

    Whatever else is raised, the report has what was found until then.
    """
    levels.prepare()

    def measure(streams: int, loads: tuple[Load, ...]) -> Level:
        level = Level(streams)
        report.levels.append(level)
        levels.measure(level, loads)
        level.load_average = meters.load_average()
        if level.holds(plan.first_audio_ms) is None:
            report.note(
                f"{level.name}, steady: nothing was asked for within {plan.seconds:g} s, so whether it "
                "holds is not told; watch for longer: --seconds"
            )
        return level

    for streams in plan.streams:
        level = measure(streams, plan.loads)
        if level.failure:
            report.failure = f"{level.name}: {level.failure}"
            break
    while plan.find_largest:
        told = {level.streams: level.holds(plan.first_audio_ms) for level in report.levels}
        if None in told.values():
            break  # a search would take it for a number that does not hold
        held = {streams: bool(holds) for streams, holds in told.items()}
        following = next_to_try(held, most=MOST_STREAMS)
        if following is None:
            report.largest = largest(held)
            break
        measure(following, ("steady",))


class OverTheNetwork:
    """A running server, by its WebSocket: what its clients meet with, and nothing of its machine.

    `measure` raises ClientError.
    """

    def __init__(self, plan: Plan, url: str, api_key: str | None, report: Report, tell: Tell) -> None:
        self._plan, self._url, self._api_key = plan, url, api_key
        self._report, self._tell = report, tell

    def prepare(self) -> None:
        self._report.note("measured at the client: nothing of the server's steps, memory or energy")

    def measure(self, level: Level, loads: tuple[Load, ...]) -> None:
        for load in loads:
            observed = asyncio.run(self._observe(level, load))
            figures = LoadFigures.of(observed, plays=load != "flat-out", in_process=False)
            level.loads[load] = figures
            if figures.why_declined:
                self._report.note(f"{level.name}, {load}: {figures.why_declined}")

    async def _observe(self, level: Level, load: Load) -> Observed:
        # Said on the event loop: Ctrl-C may be pressed from then on, and the loop is there to take it.
        plan = self._plan
        self._tell(f"{level.name}, {load}: {plan.seconds:g} s, after the load has set in")
        return await observe(
            ServerTarget(self._url, self._api_key), load, level.streams, Script(plan.utterance_ms),
            mean_ms=plan.utterance_ms, seconds=plan.seconds,
        )  # fmt: skip


def machine(device: str | None, *, threads: int | None) -> dict[str, object]:
    """Where it was measured, for whoever reads the figures later."""
    versions = {name: f"{name} {metadata.version(name)}" for name in _LIBRARIES if threads is not None}
    return {
        "device": device,
        "processor": meters.processor_name() or platform.machine(),
        "cores": f"{meters.cores()} cores",
        "threads": None if threads is None or device else f"{threads} thread{'s' * (threads != 1)}",
        "python": f"Python {platform.python_version()}",
        **versions,
    }


def keep_noise(folder: Path, seconds: float) -> None:
    """Make a voice in the folder: noise for so long, for a prefix as long as a real voice's."""
    count = round(seconds * SAMPLE_RATE_HZ)
    samples = 0.1 * np.random.default_rng(0).standard_normal(count).astype(np.float32)
    transcript = text_lasting(round(1000 * seconds), _CHARS_PER_TOKEN)
    VoiceStore.open(folder).put("bench", wav(pcm16_from_float(samples)), transcript, speaker_id=0)
