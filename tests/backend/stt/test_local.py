"""The embedded recogniser on telephone speech, in silence, under load, and when it is closed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.core.g711 import Codec
from backend.errors import HearingError
from backend.simulator.wordcount import word_errors
from backend.stt.local import IN_HZ, LocalTranscriber, utterance_parts
from tests.words import errors_at_end

pytest.importorskip("moonshine_voice")

OnTheLine = Callable[..., bytes]
DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def ears() -> Iterator[LocalTranscriber]:
    transcriber = LocalTranscriber()
    yield transcriber
    transcriber.close()


def hiss(seconds: float, level: float) -> bytes:
    return np.random.default_rng(1).normal(0, level, int(IN_HZ * seconds)).astype("<i2").tobytes()


# --- words ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", Codec)
async def test_telephone_speech_is_understood(
    ears: LocalTranscriber, on_the_line: OnTheLine, codec: Codec
) -> None:
    said = [
        "I would like to book an appointment for Tuesday.",
        "Yes, please.",
        "No, thank you.",
        "My number is five five five, one two three four.",
        "Can I speak to a human being?",
    ]
    heard = [await ears.transcribe(on_the_line(text, codec)) for text in said]
    assert word_errors(" ".join(said), " ".join(heard)).rate <= 0.05, heard


async def test_the_same_audio_gives_the_same_words(ears: LocalTranscriber, on_the_line: OnTheLine) -> None:
    speech = on_the_line("No, thank you.")
    first = await ears.transcribe(speech)
    await ears.transcribe(on_the_line("Yes, please."))
    assert await ears.transcribe(speech) == first  # nothing leaks from one utterance into the next


async def test_half_a_sample_at_the_end_is_harmless(ears: LocalTranscriber, on_the_line: OnTheLine) -> None:
    speech = on_the_line("Yes, please.")
    assert await ears.transcribe(speech + b"\x01") == await ears.transcribe(speech)


@pytest.mark.parametrize("seconds", [0, 0.05, 0.5, 3, 30])
async def test_silence_has_no_words(ears: LocalTranscriber, seconds: float) -> None:
    assert await ears.transcribe(bytes(2 * int(IN_HZ * seconds))) == ""
    assert await ears.transcribe(hiss(seconds, 3)) == ""


async def test_a_long_story_is_understood_to_its_end(ears: LocalTranscriber, on_the_line: OnTheLine) -> None:
    story = [
        "My dog has been unwell since the weekend.",
        "We drove there on Saturday morning.",
        "Then I waited for an hour in the hall.",
        "Nobody called my name at all.",
        "After that I went home again.",
        "Please find me another time.",
        "Thursday would be better for me.",
    ] * 2
    speech = b"".join(map(on_the_line, story))
    assert len(speech) / 2 / IN_HZ > 30  # in one go the model drifts into repeating itself
    heard = await ears.transcribe(speech)
    assert word_errors(" ".join(story), heard).rate <= 0.15, heard
    assert errors_at_end("Thursday would be better for me.", heard) <= 2, heard


def test_long_audio_is_cut_where_it_is_quietest() -> None:
    rng = np.random.default_rng(3)
    audio = rng.normal(0, 3_000, 30 * IN_HZ)
    audio[int(9.5 * IN_HZ) : int(9.7 * IN_HZ)] = 0
    audio[int(20.0 * IN_HZ) : int(20.2 * IN_HZ)] = 0
    pcm16 = audio.astype("<i2")
    parts = list(utterance_parts(pcm16.tobytes()))
    assert np.array_equal(np.concatenate(parts), pcm16)
    assert [round(len(part) / IN_HZ, 1) for part in parts] == pytest.approx([9.6, 10.5, 9.9], abs=0.15)


@pytest.mark.parametrize("seconds", [0.0, 0.099, 0.1, 11.9, 12.0, 12.001, 24.0, 61.3])
def test_parts_lose_nothing_but_less_than_a_tenth_of_a_second(seconds: float) -> None:
    audio = np.full(int(seconds * IN_HZ), 1_000, "<i2")
    parts = list(utterance_parts(audio.tobytes()))
    assert all(0.1 * IN_HZ <= len(part) <= 12 * IN_HZ for part in parts)
    assert 0 <= len(audio) - sum(map(len, parts)) < 0.1 * IN_HZ


def test_the_loudest_negative_sample_is_audible() -> None:
    (part,) = utterance_parts(np.full(IN_HZ, -32_768, "<i2").tobytes())
    assert len(part) == IN_HZ


# --- load and end --------------------------------------------------------------------------------------


class Held(LocalTranscriber):
    """The real one, except that its thread waits for `go`, so that a test knows where it stands."""

    def __init__(self) -> None:
        super().__init__()
        self.running, self.go = threading.Event(), threading.Event()

    def _run(self, part: NDArray[np.int16]) -> str:
        self.running.set()
        assert self.go.wait(DEADLINE_S)
        return super()._run(part)


@pytest.fixture
def held() -> Iterator[Held]:
    transcriber = Held()
    yield transcriber
    transcriber.go.set()
    transcriber.close()


async def waiting(transcriber: LocalTranscriber, speech: bytes, count: int) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(transcriber.transcribe(speech)) for _ in range(count)]
    await asyncio.sleep(0)  # each runs up to its place in the queue
    return tasks


async def test_too_many_at_once_are_refused_and_the_rest_served(held: Held, on_the_line: OnTheLine) -> None:
    speech = on_the_line("Yes, please.")
    tasks = await waiting(held, speech, 32)
    with pytest.raises(HearingError, match="overloaded: 32"):
        await held.transcribe(speech)
    held.go.set()
    async with asyncio.timeout(DEADLINE_S):
        texts = await asyncio.gather(*tasks)
    assert len(set(texts)) == 1 and word_errors("Yes, please.", texts[0]).rate == 0
    assert await held.transcribe(speech) == texts[0]  # there is room again


async def test_those_who_gave_up_make_room(held: Held, on_the_line: OnTheLine) -> None:
    speech = on_the_line("Yes, please.")
    tasks = await waiting(held, speech, 32)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    held.go.set()
    assert await held.transcribe(speech)


async def test_closing_lets_the_running_one_end_and_fails_those_who_wait(
    held: Held, on_the_line: OnTheLine
) -> None:
    first, second = await waiting(held, on_the_line("Yes, please."), 2)
    assert await asyncio.to_thread(held.running.wait, DEADLINE_S)
    closing = asyncio.create_task(asyncio.to_thread(held.close))
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(HearingError, match="closed"):
            await second
        held.go.set()
        assert word_errors("Yes, please.", await first).rate == 0
        await closing


async def test_closed_ears_say_so_and_close_twice(on_the_line: OnTheLine) -> None:
    transcriber = LocalTranscriber()
    transcriber.close()
    transcriber.close()
    with pytest.raises(HearingError, match="closed"):
        await transcriber.transcribe(on_the_line("Yes, please."))


async def test_a_failing_model_is_a_hearing_error(on_the_line: OnTheLine) -> None:
    transcriber = LocalTranscriber()
    transcriber._model.close()  # as if the library had lost it
    with pytest.raises(HearingError, match="speech-to-text failed"):
        await transcriber.transcribe(on_the_line("Yes, please."))
    transcriber.close()


async def test_the_event_loop_goes_on_while_it_listens(
    ears: LocalTranscriber, on_the_line: OnTheLine
) -> None:
    speech = on_the_line("I would like to book an appointment for Tuesday.")
    task = asyncio.create_task(ears.transcribe(speech))
    turns = 0
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 10 and await task
