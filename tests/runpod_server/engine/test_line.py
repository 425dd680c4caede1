from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_server.engine.line import Line, Place
from runpod_server.engine.preview import PreviewEngine, PreviewStream
from runpod_server.engine.request import SpeechRequest
from runpod_server.errors import Busy
from runpod_server.preview.voice import Piece


class HandClock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.ms = 0.0
        self.pending: list[Alarm] = []

    def now_ms(self) -> float:
        return self.ms

    def call_later(self, delay_ms: float, call: Callable[[], None]) -> Alarm:
        alarm = Alarm(self, self.ms + delay_ms, call)
        self.pending.append(alarm)
        return alarm

    def pass_ms(self, ms: float) -> None:
        self.ms += ms
        for alarm in [each for each in self.pending if each.due_ms <= self.ms]:
            alarm.cancel()
            alarm.call()


class Alarm:
    def __init__(self, clock: HandClock, due_ms: float, call: Callable[[], None]) -> None:
        self.clock, self.due_ms, self.call = clock, due_ms, call

    def cancel(self) -> None:
        if self in self.clock.pending:
            self.clock.pending.remove(self)


class ScriptedVoice:
    """A text is how long its sentences are: "3000 500" is one of 3 s and one of half a second."""

    def speak(self, text: str, *_: object, **__: object) -> Iterator[Piece]:
        lengths = [int(word) for word in text.split()]
        for number, ms in enumerate(lengths, 1):
            yield Piece(np.zeros(24 * ms, np.float32), is_last=number == len(lengths))


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def engine(clock: HandClock) -> AsyncIterator[PreviewEngine]:
    """One slot, one place to wait."""
    engine = PreviewEngine(max_streams=1, max_queue=1, clock=clock)
    engine.voice = ScriptedVoice()  # type: ignore[assignment]
    yield engine
    await engine.close()


def opened(engine: PreviewEngine, text: str) -> PreviewStream:
    return engine.open(SpeechRequest(text=text, request_id=text))


async def asking(stream: PreviewStream) -> asyncio.Task[bytes | None]:
    """Its next sentence is awaited."""
    task: asyncio.Task[bytes | None] = asyncio.ensure_future(anext(stream, None))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    return task


def counts(engine: PreviewEngine) -> tuple[int, int]:
    return engine.status().active, engine.status().waiting


async def test_who_is_far_ahead_makes_way_and_goes_on_when_nobody_waits(engine: PreviewEngine) -> None:
    first = opened(engine, "3000 3000")
    await anext(first)
    second, third = opened(engine, "3000"), opened(engine, "3000")
    assert counts(engine) == (1, 1)
    goes_on = await asking(first)
    await second.admitted()
    await anext(second)
    await anext(third)
    assert len(await goes_on or b"") == 3000 * 48
    assert (first.reason, counts(engine)) == ("eos", (0, 0))


async def test_who_waits_already_gets_the_slot_with_the_sentence_that_puts_its_holder_ahead(
    engine: PreviewEngine,
) -> None:
    first, second = opened(engine, "1500 1500 1500"), opened(engine, "100 100")
    await anext(first)
    assert counts(engine) == (1, 1)
    await anext(first)
    assert counts(engine) == (1, 0)
    assert await anext(second)


async def test_alone_nobody_stops_for_being_ahead(engine: PreviewEngine, clock: HandClock) -> None:
    first = opened(engine, "9000 9000 9000")
    assert [len(piece) async for piece in first] == [9000 * 48] * 3
    assert not clock.pending


@pytest.mark.parametrize(
    "sentence_ms, asks_after_ms, aside_ms", [(2500, 0, 1000), (9000, 0, 1000), (2500, 1100, 400)]
)
async def test_it_goes_before_new_callers_when_near_and_never_waits_long(
    engine: PreviewEngine, clock: HandClock, sentence_ms: int, asks_after_ms: int, aside_ms: int
) -> None:
    first = opened(engine, f"{sentence_ms} 100")
    await anext(first)
    second, third = opened(engine, "100 100"), opened(engine, "100")
    clock.pass_ms(asks_after_ms)
    goes_on = await asking(first)
    clock.pass_ms(aside_ms - 1)
    await anext(second)
    assert len(clock.pending) == 1
    clock.pass_ms(1)
    assert not clock.pending
    second.cancel()
    assert await goes_on
    assert await anext(third)


async def test_who_asks_late_goes_before_new_callers_at_once(engine: PreviewEngine, clock: HandClock) -> None:
    first = opened(engine, "2500 100")
    await anext(first)
    second, third = opened(engine, "100 100"), opened(engine, "100")
    clock.pass_ms(1500)
    goes_on = await asking(first)
    second.cancel()
    assert await goes_on
    assert await anext(third)


async def test_who_only_comes_back_is_behind_new_callers(engine: PreviewEngine) -> None:
    first = opened(engine, "9000 100")
    await anext(first)
    second, third = opened(engine, "100 100"), opened(engine, "100 100")
    goes_on = await asking(first)
    second.cancel()
    assert await anext(third)
    assert not goes_on.done()
    third.cancel()
    assert await goes_on


