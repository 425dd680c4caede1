"""How long a caller waits, over whole calls through the real stack: `python benchmarks/turns.py --calls 3`.

Every call is the shipped `book-appointment` script: five spoken answers, one interruption, a number keyed in.
With `--at-once` calls run side by side. The last line is JSON; times are milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from backend.core.percentile import percentile
from backend.errors import BackendError
from backend.simulator.call_run import run_inbound
from backend.simulator.outcome import judge, write_outcome
from backend.simulator.report import CallReport, Expected, chunk_to_frame_ms
from backend.simulator.sample_scripts import read_script
from backend.simulator.stack import BACKEND_NUMBER, Stack, StackConfig

EXPECTED = Expected(
    nodes=("how_can_i_help", "which_day", "which_time", "your_name", "your_number", "confirm", "booked"),
    interruptions=1,
    ends="agent",
)


async def measure(options: argparse.Namespace) -> list[CallReport]:
    script = read_script("book-appointment")
    gate = asyncio.Semaphore(options.at_once)
    with tempfile.TemporaryDirectory() as run_dir:
        async with Stack(StackConfig(Path(run_dir), options.agents_dir, options.speech_url)) as stack:

            async def call(number: int) -> CallReport:
                async with gate:
                    evidence = await run_inbound(
                        stack, to=BACKEND_NUMBER, from_number=f"+1555020{number:04}", script=script,
                        codec=options.codec,
                    )  # fmt: skip
                report = judge(evidence, EXPECTED)
                broken = ", ".join(verdict.name for verdict in report.broken()) or "all held"
                print(f"call {number + 1}: {report.duration_ms / 1000:.0f} s, {broken}", flush=True)
                if options.out is not None:
                    write_outcome(evidence, report, options.out, f"call-{number + 1}", f"Call {number + 1}")
                return report

            return list(await asyncio.gather(*map(call, range(options.calls))))


def figures(values: Iterable[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {f"p{p}": round(percentile(known, p), 1) for p in (50, 95)} | {"n": len(known)}


def result(reports: list[CallReport], options: argparse.Namespace) -> dict[str, object]:
    answers = [answer for report in reports for answer in report.answers]
    said = sum(report.words.said_words for report in reports)
    return {
        "benchmark": "turns",
        "calls": options.calls,
        "at_once": options.at_once,
        "codec": options.codec,
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
        "answer_on_the_line_ms": figures(answer.line_ms for answer in answers if answer.line_ms >= 0),
        "talked_over_the_caller": sum(answer.line_ms < 0 for answer in answers),
        "recognised_ms": figures(answer.recognised_ms for answer in answers),
        "turn_ended_ms": figures(answer.turn_ended_ms for answer in answers),
        "first_chunk_ms": figures(answer.first_chunk_ms for answer in answers),
        "first_frame_ms": figures(answer.first_frame_ms for answer in answers),
        "chunk_to_frame_ms": figures(
            hop for report in reports for hop in chunk_to_frame_ms(report.agent_turns)
        ),
        "barge_in_ms": figures(barge_in.took_ms for report in reports for barge_in in report.barge_ins),
        "gaps": sum(len(report.gaps_ms) for report in reports),
        "word_error_rate": round(sum(report.words.errors for report in reports) / said, 4) if said else None,
        "calls_broken": sum(bool(report.broken(lenient_latency=True)) for report in reports),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--codec", choices=("PCMU", "PCMA"), default="PCMU")
    parser.add_argument("--agents-dir", type=Path, default=Path("agents"))
    parser.add_argument("--out", type=Path, help="keep recordings, pictures and records there")
    parser.add_argument("--speech-url", help="a speech server that already runs")
    options = parser.parse_args()
    try:
        reports = asyncio.run(measure(options))
    except BackendError as error:
        print(f"turns: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result(reports, options)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
