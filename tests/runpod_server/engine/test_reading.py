from __future__ import annotations

import math
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_server.engine.pace import Pace, PaceRules
from runpod_server.engine.reading import Costs, Gap, ReadingQueue, ReadingRules
from runpod_server.engine.speech_plan import FRAME_MS

RULES = ReadingRules()
times = st.floats(0, 10_000)


def known(step_ms: float, read_ms: float, streams: int = 1_000_000) -> Costs:
    costs = Costs()
    costs.learn_read(read_ms)
    costs.learn_frame(step_ms, 0, streams)
    return costs


def read_in(gap: Gap, each_ms: float, waiting: int = 1000) -> int:
    """How many prompts it reads, each taking so long."""
    while gap.prompts < waiting and gap.allows_prompt(gap.prompts * each_ms):
        gap.prompts += 1
    return gap.prompts


class Same:
    """Items that cannot be told apart but by being themselves, nor compared."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


@given(st.lists(st.tuples(times, st.booleans())))
def test_the_earliest_due_goes_first_and_of_equals_who_came_first(coming: list[tuple[float, bool]]) -> None:
    queue: ReadingQueue[tuple[float, int]] = ReadingQueue()
    waiting: list[tuple[float, int]] = []
    for came, (due_ms, one_goes) in enumerate(coming):
        queue.put((due_ms, came), due_ms)
        waiting.append((due_ms, came))
        if one_goes:
            first = queue.first()
            assert first == min(waiting)
            queue.remove(first)
            waiting.remove(first)
        assert list(queue) == sorted(waiting)
    assert len(queue) == len(waiting)


@given(st.lists(times, max_size=20), st.lists(st.floats(0, 1000), max_size=50))
def test_nobody_waits_for_more_than_those_due_before(others: list[float], later: list[float]) -> None:
    """However many come with later dues, one after another: bounded waiting."""
    queue: ReadingQueue[str] = ReadingQueue()
    for due_ms in others:
        queue.put("other", due_ms)
    queue.put("ours", 5000.0)
    before = sum(due_ms <= 5000.0 for due_ms in others)
    for turn, more_ms in enumerate([*later, *[0.0] * 30]):
        queue.put(f"later {turn}", 5000.0 + more_ms)
        first = queue.first()
        if first == "ours":
            assert turn <= before
            return
        queue.remove(first)
    raise AssertionError("it starves")


def test_an_item_is_removed_and_hastened_by_what_it_is() -> None:
    queue: ReadingQueue[Same] = ReadingQueue()
    a, b, c = Same(), Same(), Same()
    for each, due_ms in ((a, 10.0), (b, 20.0), (c, 5.0)):
        queue.put(each, due_ms)
    queue.hasten(b, 5.0)
    assert [id(each) for each in queue] == [id(b), id(c), id(a)], "due with c, and came before it"
    queue.hasten(b, 50.0)
    assert queue.first() is b, "never later"
    queue.remove(b)
    queue.remove(b)
    assert [id(each) for each in queue] == [id(c), id(a)]
    with pytest.raises(IndexError):
        ReadingQueue[str]().first()


@given(
    st.lists(st.floats(-1000, 8000), min_size=1),
    st.floats(0.01, 100),
    st.floats(0.01, 100),
    st.integers(1, 99),
)
def test_reading_leaves_every_listener_the_margin_or_is_a_single_prompt(
    leads_ms: list[float], step_ms: float, read_ms: float, waiting: int
) -> None:
    gap = Gap(RULES, known(step_ms, read_ms), leads_ms, 0.0)
    prompts = read_in(gap, read_ms, waiting)
    assert 1 <= prompts <= waiting
    if prompts > 1:
        assert min(leads_ms) - prompts * read_ms - step_ms >= RULES.margin_ms - 1e-6
        assert prompts * read_ms <= RULES.longest_ms + 1e-6
    if (
        prompts < waiting and step_ms + read_ms < RULES.fullest * FRAME_MS
    ):  # one more would have been one too many
        more_ms = (prompts + 1) * read_ms
        assert more_ms > min(RULES.longest_ms, min(leads_ms) - step_ms - RULES.margin_ms) - 1e-6


@given(st.floats(1, 100), st.floats(0.01, 50), st.integers(1, 256))
def test_no_more_are_read_than_can_be_spoken_to_in_time(step_ms: float, read_ms: float, streams: int) -> None:
    """As if each made a frame longer by as much as those who speak already."""
    prompts = read_in(Gap(RULES, known(step_ms, read_ms, streams), [8000.0], 0.0), read_ms)
    if prompts > 1:
        assert step_ms * (1 + prompts / streams) + read_ms <= RULES.fullest * FRAME_MS + 1e-6


def test_while_nobody_is_spoken_to_a_gap_is_as_long_as_those_just_read_may_wait() -> None:
    assert read_in(Gap(RULES, known(25, 5), [], 0.0), 5) == 40
    assert read_in(Gap(RULES, Costs(), [], 0.0), 5) == 40, "even if it is not known what it takes"
    assert read_in(Gap(RULES, known(25, 5), [math.inf, 5000], 0.0), 5, waiting=256) == 40


def test_until_it_is_known_what_reading_takes_listeners_are_spared() -> None:
    assert read_in(Gap(RULES, Costs(), [5000], 0.0), 0) == 1


def test_a_prompt_that_takes_longer_than_foreseen_ends_the_gap() -> None:
    gap = Gap(RULES, known(25, 5), [100], 0.0)
    gap.prompts = 1
    assert gap.allows_prompt(10.0)
    assert not gap.allows_prompt(44.0)


@given(st.floats(1, 70), st.floats(0.5, 50), st.lists(st.integers(0, 4), min_size=200, max_size=200))
def test_what_a_frame_takes_is_foreseen(step_ms: float, read_ms: float, prompts: list[int]) -> None:
    """Starting from a guess that is nothing like it."""
    costs = Costs()
    costs.learn_read(0.1)
    for count in prompts:
        costs.learn_frame(step_ms + count * read_ms, count)
    assert costs.step_ms is not None and costs.read_ms is not None
    usual = prompts[-1]
    foreseen_ms = costs.step_ms + usual * costs.read_ms
    if prompts.count(usual) > 100:
        assert foreseen_ms == pytest.approx(step_ms + usual * read_ms, rel=0.05, abs=0.5)


def test_the_parts_are_told_apart_where_they_vary_and_follow_the_load() -> None:
    costs = Costs()
    costs.learn_read(0.1)
    for step_ms, read_ms in ((20.0, 5.0), (90.0, 12.0)):
        for turn in range(200):
            costs.learn_frame(step_ms + turn % 3 * read_ms, turn % 3)
        assert costs.step_ms == pytest.approx(step_ms, rel=0.02)
        assert costs.read_ms == pytest.approx(read_ms, rel=0.02)
    assert costs.is_slow
    for _ in range(20):
        costs.learn_frame(10.0, 0)
    assert not costs.is_slow


def served(
    rules: ReadingRules, arrivals: list[float], *, step_ms: float, read_ms: float, frames: int
) -> tuple[list[float], float]:
    """Waits for the first sound, and the least lead: the worker's loop with a model of fixed cost."""
    now_ms, costs, queue = 0.0, Costs(), ReadingQueue[int]()
    coming = deque(enumerate(sorted(arrivals)))
    came = dict(coming)
    paces: dict[int, Pace] = {}
    left: dict[int, int] = {}
    waits, least_ms = [], math.inf
    prompts_before: int | None = None
    while coming or queue or left:
        if not queue and not left:
            now_ms, prompts_before = max(now_ms, coming[0][1]), None
        began_ms = now_ms
        gap = Gap(rules, costs, [p.lead_ms(now_ms) for p in paces.values() if p.has_begun], now_ms)
        while True:
            while coming and coming[0][1] <= now_ms:
                who, at_ms = coming.popleft()
                queue.put(who, at_ms + rules.new_patience_ms)
            if not queue or not gap.allows_prompt(now_ms):
                break
            who = queue.first()
            queue.remove(who)
            paces[who], left[who] = Pace(PaceRules()), frames
            now_ms += read_ms
            costs.learn_read(read_ms)
            gap.prompts += 1
        now_ms += step_ms
        if prompts_before is not None:
            costs.learn_frame(now_ms - began_ms, gap.prompts, max(1, len(paces)))
        prompts_before = gap.prompts
        for who, pace in tuple(paces.items()):
            if pace.has_begun:
                least_ms = min(least_ms, pace.lead_ms(now_ms))
            else:
                waits.append(now_ms - came[who])
            pace.handed_over(1, now_ms)
            left[who] -= 1
            if not left[who]:
                del paces[who], left[who]
    return waits, least_ms


