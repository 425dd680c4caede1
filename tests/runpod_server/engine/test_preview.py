from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from runpod_server.engine.preview import PreviewEngine
from runpod_server.engine.request import SpeechRequest
from runpod_server.errors import BadRequest, Busy, GenerationFailed, NotReady, OutOfMemory
from runpod_server.preview.voice import Piece, PreviewVoice

TWO = "Good morning. How are you?"


@pytest.fixture(scope="module")
def voice() -> PreviewVoice:
    return PreviewVoice()


@pytest.fixture
async def engine(voice: PreviewVoice) -> AsyncIterator[PreviewEngine]:
    """Two slots, one place to wait; the model is loaded once for all tests."""
    engine = PreviewEngine(max_streams=2, max_queue=1)
    engine.voice = voice
    yield engine
    await engine.close()


def asked(text: str = TWO, **fields: object) -> SpeechRequest:
    return SpeechRequest(text=text, request_id="test", **fields)  # type: ignore[arg-type]


async def spoken(engine: PreviewEngine, request: SpeechRequest) -> tuple[bytes, str | None]:
    with engine.open(request) as stream:
        pcm16 = b"".join([piece async for piece in stream])
        return pcm16, stream.reason


async def test_speaks_to_the_end_and_frees_its_slot(engine: PreviewEngine) -> None:
    pcm16, reason = await spoken(engine, asked())
    assert reason == "eos"
    assert 1.0 < len(pcm16) / 48_000 < 5.0
    assert np.abs(np.frombuffer(pcm16, "<i2")).max() > 3000
    assert engine.status().active == 0


async def test_before_loading_it_is_not_ready() -> None:
    engine = PreviewEngine(max_streams=1, max_queue=0)
    assert engine.status().state == "loading"
    with pytest.raises(NotReady):
        engine.open(asked())
    await engine.close()


async def test_seeds(engine: PreviewEngine) -> None:
    first, again, other = [(await spoken(engine, asked(seed=seed)))[0] for seed in (7, 7, 8)]
    assert first == again
    assert first != other


@pytest.mark.parametrize("limit_ms", [80, 500, 1234])
async def test_the_longest_is_kept_to_the_sample(engine: PreviewEngine, limit_ms: int) -> None:
    pcm16, reason = await spoken(engine, asked(max_audio_ms=limit_ms))
    assert reason == "max_length"
    assert len(pcm16) == limit_ms * 48
    assert engine.status().active == 0


async def test_full_then_queued_then_busy(engine: PreviewEngine) -> None:
    first, second, third = (engine.open(asked()) for _ in range(3))
    status = engine.status()
    assert (status.active, status.waiting) == (2, 1)
    with pytest.raises(Busy):
        engine.open(asked())
    waits = asyncio.create_task(anext(third))
    first.cancel()
    assert len(await waits) > 0
    for stream in (second, third):
        stream.cancel()
    assert (engine.status().active, engine.status().waiting) == (0, 0)


async def test_cancel_wakes_a_stream_that_waits_for_a_slot(engine: PreviewEngine) -> None:
    held = [engine.open(asked()) for _ in range(2)]
    waiting = engine.open(asked())
    waits = asyncio.create_task(anext(waiting, None))
    await asyncio.sleep(0)
    waiting.cancel()
    assert await waits is None
    assert waiting.reason == "cancelled"
    for stream in held:
        stream.cancel()


async def test_cancel_wakes_a_stream_that_is_being_made(engine: PreviewEngine) -> None:
    stream = engine.open(asked("word " * 300))
    making = asyncio.create_task(anext(stream, None))
    await asyncio.sleep(0)
    stream.cancel()
    stream.cancel()
    assert await making is None
    assert (stream.reason, engine.status().active) == ("cancelled", 0)


async def test_a_cancelled_consumer_frees_the_slot(engine: PreviewEngine) -> None:
    consumer = asyncio.create_task(spoken(engine, asked("word " * 300)))
    await asyncio.sleep(0)
    assert engine.status().active == 1
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert engine.status().active == 0


async def test_streams_take_turns(engine: PreviewEngine) -> None:
    """A long text must not hold back a short one that came later."""
    long = asyncio.create_task(spoken(engine, asked("This is a long story. " * 60)))
    await asyncio.sleep(0)
    await spoken(engine, asked("Yes."))
    assert not long.done()
    long.cancel()
    await asyncio.wait({long})


@pytest.mark.parametrize("text", ["😀", "...", "日本語", "!?"])
async def test_nothing_to_say_is_the_clients_mistake(engine: PreviewEngine, text: str) -> None:
    with pytest.raises(BadRequest, match="nothing this voice can say"):
        await spoken(engine, asked(text))
    assert engine.status().active == 0


async def test_voices_by_name_are_the_speakers(engine: PreviewEngine) -> None:
    by_name, _ = await spoken(engine, asked(voice="moss", seed=1))
    by_number, _ = await spoken(engine, asked(speaker_id=5, seed=1))
    assert by_name == by_number
    with pytest.raises(BadRequest, match="'nobody' .* heart, birch"):
        engine.open(asked(voice="nobody"))


class BrokenVoice:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def speak(self, text: str, *_: object, **__: object):  # type: ignore[no-untyped-def]
        if text == "break":
            raise self.error
        yield Piece(np.ones(100, np.float32), is_last=False)
        raise self.error


@pytest.mark.parametrize(
    "error, becomes", [(ValueError("shape"), GenerationFailed), (MemoryError(), OutOfMemory)]
)
async def test_a_failing_voice_degrades_the_engine_until_it_speaks_again(
    engine: PreviewEngine, error: Exception, becomes: type[Exception]
) -> None:
    good_voice, engine.voice = engine.voice, BrokenVoice(error)  # type: ignore[assignment]
    for _ in range(3):
        assert engine.status().state == "healthy"
        with pytest.raises(becomes):
            await spoken(engine, asked())
    assert engine.status().state == "degraded"
    engine.voice = good_voice
    await spoken(engine, asked())
    assert engine.status().state == "healthy"
