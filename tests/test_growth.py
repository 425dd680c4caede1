"""A leak is told from noise."""

from __future__ import annotations

import random

import pytest

from tests.growth import steady_growth


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_is_no_growth_and_a_leak_beneath_it_is(seed: int) -> None:
    draw = random.Random(seed)
    noise = [draw.uniform(-150.0, 150.0) for _ in range(9)]
    assert steady_growth([5_000.0 + one for one in noise]) < 30.0
    leaking = [5_000.0 + one + 24 * 8.0 * at for at, one in enumerate(noise)]
    assert steady_growth(leaking) > 100.0


def test_one_high_reading_at_the_end_is_no_growth() -> None:
    assert steady_growth([100.0] * 8 + [400.0]) == 0.0


def test_what_levels_off_is_judged_by_where_it_levels_off() -> None:
    assert steady_growth([100.0, 180.0, 200.0, 201.0, 200.0, 199.0, 200.0, 201.0]) < 5.0
