"""Work that goes on as long as the process does: a bug in it neither ends it nor stays unseen."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

PAUSE_S = 5.0
_TOLD_FOR_S = 60.0
_AGAIN_WITHIN_S = 3600.0  # failures further apart are two mishaps, not one that lasts
_WELL_AFTER = 2.0  # times as long as it ran before it failed again


@dataclass(frozen=True, slots=True)
class _Failure:
    """How some work failed last. `times`: in a row, without having been well in between."""

    said: str
    times: int
    told_until_s: float


class Supervisor:
    """Keeps background work running and remembers what failed lately. One a process."""

    def __init__(
        self,
        failed: Callable[[str], None] = lambda name: None,
        *,
        pause_s: float = PAUSE_S,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`failed` is told the name of what failed, each time: for counting."""
        self._count, self._pause_s, self._clock_s = failed, pause_s, clock_s
        self._failures: dict[str, _Failure] = {}

    async def keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run it until cancelled: whenever it raises or ends, it begins anew after a pause."""
        while True:
            began_s = self._clock_s()
            try:
                await run()
            except asyncio.CancelledError as error:
                if (task := asyncio.current_task()) is None or task.cancelling():
                    raise
                self._failed(name, error, began_s)  # something it waited for was cancelled, not this
            except Exception as error:
                self._failed(name, error, began_s)
            await asyncio.sleep(self._pause_s)

    def problems(self) -> list[str]:
        """What has failed within the last minute, or fails again and again: a sentence each."""
        now_s = self._clock_s()
        return [
            f"Background work failed and was started anew: {name} ({failure.said}{_often(failure.times)}). "
            "Look at the log."
            for name, failure in self._failures.items()
            if now_s <= failure.told_until_s
        ]

    def _failed(self, name: str, error: BaseException, began_s: float) -> None:
        log.error("%s failed; it begins anew in %g s", name, self._pause_s, exc_info=error)
        now_s, before = self._clock_s(), self._failures.get(name)
        ran_s, told_for_s, times = now_s - began_s, _TOLD_FOR_S, 1
        if before is not None and ran_s <= _AGAIN_WITHIN_S:
            # It is well again when it has run for longer than it ever does before it fails.
            told_for_s, times = max(told_for_s, _WELL_AFTER * ran_s), before.times + 1
        self._failures[name] = _Failure(f"{type(error).__name__}: {error}", times, now_s + told_for_s)
        self._count(name)


def _often(times: int) -> str:
    return f"; {times} times" if times > 1 else ""
