"""The Sesame speech servers of this process: looked at every few seconds, and calls spread over them.

What a look finds goes to the board; which server a call goes to is decided in `backend.core.pods`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field

from backend.calls.boards.route_board import RouteBoard
from backend.core.health import RouteKey
from backend.core.pods import Pod, PodReport, pick
from backend.core.speech import RouteName
from backend.errors import SpeechError, SpeechFailure

log = logging.getLogger(__name__)

ROUTES: tuple[RouteName, ...] = ("sesame_ws", "sesame_rest")
"""The routes that lead to these servers."""
_SETTLED: frozenset[SpeechFailure] = frozenset({"unreachable", "not_ready", "unauthorized"})
_JITTER = 0.2
_RECENT_MS = 60_000.0  # after so long a third of a call is left in the count of recent ones


@dataclass(slots=True)
class _Seen:
    """What is known of one server."""

    url: str
    report: PodReport | None = None
    problem: SpeechError | None = None  # what the last look found wrong
    told: str = ""  # what was last logged of it
    round_trip_ms: float = math.inf
    failures: int = 0  # looks in a row
    recent: float = 0.0
    recent_at_ms: float = 0.0
    looked: asyncio.Event = field(default_factory=asyncio.Event)


class Pods:
    """Several speech servers, or one. `run` must be running for them to be looked at."""

    def __init__(
        self,
        urls: Sequence[str],
        look: Callable[[str], Awaitable[PodReport]],
        board: RouteBoard,
        clock: Callable[[], float],
        *,
        every_s: float = 5.0,
        slowest_s: float = 15.0,
        deadline_s: float = 4.0,
        chance: Callable[[], float] = random.random,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """`look`: asks one server, raising SpeechError. `clock`: ms, monotonic. One that does not answer is
        asked ever more seldom, up to every `slowest_s`. None is asked unless `wanted`, by any agent."""
        self._seen = {url: _Seen(url) for url in urls}
        self._look, self._board, self._clock, self._chance = look, board, clock, chance
        self._every_s, self._slowest_s, self._deadline_s = every_s, slowest_s, deadline_s
        self._wanted = wanted

    @property
    def urls(self) -> tuple[str, ...]:
        """All of them, in the order they were given."""
        return tuple(self._seen)

    def choose(self, route: RouteName, exclude: Collection[str] = (), *, count: bool = True) -> str | None:
        """The server for a call that is to speak by this route; None when all are excluded.

        A server is given even when none works: it may by the time it is asked. `count`: the call will speak
        there; False for one kept in reserve.
        """
        now_ms = self._clock()
        pods = [self._pod(seen, route, now_ms) for seen in self._seen.values() if seen.url not in exclude]
        chosen = pick(pods, self._chance)
        if chosen is None:
            return None
        if count:
            seen = self._seen[chosen.url]
            seen.recent, seen.recent_at_ms = chosen.recent + 1, now_ms
        return chosen.url

    def report(self, url: str) -> PodReport | None:
        """What a server said of itself when it was last looked at; None when it did not answer."""
        seen = self._seen.get(url)
        return None if seen is None else seen.report

    def problem(self, url: str) -> SpeechError | None:
        """What was wrong with a server when it was last looked at."""
        seen = self._seen.get(url)
        return None if seen is None else seen.problem

    async def looked(self) -> None:
        """Returns once every server was looked at."""
        for seen in self._seen.values():
            await seen.looked.wait()

    async def run(self) -> None:
        """Look at every server, again and again, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for seen in self._seen.values():
                tasks.create_task(self._watch(seen), name=f"watch {seen.url}")
            tasks.create_task(self._say_what_was_found(), name="speech servers found")

    # --- looking ---------------------------------------------------------------------------------------

    async def _watch(self, seen: _Seen) -> None:
        while True:
            wait_s = await self._look_at(seen) if self._wanted() else self._every_s
            seen.looked.set()
            await asyncio.sleep(wait_s)

    async def _look_at(self, seen: _Seen) -> float:
        """One look; how many seconds until the next."""
        began_ms = self._clock()
        try:
            async with asyncio.timeout(self._deadline_s):
                report = await self._look(seen.url)
        except TimeoutError:
            return self._missed(seen, self._error("timeout", seen.url))
        except SpeechError as error:
            return self._missed(seen, error)
        round_trip_ms = self._clock() - began_ms
        before_ms = seen.round_trip_ms
        seen.round_trip_ms = round_trip_ms if math.isinf(before_ms) else (before_ms + round_trip_ms) / 2
        seen.report, seen.problem, seen.failures = report, None, 0
        self._tell(seen, report)
        settles = _SETTLED if report.full else _SETTLED | {"busy"}
        streams = None if report.capacity is None else (report.free or 0, report.capacity)
        self._board.probed(
            *_keys(seen.url),
            settles=settles,
            round_trip_ms=round_trip_ms,
            note=_note(report),
            streams=streams,
        )
        return self._jittered(self._every_s)

    def _missed(self, seen: _Seen, error: SpeechError) -> float:
        seen.failures += 1
        if seen.failures > 1 and error.reason == "timeout":
            # Once may be a hiccup.
            error = self._error("unreachable", seen.url)
        seen.problem = error
        if error.reason != "timeout":
            seen.report = None
        wait_s = self._jittered(min(self._slowest_s, self._every_s * 2 ** min(seen.failures - 1, 16)))
        # Not tried by calls before it was looked at again.
        self._board.probe_failed(*_keys(seen.url), error=error, hold_ms=(wait_s + self._deadline_s) * 1000)
        return wait_s

    def _jittered(self, wait_s: float) -> float:
        """Not all processes and servers in step."""
        return wait_s * (1 + _JITTER * (2 * self._chance() - 1))

    def _error(self, reason: SpeechFailure, url: str) -> SpeechError:
        what = f"no answer within {self._deadline_s:g} s"
        return SpeechError(f"Sesame speech server at {url}: {what}", route="sesame", reason=reason)

    # --- telling ---------------------------------------------------------------------------------------

    def _tell(self, seen: _Seen, report: PodReport) -> None:
        said = _introduced(report)
        if said == seen.told:
            return
        seen.told = said
        log.info("speech server %s: %s", seen.url, said)
        if report.engine == "preview":
            log.warning("speech server %s speaks with the preview voice, not CSM", seen.url)
        if report.unbound_speakers:
            log.warning("speech server %s: %s", seen.url, _unbound(report.unbound_speakers))

    async def _say_what_was_found(self) -> None:
        await self.looked()
        if self._seen and self._wanted() and not any(seen.report for seen in self._seen.values()):
            answers = any(_answers(seen.problem) for seen in self._seen.values())
            log.warning(
                "no speech server %s at %s: until one does, agents speak by their tts_fallbacks, and what is "
                "prepared; %s",
                "lets us speak" if answers else "answers",
                ", ".join(self._seen),
                "the lines above say why"
                if answers
                else "start one (sesame-server), or correct SESAME_SELF_HOSTED_URL",
            )

    def _pod(self, seen: _Seen, route: RouteName, now_ms: float) -> Pod:
        recent = seen.recent * math.exp(-max(0.0, now_ms - seen.recent_at_ms) / _RECENT_MS)
        usable = self._board.allows(RouteKey(route, seen.url))
        return Pod(seen.url, usable, seen.report, seen.round_trip_ms, recent)


