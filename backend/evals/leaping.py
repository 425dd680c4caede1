"""An event loop whose time leaps: nobody waits for a timer, so a minute's call takes a tenth of a second.

While a thread works, or something `outside` is waited for, time passes as it does for everybody.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

T = TypeVar("T")


class _LeapingSelector(selectors.BaseSelector):
    """The system's own, with a clock beside it that is set forward instead of waiting."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.now_s = 0.0
        self.outside = 0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._selector.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._selector.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._selector.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._selector.get_map()

    def close(self) -> None:
        self._selector.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return self._selector.select(0)
        if timeout is not None and not self.outside:
            ready = self._selector.select(0)
            self.now_s += 0.0 if ready else timeout
            return ready
        began_s = time.monotonic()
        ready = self._selector.select(timeout)
        took_s = time.monotonic() - began_s
        self.now_s += took_s if ready or timeout is None else max(took_s, timeout)
        return ready


class LeapingLoop(asyncio.SelectorEventLoop):
    """asyncio's loop on such a clock, which begins at nought."""

    def __init__(self) -> None:
        self._leaping = _LeapingSelector()
        super().__init__(self._leaping)

    def time(self) -> float:
        """Seconds on this loop's own clock."""
        return self._leaping.now_s

    def run_in_executor(  # type: ignore[override]  # typeshed's own takes TypeVarTuples
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """As asyncio's, and time does not leap over the work."""
        self._leaping.outside += 1
        try:
            future = super().run_in_executor(executor, func, *args)
        except BaseException:
            self._leaping.outside -= 1
            raise
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, *timeout_s: float | None) -> None:
        """As asyncio's, and time does not leap over threads that are still to end.

        From Python 3.12 on asyncio waits for them with a timer, which a leap would let run out at once.
        """
        with self.waiting_outside():
            await super().shutdown_default_executor(*timeout_s)

    @property
    def waits(self) -> bool:
        """Whether something outside is being waited for."""
        return self._leaping.outside > 0

    @contextmanager
    def waiting_outside(self) -> Iterator[None]:
        """Time passes as it does for everybody."""
        self._leaping.outside += 1
        try:
            yield
        finally:
            self._leaping.outside -= 1

    def _thread_done(self, _: asyncio.Future[Any]) -> None:
        self._leaping.outside -= 1


def outside() -> AbstractContextManager[None]:
    """While this is open, the answer of something that is not of this process is waited for."""
    loop = asyncio.get_running_loop()
    return loop.waiting_outside() if isinstance(loop, LeapingLoop) else nullcontext()


def run_leaping(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a loop of its own, as `asyncio.run` does."""
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        return runner.run(work)
