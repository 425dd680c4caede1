"""What is asked for: whole frames, scattered about the mean, the same in every run."""

from __future__ import annotations

import itertools
import statistics

import pytest

from runpod_server.bench.script import Script, longest_frames, poisson_gaps, text_lasting


def test_the_same_in_every_run() -> None:
    first, second = Script(4000), Script(4000)
    assert [first.next() for _ in range(20)] == [second.next() for _ in range(20)]


def test_lengths_are_whole_frames_scattered_about_the_mean() -> None:
    script = Script(4000)
    lengths_ms = [script.next().audio_ms for _ in range(500)]
    assert all(ms % 80 == 0 for ms in lengths_ms)
    assert statistics.fmean(lengths_ms) == pytest.approx(4000, rel=0.05)
    assert min(lengths_ms) >= 2000 - 80 and max(lengths_ms) <= 80 * longest_frames(4000)
    assert len(set(lengths_ms)) > 30


def test_the_shortest_is_one_frame() -> None:
    assert Script(1).next().audio_ms == 80


def test_a_tokenizer_of_bytes_gets_as_many_tokens_as_an_ordinary_one() -> None:
    assert len(text_lasting(7000, 1)) == 100
    assert len(text_lasting(7000, 4)) == 25
    assert len(text_lasting(60_000, 1)) > 800
    assert text_lasting(10, 4)


def test_poisson_gaps_have_the_rate_asked_for_and_are_seeded() -> None:
    gaps_s = list(itertools.islice(poisson_gaps(8.0), 4000))
    assert statistics.fmean(gaps_s) == pytest.approx(1 / 8, rel=0.05)
    assert statistics.stdev(gaps_s) == pytest.approx(1 / 8, rel=0.1)
    assert gaps_s[:5] == list(itertools.islice(poisson_gaps(8.0), 5))