def _keys(url: str) -> list[RouteKey]:
    return [RouteKey(name, url) for name in ROUTES]


def _answers(problem: SpeechError | None) -> bool:
    return problem is not None and problem.reason in ("unauthorized", "not_ready")


def _introduced(report: PodReport) -> str:
    engine = f"engine {report.engine}" if report.engine else "an engine it does not name"
    device = f" on {report.device}" if report.device else ""
    streams = f", {report.capacity} streams" if report.capacity is not None else ""
    degraded = ", degraded" if report.state == "degraded" else ""
    bare = _listed(report.unbound_speakers or ())
    return f"{engine}{device}{streams}{degraded}{f', no voice for speaker {bare}' if bare else ''}"


def _note(report: PodReport) -> str:
    """A sentence for the health page."""
    parts = ["works"]
    if report.state == "degraded":
        parts = ["answers, and failed several times lately: look at its log"]
    if report.capacity is not None:
        parts.append(f"{report.free} of {report.capacity} streams free")
    if report.waiting:
        parts.append(f"{report.waiting} requests wait")
    if report.full:
        parts.append("full: add a server, or let it take more")
    if report.engine == "preview":
        parts.append("speaks with the preview voice")
    if report.unbound_speakers:
        parts.append(_unbound(report.unbound_speakers))
    return "; ".join(parts)


def _unbound(speakers: Sequence[int]) -> str:
    return (
        f"no voice is bound to speaker {_listed(speakers)}: each answer sounds like a different person; "
        "look at VOICES_DIR there"
    )


def _listed(speakers: Sequence[int]) -> str:
    return ", ".join(str(speaker) for speaker in speakers)
