"""Servers that fail, and whoever asks them, in one process on a clock that leaps while nothing is on the way.

Tests with processes of their own (`real_time`) keep the machine's clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from backend.evals.leaping import LeapingLoop

REAL_TIME = ("test_soak", "test_echoed_keys", "test_shipped_agent")


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.stem in REAL_TIME:
        return {"real": asyncio.SelectorEventLoop}
    return {"leaping": LeapingLoop}
