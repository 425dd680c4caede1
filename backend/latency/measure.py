"""Measures: connects and speaks, again and again, one request at a time. Decides nothing but when to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, runtime_checkable

from backend.calls.ports import SpeechRoute
from backend.calls.speaking.synthesis import collect, for_the_line
from backend.core.speech import Sound
from backend.errors import SpeechError
from backend.latency.figures import Failed, Measured, Run
from backend.latency.subjects import Subject

_RUN_S = 30.0
_LEAST_S, _PER_RUN_S = 60.0, 10.0  # a route is given this long, or so long a run
_FAILURES_IN_A_ROW = 3


@runtime_checkable
class _TellsItsTime(Protocol):
    server_first_audio_ms: float | None


async def measure(
    subjects: Sequence[Subject],
    runs: int,
    into: list[Measured],
    *,
    clock: Callable[[], float],
    told: Callable[[Subject], None] = lambda subject: None,
    longest_s: float | None = None,
) -> None:
    """Measure one route after the other. Cancelled, it leaves in `into` what there is.

    `clock`: ms, monotonic. `told` of each route before it is measured. `longest_s`: for one route.
    """
    longest_s = max(_LEAST_S, _PER_RUN_S * runs) if longest_s is None else longest_s
    for subject in subjects:
        told(subject)
        measured = Measured(subject)
        into.append(measured)
        await _measure_route(measured, runs, clock, longest_s)


async def _measure_route(measured: Measured, runs: int, clock: Callable[[], float], longest_s: float) -> None:
    await _load(measured.subject)
    began_ms, in_a_row = clock(), 0
    for number in range(runs):
        if in_a_row == _FAILURES_IN_A_ROW:
            measured.stopped = f"given up after {in_a_row} failures in a row"
            return
        if number and clock() - began_ms > longest_s * 1000:
            measured.stopped = f"stopped after {longest_s:g} s"
            return
        try:
            measured.runs.append(await _run(measured.subject, clock))
            in_a_row = 0
        except SpeechError as error:
            measured.failed.append(Failed(error.reason, str(error)))
            in_a_row += 1


async def _load(subject: Subject) -> None:
    """Connect once beforehand: what Python loads on first use is no part of a connection."""
    with suppress(SpeechError, TimeoutError):  # the runs will tell
        async with subject.open() as route, asyncio.timeout(_RUN_S):
            await route.connect()


async def _run(subject: Subject, clock: Callable[[], float]) -> Run:
    """Raises SpeechError, also for what is no speech and for what takes too long."""
    async with subject.open() as route:
        try:
            async with asyncio.timeout(_RUN_S):
                began_ms = clock()
                await route.connect()
                connect_ms = clock() - began_ms
                sounds, first_chunk_ms, total_ms = await _speak(route, subject.text, clock)
        except TimeoutError as error:
            what = f"{subject.label} at {subject.server}: not finished within {_RUN_S:g} s"
            raise SpeechError(what, route=route.name, reason="timeout") from error
        await for_the_line(route, sounds)
        return Run(
            connect_ms,
            first_chunk_ms,
            total_ms,
            sum(sound.duration_ms for sound in sounds),
            sum(len(sound.data) for sound in sounds),
            route.server_first_audio_ms if isinstance(route, _TellsItsTime) else None,
        )


async def _speak(
    route: SpeechRoute, text: str, clock: Callable[[], float]
) -> tuple[list[Sound], float, float]:
    """→ the sound, ms to its first chunk, ms to its end."""
    came_ms: list[float] = []

    def heard(sound: Sound) -> None:
        if sound.data and not came_ms:
            came_ms.append(clock())

    began_ms = clock()
    sounds = await collect(route, text, heard=heard)
    total_ms = clock() - began_ms
    return sounds, came_ms[0] - began_ms if came_ms else total_ms, total_ms
