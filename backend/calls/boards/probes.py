"""Looks at speech vendors now and then, for nothing: what a look finds goes to the board.

Speech servers of one's own have looks of their own, in `backend.calls.boards.pods`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from backend.calls.boards.route_board import RouteBoard
from backend.core.health import RouteKey
from backend.core.urls import plain_url
from backend.errors import SpeechError, SpeechFailure

_JITTER = 0.2
_ALWAYS_SETTLED: frozenset[SpeechFailure] = frozenset({"unreachable"})


@dataclass(frozen=True, slots=True)
class Probe:
    """Something to look at. `look` returns a sentence for people, or raises SpeechError."""

    keys: tuple[RouteKey, ...]
    look: Callable[[], Awaitable[str]]
    voice: str = ""  # a look at this voice of theirs alone


class Probes:
    """Vendors and their voices. `run` must be running for them to be looked at."""

    def __init__(
        self,
        board: RouteBoard,
        probes: Callable[[], list[Probe]],
        clock: Callable[[], float],
        *,
        every_s: float = 300.0,
        when_down_s: float = 60.0,
        deadline_s: float = 10.0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`probes`: what there is to look at now, asked before every round."""
        self._board, self._probes, self._clock, self._chance = board, probes, clock, chance
        self._every_s, self._when_down_s, self._deadline_s = every_s, when_down_s, deadline_s
        # What a look has found wrong: another look may find that mended. What speech alone found, it may not,
        # as a vendor's account page has credit that a key is not allowed to use.
        self._found: dict[tuple[tuple[RouteKey, ...], str], SpeechFailure] = {}
        self.looked = asyncio.Event()
        """Set after the first round."""

    async def run(self) -> None:
        """Look at all of them, again and again, until cancelled."""
        while True:
            all_well = await self.look_at_all()
            self.looked.set()
            wait_s = self._every_s if all_well else self._when_down_s
            await asyncio.sleep(wait_s * (1 + _JITTER * (2 * self._chance() - 1)))

    async def look_at_all(self) -> bool:
        """One round; whether all were well."""
        probes, all_well = self._probes(), True
        wanted = {(probe.keys, probe.voice) for probe in probes}
        self._found = {what: reason for what, reason in self._found.items() if what in wanted}
        down: set[RouteKey] = set()
        for probe in probes:
            if not down.issuperset(probe.keys) and not await self._look(probe):
                # A vendor that does not answer is not asked for its voices, one by one.
                down.update(() if probe.voice else probe.keys)
                all_well = False
        return all_well

    async def _look(self, probe: Probe) -> bool:
        what, began_ms = (probe.keys, probe.voice), self._clock()
        try:
            async with asyncio.timeout(self._deadline_s):
                note = await probe.look()
        except TimeoutError:
            route = probe.keys[0]
            error = SpeechError(
                f"{plain_url(route.server)}: no answer in time", route=route.name, reason="timeout"
            )
            self._failed(probe, error)
            return False
        except SpeechError as error:
            self._failed(probe, error)
            return False
        found = self._found.pop(what, None)
        self._board.probed(
            *probe.keys,
            settles=_ALWAYS_SETTLED if found is None else _ALWAYS_SETTLED | {found},
            voice=probe.voice,
            round_trip_ms=self._clock() - began_ms,
            note=note,
        )
        return True

    def _failed(self, probe: Probe, error: SpeechError) -> None:
        self._found[(probe.keys, probe.voice)] = error.reason
        if probe.voice and str(error.reason) != "unknown_voice":
            return  # the look at the account itself says more
        hold_ms = (self._when_down_s * (1 + _JITTER) + 2 * self._deadline_s) * 1000
        self._board.probe_failed(*probe.keys, error=error, voice=probe.voice, hold_ms=hold_ms)
