from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from backend.calls.boards.pods import Pods
from backend.calls.boards.route_board import RouteBoard
from backend.core.health import RouteHealth, RouteKey
from backend.core.pods import PodReport
from backend.errors import SpeechError, SpeechFailure
from tests.backend.calls.fakes import until

A, B = "http://pod-a:8000", "http://pod-b:8000"
CSM = PodReport(engine="csm", device="cuda", capacity=32)


class Servers:
    """Speech servers that answer as they are told: a report, a failure, or (None) never."""

    def __init__(self, **answers: PodReport | SpeechFailure | None) -> None:
        self.answers: dict[str, PodReport | SpeechFailure | None] = {A: CSM, B: CSM, **answers}
        self.looks: Counter[str] = Counter()
        self.now_ms = 0.0
        self.board = RouteBoard(lambda: self.now_ms)
        self.pods = self.of(A, B)

    def of(self, *urls: str, **more: object) -> Pods:
        return Pods(
            urls, self.look, self.board, lambda: self.now_ms, chance=random.Random(7).random,
            **{"every_s": 0.002, "slowest_s": 0.01, "deadline_s": 0.05} | more,  # type: ignore[arg-type]
        )  # fmt: skip

    async def look(self, url: str) -> PodReport:
        self.looks[url] += 1
        answer = self.answers[url]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, str):
            raise SpeechError(f"{url}: {answer}", route="sesame", reason=answer)
        assert isinstance(answer, PodReport)
        return answer

    def row(self, url: str, name: str = "sesame_ws") -> RouteHealth:
        return self.board.health([RouteKey(name, url)])[0]  # type: ignore[arg-type]

    async def looked_again(self, url: str, times: int = 2) -> None:
        wanted = self.looks[url] + times
        await until(lambda: self.looks[url] >= wanted, "looked at")


@asynccontextmanager
async def running(pods: Pods) -> AsyncIterator[None]:
    task = asyncio.create_task(pods.run())
    try:
        await pods.looked()
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_what_is_there_is_found_and_told(caplog: pytest.LogCaptureFixture) -> None:
    servers = Servers()
    servers.answers[B] = PodReport(engine="preview", device="cpu", capacity=4, active=1)
    with caplog.at_level(logging.INFO):
        async with running(servers.pods):
            await servers.looked_again(A, 5)
    told = [record.message for record in caplog.records]
    assert len(told) == 3 and set(told) == {
        f"speech server {A}: engine csm on cuda, 32 streams",
        f"speech server {B}: engine preview on cpu, 4 streams",
        f"speech server {B} speaks with the preview voice, not CSM",
    }
    for name in ("sesame_ws", "sesame_rest"):
        row = servers.row(B, name)
        assert (row.state, row.streams_free, row.streams_capacity) == ("up", 3, 4)
        assert row.detail == "works; 3 of 4 streams free; speaks with the preview voice"
        assert row.latency_ms is not None


async def test_speakers_without_a_voice_are_told_in_the_log_and_on_the_health_page(
    caplog: pytest.LogCaptureFixture,
) -> None:
    servers = Servers()
    servers.answers[B] = PodReport(engine="csm", device="cuda", capacity=4, unbound_speakers=(4, 6))
    servers.answers[A] = PodReport(engine="csm", device="cuda", capacity=4, unbound_speakers=())
    with caplog.at_level(logging.WARNING):
        async with running(servers.pods):
            await servers.looked_again(A, 5)
    bare = (
        "no voice is bound to speaker 4, 6: each answer sounds like a different person; "
        "look at VOICES_DIR there"
    )
    assert [record.message for record in caplog.records] == [f"speech server {B}: {bare}"], "once"
    assert servers.row(B).state == "up" and servers.row(B).detail == f"works; 4 of 4 streams free; {bare}"
    assert "voice" not in servers.row(A).detail


async def test_none_there_is_told_and_found_later(caplog: pytest.LogCaptureFixture) -> None:
    servers = Servers()
    servers.answers.update({A: "unreachable", B: "unreachable"})
    with caplog.at_level(logging.INFO):
        async with running(servers.pods):
            await until(lambda: "no speech server answers at" in caplog.text)
            assert servers.row(A).state == "down"
            assert servers.pods.choose("sesame_ws") in (A, B)  # it may be there by then
            servers.answers[A] = CSM
            await until(lambda: servers.row(A).state == "up")
            assert {servers.pods.choose("sesame_ws") for _ in range(10)} == {A}
            assert servers.pods.report(A) == CSM and servers.pods.report(B) is None
    assert sum("left alone" in record.message for record in caplog.records) == 2
    assert f"speech by sesame_ws and sesame_rest at {A} works again" in caplog.text


