"""A plan, run against a machine whose answers are known."""

from __future__ import annotations

from dataclasses import dataclass

from runpod_server.bench.figures import LoadFigures
from runpod_server.bench.load import Observed
from runpod_server.bench.plan import Load, Plan
from runpod_server.bench.report import Level, Report
from runpod_server.bench.run import run


@dataclass
class Silent:
    """Nobody asks it for anything."""

    measured: int = 0

    def prepare(self) -> None:
        pass

    def measure(self, level: Level, loads: tuple[Load, ...]) -> None:
        self.measured += 1
        observed = Observed(0.0, 1_000.0, 0.0, (), ())
        level.loads["steady"] = LoadFigures.of(observed, plays=True, in_process=False)


def test_too_short_to_tell_is_said_and_ends_the_search() -> None:
    report, silent = Report(), Silent()
    run(Plan(streams=(1,), loads=("steady",), seconds=0.5, find_largest=True), silent, report)
    assert silent.measured == 1
    assert report.largest is None
    assert report.notes == [
        "1 stream, steady: nothing was asked for within 0.5 s, so whether it holds is not told; watch for "
        "longer: --seconds"
    ]
