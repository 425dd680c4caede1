"""Each key press is reported by the media socket and by webhook: it counts once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.dtmf import DtmfMerger, Source


@pytest.mark.parametrize("source", ["media", "webhook"])
def test_one_source_alone_is_enough(source: Source) -> None:
    merger = DtmfMerger()
    assert [merger.accept(source) for _ in range(5)] == [True] * 5


@pytest.mark.parametrize(("first", "second"), [("media", "webhook"), ("webhook", "media")])
def test_the_second_report_of_a_key_is_dropped(first: Source, second: Source) -> None:
    merger = DtmfMerger()
    assert merger.accept(first) and not merger.accept(second)
    assert merger.accept(first) and merger.accept(first)
    assert not merger.accept(second) and not merger.accept(second)
    assert merger.accept(second)


@given(st.lists(st.sampled_from(["media", "webhook"]), max_size=60))
def test_as_many_keys_as_the_fuller_source_told_in_its_order(reports: list[Source]) -> None:
    merger = DtmfMerger()
    told: dict[Source, int] = {"media": 0, "webhook": 0}
    keys: list[int] = []
    for source in reports:
        told[source] += 1
        if merger.accept(source):
            keys.append(told[source])  # which key of its source this was
    assert keys == list(range(1, max(told.values()) + 1))


def test_a_source_that_missed_keys_never_makes_one_count_twice() -> None:
    merger = DtmfMerger()
    # Two keys before the media stream began, then one that both tell of.
    assert [merger.accept("webhook"), merger.accept("webhook")] == [True, True]
    assert [merger.accept("media"), merger.accept("webhook")] == [False, True]
