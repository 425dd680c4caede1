"""Servers that fail, and whoever asks them, in one process on a clock that leaps while nothing is on the way.

Where gaps are held against a bound (`STILL`), work in threads takes no time on that clock either: so gaps
are the same, however busy the machine is. Tests with processes of their own (`REAL_TIME`) keep the
clock of the machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import pytest

from backend.evals.leaping import LeapingLoop

REAL_TIME = ("test_soak", "test_echoed_keys", "test_shipped_agent")

STILL = ("test_matrix",)


class StillLoop(LeapingLoop):
    """Such a clock that stands still for what other loops leave to threads."""

    def run_in_executor(  # type: ignore[override]  # as the class it is of
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """At once, and done when it returns."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - told to whoever waits, as a thread's is
            future.set_exception(error)
        return future


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.stem in REAL_TIME:
        return {"real": asyncio.SelectorEventLoop}
    return {"still": StillLoop} if item.path.stem in STILL else {"leaping": LeapingLoop}
