"""The report as a table and as JSON, whole and cut short."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runpod_server.bench.figures import LoadFigures
from runpod_server.bench.report import Level, Memory, Rate, Report
from runpod_server.bench.roofline import FrameBytes
from runpod_server.bench.spread import Spread
from runpod_server.bench.table import as_table, columns

GIB = 2**30


def figures(frames_per_s: float, **changes: Any) -> LoadFigures:
    fields: dict[str, Any] = {
        "asked": 5, "first_audio_ms": Spread.of([90.0, 120.0]), "waiting": 0, "declined": {},
        "why_declined": "", "ended_early": 0, "real_time_factor": Spread.of([0.25]), "underruns": 0,
        "torn": 0, "utterances": 5, "longest_gap_ms": 0.0, "frames_per_s": frames_per_s, "audio_s": 8.0,
        "listening": 4.0, "cpu_frames_per_s": frames_per_s / 2,
    }  # fmt: skip
    return LoadFigures(**(fields | changes))


def report() -> Report:
    made = Report(first_audio_limit_ms=400.0)
    made.frame_bytes, made.bytes_per_s = FrameBytes(10**8, 9 * 10**8, 0, 1000), 100e9
    level = Level(4, loads={"flat-out": figures(200.0), "steady": figures(50.0)})
    level.steps = made.steps_of(Spread.of([20.0, 20.0, 30.0]), streams=4, positions=1000)
    level.generate_single, level.generate_batch = Rate(1, 25, 10.0, 5.0), Rate(4, 25, 40.0, None)
    level.memory = Memory(GIB, None, None, None)
    made.levels = [level]
    return made


def test_the_roofline_is_what_memory_alone_would_take() -> None:
    steps = report().levels[0].steps
    assert steps is not None
    assert steps.least_ms == pytest.approx(10.01)
    assert steps.roofline == pytest.approx(0.5005)


def test_so_many_times_as_fast() -> None:
    level = report().levels[0]
    assert level.speedup(level.generate_single) == 20
    assert level.cpu_speedup(level.generate_single) == 20
    assert level.cpu_speedup(level.generate_batch) is None
    assert level.speedup(Rate(4, why="out of memory")) is None


def test_the_table_says_it_all() -> None:
    text = as_table(report())
    for words in ("memory copies 100.0 GB/s", "generate ×1", "20.0 ×", "5.0 ×", "50.0%", "1.00", "yes"):
        assert words in text
    assert "largest" not in text


def test_cut_short_it_says_so_and_shows_what_is_there() -> None:
    made = report()
    made.levels.append(Level(8, failure="8 streams do not fit"))
    made.levels.append(Level(16))
    made.interrupted, made.largest = True, 4
    text = as_table(made)
    assert "8 streams: 8 streams do not fit" in text
    assert "interrupted" in text
    assert "4 streams" in text and "20.0 ×" in text
    assert as_table(Report(failure="no memory")) == "ended before its end: no memory"


def test_json_is_one_line_with_what_follows_from_the_figures() -> None:
    line = report().as_json()
    assert "\n" not in line
    (level,) = json.loads(line)["levels"]
    assert level["speedup_over_generate"] == 20
    assert level["speedup_over_generate_batch"] == 5
    assert level["holds"] is True
    assert level["joules_per_audio_s"] is None


def test_a_declined_caller_or_a_failure_does_not_hold() -> None:
    assert not Level(4, loads={"steady": figures(50.0, declined={"busy": 1})}).holds(400)
    assert not Level(4, loads={"steady": figures(50.0)}, failure="no memory").holds(400)
    assert not Level(4, loads={"flat-out": figures(50.0)}).holds(400)


def test_nothing_asked_for_is_no_verdict() -> None:
    made = report()
    made.levels[:] = [Level(1, loads={"steady": figures(0.0, asked=0, first_audio_ms=None)})]
    assert json.loads(made.as_json())["levels"][0]["holds"] is None
    row = next(line for line in as_table(made).splitlines() if "steady" in line)
    assert row.split()[-1] == "–"


def test_memory_of_the_gpu_where_there_is_one() -> None:
    assert Memory(GIB, 2 * GIB, 3 * GIB, 4 * GIB).shown == 4 * GIB
    assert Memory(GIB, 2 * GIB, 3 * GIB, None).shown == 3 * GIB
    assert Memory(GIB, None, None, None).shown == GIB


def test_headings_reach_over_the_columns_they_stand_for() -> None:
    text = columns([["n", "wide heading", "", "x"], ["", "a", "b", ""], ["1", "2", "3", "4"]])
    assert text.splitlines() == ["n  wide heading  x", "           a  b", "1          2  3  4"]