async def test_coming_back_is_never_refused_and_takes_no_place_in_the_queue(engine: PreviewEngine) -> None:
    aside = []
    for _ in range(5):
        stream = opened(engine, "9000 100")
        await anext(stream)
        aside.append(stream)
    holder = opened(engine, "100 100")
    come_back = [await asking(each) for each in aside]
    assert counts(engine) == (1, 0)
    waiting = opened(engine, "100")
    with pytest.raises(Busy):
        opened(engine, "100")
    holder.cancel()
    assert await anext(waiting)
    assert all(await asyncio.gather(*come_back))
    assert counts(engine) == (0, 0)


async def test_who_is_not_ahead_keeps_its_slot(engine: PreviewEngine) -> None:
    first = opened(engine, "1900 100")
    await anext(first)
    second = opened(engine, "100")
    assert counts(engine) == (1, 1)
    assert await anext(first)
    assert await anext(second)


async def test_a_slot_is_not_taken_from_whom_a_sentence_is_made_for(engine: PreviewEngine) -> None:
    first = opened(engine, "9000 9000 100")
    await anext(first)
    making = await asking(first)
    second = opened(engine, "100")
    assert counts(engine) == (1, 1)
    assert await making
    assert counts(engine) == (1, 0)
    assert await anext(second)


async def test_a_slot_is_free_with_the_last_sentence_before_that_is_delivered(engine: PreviewEngine) -> None:
    first = opened(engine, "100")
    await anext(first)
    assert (first.reason, counts(engine)) == ("eos", (0, 0))
    assert await anext(first, None) is None


@pytest.mark.parametrize("hurried", [False, True])
@pytest.mark.parametrize("how", ["cancel", "vanish", "close"])
async def test_who_made_way_and_goes_leaves_nothing_behind(
    engine: PreviewEngine, clock: HandClock, how: str, hurried: bool
) -> None:
    async def consume() -> None:
        with first:
            async for _ in first:
                raise AssertionError("it has no slot")

    first = opened(engine, "9000 100")
    await anext(first)
    newcomer = opened(engine, "100 100")
    consumer = asyncio.create_task(consume())
    await asyncio.sleep(0)
    assert len(clock.pending) == 1
    clock.pass_ms(1000.0 if hurried else 0.0)
    if how == "cancel":
        first.cancel()
    elif how == "vanish":
        consumer.cancel()
    else:
        await engine.close()
    await asyncio.wait({consumer})
    assert (first.reason, clock.pending) == ("cancelled", [])
    newcomer.cancel()
    assert counts(engine) == (0, 0)
    if how != "close":
        assert await anext(opened(engine, "100"))


async def test_cancelled_between_two_sentences_without_a_slot(engine: PreviewEngine) -> None:
    first = opened(engine, "9000 100")
    await anext(first)
    second = opened(engine, "100 100")
    first.cancel()
    assert counts(engine) == (1, 0)
    assert await anext(first, None) is None
    second.cancel()
    assert counts(engine) == (0, 0)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["enter", "ask", "give", "leave", "pass"]), st.integers(0, 9), st.integers(1, 5000)
    ),
    max_size=80,
)


@given(st.integers(1, 3), st.integers(0, 3), STEPS)
def test_no_slot_is_lost_or_idle_whatever_happens(
    capacity: int, room: int, steps: list[tuple[str, int, int]]
) -> None:
    asyncio.run(_whatever_happens(capacity, room, steps))


async def _whatever_happens(capacity: int, room: int, steps: list[tuple[str, int, int]]) -> None:
    clock = HandClock()
    line = Line(capacity, room, clock)
    here: list[Place] = []
    asked: dict[Place, object] = {}
    for what, which, ms in steps:
        place = here[which % len(here)] if here else None
        if what == "enter":
            try:
                here.append(line.enter())
            except Busy:
                assert (line.slots.active, line.slots.waiting) == (capacity, room)
        elif what == "pass":
            clock.pass_ms(ms)
        elif place is not None and what == "ask" and place not in asked:
            asked[place] = place.asked()
            asked[place].__enter__()  # type: ignore[attr-defined]
        elif place is not None and what == "give" and place in asked and _holds(place):
            asked.pop(place).__exit__(None, None, None)  # type: ignore[attr-defined]
            place.handed_over(ms)
        elif place is not None and what == "leave":
            here.remove(place)
            place.leave()
            asked.pop(place, None)
        assert sum(map(_holds, here)) == line.slots.active <= capacity
        wanting = [each for each in asked if not _holds(each)]
        assert line.slots.active == capacity or not (wanting or line.slots.waiting)
        now_ms = clock.now_ms()
        assert not line.slots.waiting or not any(each.can_spare(now_ms) for each in here)
    for place in here:
        place.leave()
    assert (line.slots.active, line.slots.waiting, clock.pending) == (0, 0, [])


def _holds(place: Place) -> bool:
    return place._slot.done() and not place._slot.cancelled()
