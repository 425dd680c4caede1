"""A caller's pace: bounded, quick to give time, slow to take it back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.pauses import LEAST, MOST, CallerPace

_pauses = st.tuples(st.floats(allow_nan=True), st.sampled_from([0.0, 240.0, 320.0, 900.0]))


def test_everybody_begins_alike() -> None:
    assert CallerPace().factor == pytest.approx(1.0)


@given(st.lists(_pauses | st.none(), max_size=50))
def test_whatever_happens_the_factor_stays_in_its_bounds(happened: list[tuple[float, float] | None]) -> None:
    pace = CallerPace()
    for what in happened:
        if what is None:
            pace.fluent()
        else:
            pace.paused(*what, usual_ms=320.0)
        assert LEAST <= pace.factor <= MOST


@given(st.floats(160, 2_000), st.integers(1, 10))
def test_the_next_wait_outlasts_the_pause_just_heard(pause_ms: float, times: int) -> None:
    pace = CallerPace()
    for _ in range(times):
        pace.paused(pause_ms, 320.0, 320.0)
    assert 320.0 * pace.factor >= min(pause_ms, 320.0 * MOST) or math.isclose(pace.factor, MOST)


@given(st.lists(st.floats(0, 2_000), max_size=20), st.floats(0, 1_000), st.floats(0, 1_000))
def test_longer_pauses_never_shorten_the_wait(before: list[float], one: float, other: float) -> None:
    factors = []
    for pause_ms in sorted((one, other)):
        pace = CallerPace()
        for each in (*before, pause_ms):
            pace.paused(each, 320.0, 320.0)
        factors.append(pace.factor)
    assert factors[0] <= factors[1]


def test_one_long_pause_is_forgiven_in_time() -> None:
    pace = CallerPace()
    pace.paused(800.0, 320.0, 320.0)
    assert pace.factor == MOST
    for _ in range(40):
        pace.paused(170.0, 320.0, 320.0)
    assert pace.factor < 1.0


def test_a_pause_after_a_word_that_leaves_something_open_says_less() -> None:
    dangling, whole = CallerPace(), CallerPace()
    dangling.paused(500.0, 900.0, 320.0)
    whole.paused(500.0, 320.0, 320.0)
    assert 1.0 < dangling.factor < whole.factor