async def test_one_that_hangs_is_out_of_use_after_two_looks() -> None:
    servers = Servers()
    servers.answers[A] = None
    async with running(servers.pods):
        await until(lambda: servers.row(A).state == "down")
        assert servers.looks[A] == 2
        assert "no answer within 0.05 s" in servers.row(A).detail
        assert {servers.pods.choose("sesame_ws") for _ in range(20)} == {B}


@pytest.mark.parametrize("reason", ["unauthorized", "not_ready", "unreachable"])
async def test_one_that_refuses_is_out_of_use_until_a_look_is_good(reason: SpeechFailure) -> None:
    servers = Servers()
    servers.answers[A] = reason
    async with running(servers.pods):
        assert not servers.board.allows(RouteKey("sesame_ws", A))
        assert {servers.pods.choose("sesame_ws") for _ in range(20)} == {B}
        servers.answers[A] = CSM
        await until(lambda: servers.board.allows(RouteKey("sesame_ws", A)))


async def test_what_only_speaking_shows_a_look_does_not_mend() -> None:
    servers = Servers()
    key = RouteKey("sesame_ws", A)
    async with running(servers.pods):
        for _ in range(3):
            servers.board.failed(key, SpeechError("silence", route="sesame_ws", reason="no_audio"))
        await servers.looked_again(A)
        assert not servers.board.allows(key)
        assert servers.pods.choose("sesame_ws") == B
        # By REST it may well speak.
        assert A in {servers.pods.choose("sesame_rest") for _ in range(20)}


async def test_a_full_server_that_has_room_again_is_in_use_again() -> None:
    servers = Servers()
    key = RouteKey("sesame_ws", A)
    servers.answers[A] = PodReport(capacity=2, active=2, waiting=4, max_waiting=4)
    async with running(servers.pods):
        servers.board.failed(key, SpeechError("full", route="sesame_ws", reason="busy"))
        await servers.looked_again(A)
        assert not servers.board.allows(key) and servers.row(A).detail.startswith("Full")
        servers.answers[A] = PodReport(capacity=2, active=1)
        await until(lambda: servers.board.allows(key))


async def test_calls_are_spread_and_forgotten_with_time() -> None:
    servers = Servers()
    async with running(servers.pods):
        chosen = Counter(servers.pods.choose("sesame_ws") for _ in range(40))
        assert abs(chosen[A] - chosen[B]) <= 8, chosen
        reserved = Counter(servers.pods.choose("sesame_ws", [A], count=False) for _ in range(10))
        assert reserved == {B: 10}
        assert servers.pods.choose("sesame_ws", [A, B]) is None
        servers.now_ms += 600_000
        assert all(servers.pods._pod(seen, "sesame_ws", servers.now_ms).load < 0.01
                   for seen in servers.pods._seen.values())  # fmt: skip


async def test_the_dead_are_asked_ever_more_seldom() -> None:
    servers = Servers()
    pods = servers.of(A)
    waits: list[float] = []
    for _ in range(12):
        servers.answers[A] = "unreachable"
        waits.append(await pods._look_at(pods._seen[A]))
    assert waits[0] < 0.0025 and 0.008 <= waits[-1] <= 0.012
    servers.answers[A] = CSM
    assert await pods._look_at(pods._seen[A]) < 0.0025


async def test_nobody_who_wants_them_nobody_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    servers = Servers()
    wanted = False
    pods = servers.of(A, wanted=lambda: wanted)
    async with running(pods):
        assert not servers.looks and not caplog.records
        wanted = True
        await until(lambda: servers.row(A).state == "up")


async def test_without_servers_there_is_nothing_to_do(caplog: pytest.LogCaptureFixture) -> None:
    pods = Servers().of()
    async with running(pods):
        assert pods.choose("sesame_ws") is None
    assert not caplog.records


async def test_it_stops_at_once_while_a_look_hangs() -> None:
    servers = Servers()
    pods = servers.of(A, deadline_s=60.0)
    servers.answers[A] = None
    task = asyncio.create_task(pods.run())
    await until(lambda: servers.looks[A])
    task.cancel()
    async with asyncio.timeout(1):
        await asyncio.wait([task])
    assert task.cancelled()
