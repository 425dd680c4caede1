"""Callers in numbers, on the event loop: they ask, listen, and note when what came.

`flat-out`: N callers, each asking anew as soon as an utterance is made: N streams speak at any time.
`steady`: N callers in real time, each asking anew when it has played an utterance to its end.
`poisson`: callers who come by chance, for one utterance each, so many that N are listening on average.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from runpod_server.audio import SAMPLE_RATE_HZ, samples_in
from runpod_server.bench.plan import Load
from runpod_server.bench.playout import Playout
from runpod_server.bench.script import LONGEST, Script, poisson_gaps
from runpod_server.bench.target import Caller, Target
from runpod_server.errors import Declined, SpeechError

_RETRY_S = 0.25  # a caller who was declined asks again after so long


@dataclass(slots=True, eq=False)
class Listening:
    """One utterance at its caller."""

    wanted_ms: int
    playout: Playout
    declined: str = ""  # the code of the answer
    why: str = ""
    is_over: bool = False
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # a first sound, or there will be none


@dataclass(frozen=True, slots=True)
class Observed:
    """What was heard. The window is what counts; before it the load set in."""

    start_ms: float
    end_ms: float
    cpu_s: float  # of this process, in the window
    listenings: tuple[Listening, ...]
    chunks: tuple[tuple[float, float], ...]  # (when, ms of sound) of all callers

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return (self.end_ms - self.start_ms) / 1000


class _Callers:
    def __init__(self, target: Target, script: Script) -> None:
        self._target, self._script = target, script
        self.listenings: list[Listening] = []
        self.chunks: list[tuple[float, float]] = []
        self.first_sounds = asyncio.Semaphore(0)  # released by every utterance once

    async def again_and_again(self, start_s: float, *, play: bool) -> None:
        """A caller who never hangs up. `play`: it listens to the end before it asks anew."""
        await asyncio.sleep(start_s)
        async with self._target.caller() as caller:
            while True:
                heard = await self._listen(caller)
                if play:
                    await asyncio.sleep((heard.playout.ends_ms - now_ms()) / 1000)

    async def once(self) -> None:
        """A caller with one question."""
        async with self._target.caller() as caller:
            await self._listen(caller)

    async def _listen(self, caller: Caller) -> Listening:
        utterance = self._script.next()
        heard = Listening(utterance.audio_ms, Playout(now_ms()))
        self.listenings.append(heard)
        try:
            async with aclosing(caller.ask(utterance)) as pieces:  # whose end frees the slot
                async for piece in pieces:
                    arrived_ms, audio_ms = now_ms(), 1000 * samples_in(piece) / SAMPLE_RATE_HZ
                    heard.playout.hear(audio_ms, arrived_ms)
                    self._settle(heard)
                    self.chunks.append((arrived_ms, audio_ms))
            heard.is_over = True
        except (SpeechError, Declined) as error:
            heard.declined, heard.why = error.code, str(error)
            self._settle(heard)
            await asyncio.sleep(_RETRY_S)
        self._settle(heard)
        return heard

    def _settle(self, heard: Listening) -> None:
        if not heard.settled.is_set():
            heard.settled.set()
            self.first_sounds.release()


def now_ms() -> float:
    """The clock of every time measured here."""
    return 1000 * time.monotonic()


async def observe(
    target: Target, load: Load, streams: int, script: Script, *, mean_ms: int, seconds: float
) -> Observed:
    """Put the load on, let it set in, watch for `seconds`, and take it off.

    Who asked in the window and has heard nothing at its end is listened to for as long again at most.
    Raises ClientError when there is no server, or none any more.
    """
    callers = _Callers(target, script)
    try:
        async with asyncio.TaskGroup() as tasks:
            driving = tasks.create_task(_drive(callers, load, streams, mean_ms / 1000))
            await _set_in(callers, load, streams, mean_ms, seconds)
            start_ms, start_cpu_s = now_ms(), time.process_time()
            await asyncio.sleep(seconds)
            end_ms, end_cpu_s = now_ms(), time.process_time()
            asked = [each for each in callers.listenings if start_ms <= each.playout.asked_ms < end_ms]
            await _settled(asked, seconds)
            driving.cancel()
    except BaseExceptionGroup as group:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError from group  # what failed while we were being stopped is no finding
        raise _first(group) from group
    return Observed(
        start_ms, end_ms, end_cpu_s - start_cpu_s, tuple(callers.listenings), tuple(callers.chunks)
    )


async def _drive(callers: _Callers, load: Load, streams: int, mean_s: float) -> None:
    async with asyncio.TaskGroup() as tasks:
        if load == "poisson":
            # Bounded by the engine, which declines whom it has neither a slot nor a place in its queue for.
            for gap_s in poisson_gaps(streams / mean_s):
                await asyncio.sleep(gap_s)
                tasks.create_task(callers.once())
        for caller in range(streams):
            # In real time they begin one after another, as callers do; flat out all are there at once.
            start_s = mean_s * caller / streams if load == "steady" else 0.0
            tasks.create_task(callers.again_and_again(start_s, play=load == "steady"))


async def _set_in(callers: _Callers, load: Load, streams: int, mean_ms: int, seconds: float) -> None:
    """Until every caller is there and, flat out, hears something; that no longer than `seconds`."""
    if load != "flat-out":
        await asyncio.sleep(LONGEST * mean_ms / 1000)  # from then on callers leave as they come
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            for _ in range(streams):
                await callers.first_sounds.acquire()


async def _settled(listenings: Sequence[Listening], most_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(most_s):
            for each in listenings:
                await each.settled.wait()


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
