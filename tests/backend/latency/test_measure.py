"""Measured on real sockets: servers that speak, and servers that fail in one chosen way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from backend.latency.figures import Measured
from backend.latency.measure import measure
from backend.latency.subjects import Choice
from tests.faults.servers import SERVICES, Fault, FaultyServer, Service, faulty, healthy, speech

pytest.importorskip("hibari")
Only = Callable[[FaultyServer], Awaitable[Choice]]


def now_ms() -> float:
    return time.perf_counter() * 1000


async def measured(choice: Choice, runs: int, longest_s: float | None = None) -> Measured:
    found: list[Measured] = []
    await measure(choice.subjects, runs, found, clock=now_ms, longest_s=longest_s)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("service", SERVICES)
async def test_every_route_that_speaks_is_measured(service: Service, only: Only) -> None:
    async with healthy(service) as server:
        choice = await only(server)
        found = await measured(choice, 2)
    assert not found.failed and found.count == 2 and not found.stopped
    plays_ms = len(speech(choice.subjects[0].text).pcm16) / 48
    for run in found.runs:
        assert 0 < run.connect_ms < 10_000
        assert 0 < run.first_chunk_ms <= run.total_ms < 20_000
        assert run.sound_ms == pytest.approx(plays_ms, abs=60)
        ulaw = service.startswith("elevenlabs")
        assert run.bytes == pytest.approx(run.sound_ms * (8 if ulaw else 48), rel=0.01)
        assert (run.server_first_ms is not None) is (service == "sesame_ws")
    # Every connection is a cold one; one more was made beforehand.
    assert server.connections == 3
    assert [asked.ended for asked in server.requests] == ["done", "done"]


async def test_what_the_connection_adds_is_beside_the_servers_own_time(only: Only) -> None:
    async with healthy("sesame_ws") as server:
        found = await measured(await only(server), 2)
    assert [run.server_first_ms for run in found.runs] == [1, 1]
    assert [run.added_ms for run in found.runs] == [run.first_chunk_ms - 1 for run in found.runs]


async def test_slow_speech_shows_in_the_real_time_factor(only: Only) -> None:
    async with faulty("sesame_ws", Fault("slow", speed=0.8)) as server:
        found = await measured(await only(server), 1)
    assert found.runs[0].real_time_factor == pytest.approx(1 / 0.8, rel=0.1)


@pytest.mark.parametrize(
    ("service", "fault", "reason", "sentence"),
    [
        ("sesame_ws", Fault("refuse"), "unreachable", "start it, or correct its address"),
        ("sesame_rest", Fault("http", status=401), "unauthorized", "set the right one"),
        ("sesame_ws", Fault("no_audio"), "no_audio", "look at the server's log"),
        ("sesame_hosted", Fault("constant"), "noise", "noise instead of speech"),
        ("sesame_ws", Fault("close", after_chunks=2), "closed", "Drops the connection"),
        ("elevenlabs", Fault("http", status=401), "unauthorized", "The key is refused"),
        ("elevenlabs_rest", Fault("http", status=429), "rate_limited", "Too many requests"),
        ("sesame_fallback", Fault("tls"), "unreachable", "Cannot be reached"),
    ],
    ids=str,
)
async def test_failures_are_told_by_reason_and_soon_given_up(
    service: Service, fault: Fault, reason: str, sentence: str, only: Only
) -> None:
    async with faulty(service, fault) as server:
        found = await measured(await only(server), 10)
    assert not found.runs and found.count == 3, "a route that is down is not asked again and again"
    assert found.stopped == "given up after 3 failures in a row"
    ((told, count, message),) = found.failures()
    assert (told, count) == (reason, 3)
    assert sentence in message
    assert "secret" not in message


async def test_one_failure_among_good_runs(only: Only) -> None:
    async with faulty("sesame_ws", Fault("error", from_request=2, until_request=2)) as server:
        found = await measured(await only(server), 4)
    assert (len(found.runs), len(found.failed), found.stopped) == (3, 1, "")


async def test_time_is_bounded(only: Only) -> None:
    async with healthy("sesame_rest") as server:
        found = await measured(await only(server), 10, longest_s=0)
    assert found.count == 1
    assert found.stopped == "stopped after 0 s"


async def test_cancelled_it_leaves_what_there_is(only: Only) -> None:
    async with faulty("sesame_ws", Fault("stall", after_chunks=1, from_request=2)) as server:
        found: list[Measured] = []
        choice = await only(server)
        task = asyncio.create_task(measure(choice.subjects, 5, found, clock=now_ms))
        await server.until(lambda server: len(server.requests) == 2 and server.requests[1].chunks_sent == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [measured.count for measured in found] == [1]
