"""An event loop in a thread of its own: what is waited for there takes no time on the loop that waits.

For what is no part of a call whose time leaps, and yet takes real time.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
_LOOK_S = 0.1


class Apart:
    """`with Apart() as apart:`, then `await apart.done(work)`. All work is over when it is left."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="apart", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
            self._loop.run_until_complete(asyncio.wait([task]))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def done(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result. The loop that waits stands still meanwhile; being cancelled ends the work."""
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while not concurrent.futures.wait([future], timeout=_LOOK_S).done:
                if task.cancelling() > before:
                    await asyncio.sleep(0)  # here it is cancelled
        except BaseException:
            future.cancel()
            raise
        return future.result()
