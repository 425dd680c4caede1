from __future__ import annotations

import asyncio
from typing import Self

import numpy as np
import pytest

from runpod_server.audio import pcm16_from_float
from runpod_server.engine.at_speed import AtSpeed
from runpod_server.engine.request import EndReason
from runpod_server.errors import GenerationFailed
from runpod_server.stretch import TimeStretch

TONE = (0.3 * np.sin(2 * np.pi * 220.5 * np.arange(48_000) / 24_000)).astype(np.float32)
PIECES = [pcm16_from_float(TONE[at : at + 1920]) for at in range(0, len(TONE), 1920)]


class Listed:
    """A stream of the pieces it was given, which then ends, fails or is waited for."""

    reason: EndReason | None = None

    def __init__(self, pieces: list[bytes], *, failure: Exception | None = None, waits: bool = False) -> None:
        self._pieces, self._failure, self._waits = iter(pieces), failure, waits
        self.gone = asyncio.Event()
        self.is_inside = False

    async def admitted(self) -> None:
        """At once."""

    def cancel(self) -> None:
        self.reason = self.reason or "cancelled"
        self.gone.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self.reason is None and (piece := next(self._pieces, None)) is not None:
            return piece
        if self._failure is not None:
            raise self._failure
        if self._waits:
            await self.gone.wait()
        self.reason = self.reason or "eos"
        raise StopAsyncIteration

    def __enter__(self) -> Self:
        self.is_inside = True
        return self

    def __exit__(self, *_: object) -> None:
        self.is_inside = False
        self.cancel()


@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
async def test_it_is_the_sound_at_that_speed(speed: float) -> None:
    with AtSpeed(Listed(PIECES), speed) as stream:
        await stream.admitted()
        pieces = [piece async for piece in stream]
    assert all(pieces)
    made = np.frombuffer(b"".join(pieces), "<i2") / 32767
    stretch = TimeStretch(speed)
    assert len(made) == round(len(TONE) / speed)
    assert np.allclose(made, np.concatenate([stretch.push(TONE), stretch.finish()]), atol=2e-3)
    assert stream.reason == "eos"


async def test_the_first_piece_makes_sound_before_the_next_is_asked_for() -> None:
    for speed in (0.25, 1.5, 4.0):
        with AtSpeed(Listed(PIECES[:1], waits=True), speed) as stream:
            async with asyncio.timeout(10):
                assert await anext(stream)


async def test_a_cancelled_stream_says_no_more_and_frees_what_is_within() -> None:
    within = Listed(PIECES[:2], waits=True)
    with AtSpeed(within, 0.5) as stream:
        assert within.is_inside
        assert await anext(stream) and await anext(stream)
        asyncio.get_running_loop().call_soon(stream.cancel)
        assert [piece async for piece in stream] == []
        assert stream.reason == "cancelled"
    assert not within.is_inside


async def test_a_failure_passes_through() -> None:
    with AtSpeed(Listed(PIECES[:1], failure=GenerationFailed("broken")), 2.0) as stream:
        assert await anext(stream)
        with pytest.raises(GenerationFailed, match="broken"):
            await anext(stream)


async def test_no_sound_stays_none() -> None:
    with AtSpeed(Listed([]), 2.0) as stream:
        assert [piece async for piece in stream] == []
