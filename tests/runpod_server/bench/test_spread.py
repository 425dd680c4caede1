"""Percentiles: numbers that were really measured, never a mean of two."""

from __future__ import annotations

import pytest

from runpod_server.bench.spread import Spread, percentile


def test_percentiles_are_measured_numbers() -> None:
    rising = [float(number) for number in range(1, 101)]
    assert [percentile(rising, part) for part in (1, 50, 95, 99, 100)] == [1, 50, 95, 99, 100]


def test_of_few_numbers_the_high_percentiles_are_the_worst() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(count=3, p50=2.0, p95=3.0, p99=3.0, worst=3.0)
    assert Spread.of([7.0]) == Spread(count=1, p50=7.0, p95=7.0, p99=7.0, worst=7.0)


def test_the_median_of_two_is_the_smaller_one_that_half_do_not_exceed() -> None:
    assert percentile([1.0, 9.0], 50) == 1.0
    assert percentile([1.0, 9.0], 51) == 9.0


def test_nothing_measured_has_no_spread() -> None:
    assert Spread.of([]) is None
    for rising, part in (([], 50.0), ([1.0], 0.0), ([1.0], 101.0)):
        with pytest.raises(ValueError, match="percentile"):
            percentile(rising, part)
