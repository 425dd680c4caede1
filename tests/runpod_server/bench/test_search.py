"""The search for the largest number that holds, against machines that hold just so many."""

from __future__ import annotations

import pytest

from runpod_server.bench.search import largest, next_to_try


def search(limit: int, *, most: int = 1024, tried: tuple[int, ...] = ()) -> dict[int, bool]:
    held = {streams: streams <= limit for streams in tried}
    while (streams := next_to_try(held, most=most)) is not None:
        assert streams not in held and 1 <= streams <= most
        held[streams] = streams <= limit
        assert len(held) < 40
    return held


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 7, 15, 16, 17, 100, 255, 256, 300, 1000])
def test_finds_it_within_a_sixteenth(limit: int) -> None:
    found = largest(search(limit))
    assert found <= limit
    assert limit - found <= max(0, limit // 16)


def test_takes_few_tries() -> None:
    assert len(search(300)) <= 15


def test_goes_on_from_what_was_measured() -> None:
    held = search(300, tried=(1, 64, 256))
    assert min(set(held) - {1, 64, 256}) > 256


def test_nothing_holds() -> None:
    assert largest(search(0)) == 0
    assert next_to_try({16: False}, most=1024) is not None


def test_ends_at_the_most_there_may_be() -> None:
    assert largest(search(5000)) == 1024


def test_a_larger_number_that_held_by_chance_does_not_count() -> None:
    assert largest({4: True, 8: False, 16: True}) == 4
