"""A listener in real time: what it waits for, and where its playing breaks off."""

from __future__ import annotations

import pytest

from runpod_server.bench.playout import Playout


def heard(*chunks: tuple[float, float], asked_ms: float = 1000.0) -> Playout:
    """Chunks as (when, ms of sound)."""
    playout = Playout(asked_ms)
    for at_ms, audio_ms in chunks:
        playout.hear(audio_ms, at_ms)
    return playout


def test_plays_from_its_first_chunk_on() -> None:
    playout = heard((1120, 80), (1150, 80), (1240, 320))
    assert playout.first_audio_ms == 120
    assert playout.ends_ms == 1120 + 480
    assert (playout.underruns, playout.longest_gap_ms) == (0, 0)


def test_sound_that_comes_just_in_time_leaves_no_gap() -> None:
    assert heard((1100, 80), (1180, 80), (1260, 80)).underruns == 0


def test_every_moment_without_sound_is_a_gap_and_what_follows_is_later_by_it() -> None:
    playout = heard((1100, 80), (1190, 80), (1260, 80), (1400, 80))
    assert playout.underruns == 2
    assert playout.longest_gap_ms == 1400 - (1190 + 80 + 80)
    assert playout.ends_ms == 1480


def test_the_end_of_an_utterance_is_no_gap() -> None:
    playout = heard((1100, 80))
    assert (playout.underruns, playout.ends_ms) == (0, 1180)


def test_real_time_factor_counts_from_the_first_chunk() -> None:
    assert heard((5000, 80), (5040, 80), (5080, 80)).real_time_factor == pytest.approx(0.5)
    assert heard((5000, 80)).real_time_factor is None
    assert heard().real_time_factor is None


def test_nothing_heard_yet() -> None:
    playout = heard()
    assert playout.first_audio_ms is None
    assert playout.ends_ms == 1000
