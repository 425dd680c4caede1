"""Callers on a real event loop, served by targets that answer as the test would have them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest

from runpod_server.bench.figures import LoadFigures
from runpod_server.bench.load import observe
from runpod_server.bench.plan import Load
from runpod_server.bench.script import Script, Utterance
from runpod_server.errors import Busy, ClientError

MEAN_MS = 160
FRAME = bytes(3840)


class Fluent:
    """Speaks every utterance at once, whole; counts who is there."""

    def __init__(self) -> None:
        self.present = self.most_present = self.asked = 0

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[Fluent]:
        self.present += 1
        self.most_present = max(self.most_present, self.present)
        try:
            yield self
        finally:
            self.present -= 1

    async def ask(self, utterance: Utterance) -> AsyncGenerator[bytes, None]:
        self.asked += 1
        await asyncio.sleep(0)
        yield FRAME * (utterance.audio_ms // 80)


class Mute(Fluent):
    """Never says a word."""

    async def ask(self, utterance: Utterance) -> AsyncGenerator[bytes, None]:
        await asyncio.Event().wait()
        yield b""


class Full(Fluent):
    """Has no room."""

    async def ask(self, utterance: Utterance) -> AsyncGenerator[bytes, None]:
        raise Busy("all 2 streams are taken")
        yield b""


class FailsWhenStopped(Fluent):
    """Its connection breaks as the measuring ends."""

    def __init__(self) -> None:
        super().__init__()
        self.was_asked = asyncio.Event()

    async def ask(self, utterance: Utterance) -> AsyncGenerator[bytes, None]:
        self.was_asked.set()
        try:
            await asyncio.Event().wait()
            yield b""
        except asyncio.CancelledError:
            raise ClientError("the connection was lost") from None


class Gone(Fluent):
    """Nobody is there."""

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[Fluent]:
        raise ClientError("nothing answers")
        yield self


async def under(target: Fluent, load: Load, *, streams: int = 3, seconds: float = 0.4) -> LoadFigures:
    async with asyncio.timeout(20):
        observed = await observe(target, load, streams, Script(MEAN_MS), mean_ms=MEAN_MS, seconds=seconds)
    assert target.present == 0, "a caller was left behind"
    return LoadFigures.of(observed, plays=load != "flat-out", in_process=True)


async def test_flat_out_asks_anew_at_once() -> None:
    target = Fluent()
    found = await under(target, "flat-out")
    assert target.most_present == 3
    assert found.asked > 20
    assert found.frames_per_s > 3 * 12.5
    assert (found.underruns, found.ended_early, found.listening) == (0, 0, None)


async def test_steady_callers_listen_to_the_end_before_they_ask_anew() -> None:
    target = Fluent()
    found = await under(target, "steady", seconds=1.0)
    assert target.most_present == 3
    assert found.listening == pytest.approx(3, rel=0.3)
    assert found.frames_per_s == pytest.approx(3 * 12.5, rel=0.5)
    assert found.holds(60_000)


async def test_poisson_callers_come_and_go() -> None:
    target = Fluent()
    found = await under(target, "poisson", seconds=1.0)
    assert found.asked > 3
    assert target.asked >= found.asked


@pytest.mark.parametrize("load", ["flat-out", "steady", "poisson"])
async def test_who_hears_nothing_is_counted_and_let_go(load: Load) -> None:
    found = await under(Mute(), load, seconds=0.3)
    assert found.frames_per_s == 0
    assert found.waiting == found.asked
    assert not found.holds(60_000)


async def test_who_is_declined_asks_again_a_little_later() -> None:
    found = await under(Full(), "flat-out", seconds=0.6)
    assert found.declined["busy"] == found.asked <= 3 * 3
    assert found.why_declined == "all 2 streams are taken"


@pytest.mark.parametrize("load", ["flat-out", "steady", "poisson"])
async def test_a_lost_server_ends_it(load: Load) -> None:
    with pytest.raises(ClientError, match="nothing answers"):
        await under(Gone(), load)


async def test_stopped_from_outside_it_is_stopped_whatever_fails_meanwhile() -> None:
    target = FailsWhenStopped()
    watching = asyncio.create_task(under(target, "flat-out", streams=2, seconds=30))
    async with asyncio.timeout(10):
        await target.was_asked.wait()
        watching.cancel()
        await asyncio.wait([watching])
    assert watching.cancelled()
