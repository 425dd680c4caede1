"""Speech routes and their servers in one process, on a clock that leaps while nothing is on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from backend.evals.leaping import LeapingLoop

REAL_TIME = "test_sesame_ws_server"  # the server is a process of its own


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"real": asyncio.SelectorEventLoop} if item.path.stem == REAL_TIME else {"leaping": LeapingLoop}