@given(st.lists(st.floats(0, 3000), min_size=1, max_size=80), st.floats(2, 40), st.floats(0.5, 10))
def test_no_lead_falls_below_the_margin_for_reading(
    arrivals: list[float], step_ms: float, read_ms: float
) -> None:
    """As a frame and a prompt together leave it of a frame's sound, a margin can be kept: it is."""
    waits, least_ms = served(RULES, arrivals, step_ms=step_ms, read_ms=read_ms, frames=12)
    assert len(waits) == len(arrivals)
    assert least_ms >= RULES.margin_ms - 1e-6


def test_many_at_once_wait_for_prompts_and_not_for_as_many_frames() -> None:
    rate = [index * 1000 / 64 for index in range(256)]
    one_a_gap = ReadingRules(longest_ms=0.0)
    for arrivals, much_less in (([0.0] * 256, 2.0), (rate, 5.0)):
        before, _ = served(one_a_gap, arrivals, step_ms=25.0, read_ms=3.0, frames=50)
        after, least_ms = served(RULES, arrivals, step_ms=25.0, read_ms=3.0, frames=50)
        assert max(after) * much_less < max(before)
        assert least_ms >= RULES.margin_ms - 1e-6
        assert RULES.margin_ms <= FRAME_MS - 25.0 - 3.0, "else it could not be kept"
