"""A call's waits end with it, and its work is waited for."""

from __future__ import annotations

import asyncio
import logging

import pytest

from backend.simulator.lifetime import Lifetime


async def test_a_wait_tells_whether_it_happened() -> None:
    life, event = Lifetime("call"), asyncio.Event()
    assert not await life.happens(event, 0.0)
    event.set()
    assert await life.happens(event, 60.0)


async def test_the_end_of_the_call_cuts_a_wait_short() -> None:
    life = Lifetime("call")
    wait = asyncio.create_task(life.happens(asyncio.Event(), 3600.0))
    life.over.set()
    async with asyncio.timeout(5):
        assert not await wait


async def test_work_under_way_is_waited_for() -> None:
    life, done = Lifetime("call"), []

    async def work() -> None:
        await life.happens(life.over, 3600.0)
        done.append("told")

    life.spawn(work(), "telling")
    life.over.set()
    await life.settle()
    assert done == ["told"]


async def test_work_that_breaks_is_logged_and_breaks_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    life, broke = Lifetime("v3:1"), asyncio.Event()

    async def work() -> None:
        try:
            raise ValueError("no")
        finally:
            broke.set()

    with caplog.at_level(logging.ERROR):
        life.spawn(work(), "speak")
        await broke.wait()
        await asyncio.sleep(0)  # the task's own callback
    await life.settle()
    assert "speak v3:1 broke" in caplog.text
