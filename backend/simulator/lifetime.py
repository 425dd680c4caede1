"""How long one call lasts, and the work under way in it: tasks it owns, waits that its end cuts short.

Knows nothing of what the work is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)

_LAST_WORK_S = 5.0  # each task has so long once the call is over


class Lifetime:
    """One call's."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[None]] = set()
        self.over = asyncio.Event()
        self.line_wanted = asyncio.Event()  # there is something to hear

    async def happens(self, event: asyncio.Event, within_s: float) -> bool:
        """Whether it happened in time; returns early when the call is over."""
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self.over.wait())]
        try:
            await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return event.is_set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Have it done meanwhile; what goes wrong with it is logged."""
        task = asyncio.create_task(work, name=f"{name} {self._name}")
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    async def settle(self) -> None:
        """Wait for what is under way."""
        for task in tuple(self._tasks):
            with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                async with asyncio.timeout(_LAST_WORK_S):
                    await task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s broke", task.get_name(), exc_info=error)
