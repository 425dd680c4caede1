"""Time that leaps: in order, at once, and not over what really takes time."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from backend.evals.leaping import outside, run_leaping


def test_an_hour_takes_no_time_and_passes_in_order() -> None:
    async def work() -> list[tuple[str, float]]:
        loop, done = asyncio.get_running_loop(), list[tuple[str, float]]()

        async def sleeper(name: str, for_s: float) -> None:
            await asyncio.sleep(for_s)
            done.append((name, loop.time()))

        await asyncio.gather(sleeper("late", 3600.0), sleeper("early", 0.5), sleeper("middle", 60.0))
        return done

    began_s = time.monotonic()
    assert run_leaping(work()) == [("early", 0.5), ("middle", 60.0), ("late", 3600.0)]
    assert time.monotonic() - began_s < 600.0, "an hour was not waited for"


def test_a_deadline_does_not_pass_while_a_thread_works() -> None:
    async def work() -> str:
        async with asyncio.timeout(30.0):
            return await asyncio.to_thread(lambda: time.sleep(0.05) or "done")

    assert run_leaping(work()) == "done"


def test_a_deadline_does_not_pass_while_somebody_outside_is_waited_for() -> None:
    async def work() -> bytes:
        here, there = socket.socketpair()
        here.setblocking(False)
        with here, there:
            threading.Timer(0.05, there.send, [b"hello"]).start()
            async with asyncio.timeout(30.0):
                with outside():
                    return await asyncio.get_running_loop().sock_recv(here, 10)

    assert run_leaping(work()) == b"hello"


def test_a_deadline_passes_when_nothing_else_happens() -> None:
    async def work() -> None:
        async with asyncio.timeout(600.0):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        run_leaping(work())


def test_time_does_not_leap_while_the_loop_waits_for_its_threads_to_end() -> None:
    held, fired = threading.Event(), list[bool]()

    async def work() -> None:
        left_behind = asyncio.create_task(asyncio.to_thread(held.wait))
        await asyncio.sleep(0.001)
        left_behind.cancel()
        asyncio.get_running_loop().call_later(600.0, fired.append, True)
        threading.Timer(0.05, held.set).start()

    run_leaping(work())
    assert fired == []
