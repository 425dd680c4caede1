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
    assert "agents (KeyError: 'who'; 2 times)" in told
    now_s[0] = 61.0
    assert supervisor.problems() == []
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping


class Clock:
    """Work that takes so long on it until it fails, time after time."""

    def __init__(self, *lasts_s: float, error: BaseException) -> None:
        self.now_s, self._lasts_s, self._error = 0.0, list(lasts_s), error
        self.well = asyncio.Event()

    async def work(self) -> None:
        if not self._lasts_s:
            self.well.set()
            await asyncio.Event().wait()
        self.now_s += self._lasts_s.pop(0)
        raise self._error


async def kept(clock: Clock, supervisor: Supervisor) -> asyncio.Task[None]:
    """The keeper, once the work does not fail any more."""
    keeping = asyncio.create_task(supervisor.keep("agents", clock.work))
    async with asyncio.timeout(30):
        await asyncio.wait([keeping, asyncio.create_task(clock.well.wait())], return_when="FIRST_COMPLETED")
    assert not keeping.done(), "it is kept"
    return keeping


async def ended(keeping: asyncio.Task[None]) -> None:
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping


@pytest.mark.parametrize(
    ("lasts_s", "told_for_s"),
    [
        ([90_000], 60),  # a mishap after a day
        ([0.1, 0.1, 0.1], 60),
        ([200, 200, 200], 400),  # each time after minutes: it is not well as soon as it runs for one
        ([90_000, 90_000], 60),  # two mishaps
    ],
)
async def test_what_fails_again_and_again_is_told_until_it_runs_for_longer(
    lasts_s: list[float], told_for_s: float
) -> None:
    clock = Clock(*lasts_s, error=OSError("no"))
    supervisor = Supervisor(pause_s=0.0, clock_s=lambda: clock.now_s)
    keeping = await kept(clock, supervisor)
    failed_s = clock.now_s
    clock.now_s = failed_s + told_for_s - 1
    (told,) = supervisor.problems()
    assert ("; 3 times)" in told) == (len(lasts_s) == 3)
    clock.now_s = failed_s + told_for_s + 1
    assert supervisor.problems() == []
    await ended(keeping)


async def test_work_that_meets_a_cancelled_task_is_begun_anew_and_told() -> None:
    clock = Clock(1.0, error=asyncio.CancelledError())
    supervisor = Supervisor(pause_s=0.0, clock_s=lambda: clock.now_s)
    keeping = await kept(clock, supervisor)
    (told,) = supervisor.problems()
    assert "agents (CancelledError" in told
    await ended(keeping)
