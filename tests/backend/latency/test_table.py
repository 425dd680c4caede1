"""The table stays aligned, whatever the figures are; too slow is marked."""

from __future__ import annotations

import io

from rich.console import Console

from backend.latency.figures import Failed, Measured, Run
from backend.latency.table import print_measured
from tests.backend.latency.made import measured, subject


def shown(*found: Measured, runs: int = 2, color: bool = False) -> str:
    console = Console(file=io.StringIO(), width=110, highlight=False, force_terminal=color)
    print_measured(console, found, {"elevenlabs": "set ELEVENLABS_API_KEY"}, runs)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_columns_stand_under_each_other() -> None:
    silent = Measured(subject("sesame_rest 2"), failed=[Failed("busy", "full")])
    output = shown(
        measured((1.25, 14, 30), (1234.5, 99.99, 12_000), own_ms=14.04),
        measured((1, 2, 3), label="elevenlabs_rest"),
        silent,
    )
    lines = output.splitlines()
    titles = next(line for line in lines if line.startswith("route"))
    ends = [at + 3 for at in range(len(titles)) if titles[at : at + 3] in ("min", "p50", "p95")]
    rows = [line for line in lines if line.startswith(("sesame_ws", "elevenlabs_rest", "sesame_rest"))][:3]
    for row in rows:
        cells = [row[: end + 1].split()[-1] for end in ends]
        assert all(row[end - 1] != " " and row[end : end + 1] in (" ", "") for end in ends), (row, cells)
    assert "  0.0" in next(line for line in lines if "added on the way" in line), "-0.04 is nought"
    assert "– elevenlabs: not configured: set ELEVENLABS_API_KEY" in output
    assert rows[2].endswith("0/1") and rows[1].split()[-1] == "1/1" and rows[0].split()[-1] == "2"


def test_a_voice_slower_than_its_speech_is_red() -> None:
    slow = Measured(subject(), [Run(1, 2, 1250, 1000, 48_000)])
    assert "\x1b[1;31m  1.25" in shown(slow, runs=1, color=True)
    assert "\x1b[1;31m" not in shown(measured((1, 2, 900)), runs=1, color=True)


def test_a_route_that_was_stopped_says_why() -> None:
    slow = measured((1, 2, 3))
    slow.stopped = "stopped after 60 s"
    assert "! sesame_ws: stopped after 60 s" in shown(slow, runs=9)
