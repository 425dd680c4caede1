"""Work that goes on as long as the process does: a bug in it neither ends it nor stays unseen."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

PAUSE_S = 5.0
_TOLD_FOR_S = 60.0


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
        self._failures: dict[str, tuple[float, str]] = {}

    async def keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run it until cancelled: whenever it raises or ends, it begins anew after a pause."""
        while True:
            try:
                await run()
            except Exception as error:
                log.exception("%s failed; it begins anew in %g s", name, self._pause_s)
                self._failures[name] = (self._clock_s(), f"{type(error).__name__}: {error}")
                self._count(name)
            await asyncio.sleep(self._pause_s)

    def problems(self) -> list[str]:
        """What has failed within the last minute, a sentence each."""
        since_s = self._clock_s() - _TOLD_FOR_S
        return [
            f"Background work failed and was started anew: {name} ({said}). Look at the log."
            for name, (at_s, said) in self._failures.items()
            if at_s >= since_s
        ]
