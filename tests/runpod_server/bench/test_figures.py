"""Figures from what callers heard, written down by hand."""

from __future__ import annotations

from typing import Any

import pytest

from runpod_server.bench.figures import LoadFigures
from runpod_server.bench.load import Listening, Observed
from runpod_server.bench.playout import Playout

START_MS, END_MS = 10_000.0, 20_000.0


def listening(asked_ms: float, *chunks: tuple[float, float], over: bool = True, **fields: Any) -> Listening:
    """Chunks as (when, ms of sound)."""
    playout = Playout(asked_ms)
    for at_ms, audio_ms in chunks:
        playout.hear(audio_ms, at_ms)
    wanted_ms = fields.pop("wanted_ms", round(playout.audio_ms))
    return Listening(wanted_ms, playout, is_over=over, **fields)


def figures(*listenings: Listening, chunks: Any = (), cpu_s: float = 5.0) -> LoadFigures:
    observed = Observed(START_MS, END_MS, cpu_s, listenings, tuple(chunks))
    return LoadFigures.of(observed, plays=True, in_process=True)


def test_the_first_sound_counts_of_those_who_asked_in_the_window() -> None:
    found = figures(
        listening(9_000, (9_500, 2000)),  # before it
        listening(11_000, (11_100, 80)),
        listening(12_000, (12_300, 80)),
        listening(21_000, (21_900, 80)),  # after it
    )
    assert (found.asked, found.utterances) == (2, 3)
    assert found.first_audio_ms is not None
    assert (found.first_audio_ms.p50, found.first_audio_ms.worst) == (100, 300)


def test_who_still_waits_counts_with_the_time_waited() -> None:
    found = figures(listening(11_000, (11_100, 80)), listening(15_000, over=False))
    assert found.waiting == 1
    assert found.first_audio_ms is not None and found.first_audio_ms.worst == 5_000
    assert not found.holds(10_000)


def test_who_was_declined_is_told_apart() -> None:
    declined = listening(11_000, over=False, declined="busy", why="all 4 streams are taken")
    found = figures(declined, listening(12_000, (12_100, 80)))
    assert found.declined == {"busy": 1}
    assert found.why_declined == "all 4 streams are taken"
    assert found.first_audio_ms is not None and found.first_audio_ms.count == 1
    assert not found.holds(400)


def test_gaps_of_all_who_listened() -> None:
    torn = listening(9_900, (10_000, 80), (10_200, 80), (10_400, 80))
    found = figures(torn, listening(12_000, (12_100, 80)))
    assert (found.underruns, found.torn, found.utterances) == (2, 1, 2)
    assert found.longest_gap_ms == 120
    assert not found.holds(400)


def test_holds_within_its_limit_only() -> None:
    found = figures(listening(11_000, (11_300, 80)))
    assert found.holds(300) and not found.holds(299)


def test_where_nothing_was_asked_for_nothing_is_told_unless_something_broke() -> None:
    assert figures().holds(400) is None
    assert figures(listening(9_900, (10_000, 80), (10_200, 80))).holds(400) is False


def test_frames_are_counted_in_the_window() -> None:
    chunks = [(9_999.0, 800.0), (10_000.0, 80.0), (19_999.0, 320.0), (20_000.0, 80.0)]
    found = figures(chunks=chunks)
    assert found.frames_per_s == pytest.approx(0.5)
    assert found.audio_s == pytest.approx(0.4)
    assert found.cpu_frames_per_s == pytest.approx(1.0)


def test_how_many_listened_on_average() -> None:
    half = listening(9_000, (10_000, 5_000))  # plays for half of the window
    whole = listening(9_000, (9_100, 80), over=False)
    assert figures(half, whole).listening == pytest.approx(1.5)


def test_utterances_that_ended_before_their_length() -> None:
    found = figures(listening(11_000, (11_100, 80), wanted_ms=160), listening(12_000, (12_100, 80)))
    assert found.ended_early == 1
