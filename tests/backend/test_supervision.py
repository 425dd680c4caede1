"""Background work that fails goes on, and is told of."""

from __future__ import annotations

import asyncio
import logging

import pytest

from backend.supervision import Supervisor


async def test_work_that_fails_begins_anew_is_counted_and_told_for_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_s, runs, counted, well = [0.0], [0], list[str](), asyncio.Event()

    async def work() -> None:
        runs[0] += 1
        if runs[0] < 3:
            raise KeyError("who")
        well.set()
        await asyncio.Event().wait()

    supervisor = Supervisor(counted.append, pause_s=0.0, clock_s=lambda: now_s[0])
    assert supervisor.problems() == []
    with caplog.at_level(logging.ERROR):
        keeping = asyncio.create_task(supervisor.keep("agents", work))
        async with asyncio.timeout(30):
            await well.wait()
    assert counted == ["agents", "agents"]
    assert "agents failed; it begins anew" in caplog.text and "KeyError" in caplog.text
    (told,) = supervisor.problems()
    assert "agents (KeyError: 'who')" in told
    now_s[0] = 61.0
    assert supervisor.problems() == []
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
