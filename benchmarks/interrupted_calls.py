"""How fast the agent falls silent and how fast it answers, over many short calls that interrupt it.

Starts the whole system, lets callers with different words, voices and codecs interrupt the greeting at
different moments, then ask something. Prints one line per call and one JSON line with the distributions last:

    .venv/bin/python benchmarks/interrupted_calls.py [--calls 10] [--agents-dir agents]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backend.errors import BackendError
from backend.simulator.call_run import run_inbound
from backend.simulator.outcome import judge
from backend.simulator.report import CallReport, Expected
from backend.simulator.stack import BACKEND_NUMBER, Stack, StackConfig

_CALLER = "+15550100077"
# All of them lead to nodes that listen: statements of the agent cannot be interrupted.
_PHRASES = (
    "Sorry, I would like to book an appointment.",
    "Hi, can I book an appointment?",
    "Wait, is this where I book a visit?",
    "Oh, I need to see a doctor.",
    "Excuse me, I want to see a doctor.",
    "Actually, I want an appointment.",
    "Hello? I want to book a visit.",
    "Um, could I make an appointment?",
    "Yes, an appointment please.",
    "Okay okay, just book me an appointment.",
    "Please, I am in a hurry, book me an appointment.",
    "Appointment.",
)
_AFTER_MS = (150, 300, 600, 900, 1_200, 1_600, 2_000, 2_400, 2_900, 3_600)
_PITCHES = (1.18, 0.85, 1.45)


def after_ms(number: int) -> int:
    """How long after the agent's first sound this caller speaks."""
    return _AFTER_MS[number % len(_AFTER_MS)]


def script(number: int) -> dict[str, Any]:
    """The caller of the call with this number: every combination is another one."""
    return {
        "voice": {"pitch": _PITCHES[number % len(_PITCHES)]},
        "steps": [
            {"interrupt_after_ms": after_ms(number), "say": _PHRASES[number % len(_PHRASES)]},
            # The agent answers, and is interrupted in that, too.
            {"interrupt_after_ms": after_ms(number + 3) // 2, "say": "Yes, on Tuesday."},
            {"wait_until_quiet": True, "quiet_ms": 1_500},
            {"hang_up": True},
        ],
    }


async def measure(calls: int, agents_dir: Path, run_dir: Path) -> list[CallReport]:
    """One call after another, so that they do not slow each other down."""
    reports = []
    async with Stack(StackConfig(run_dir=run_dir, agents_dir=agents_dir)) as stack:
        for number in range(calls):
            evidence = await run_inbound(
                stack, to=BACKEND_NUMBER, from_number=_CALLER, script=script(number),
                codec="PCMA" if number % 2 else "PCMU",
            )  # fmt: skip
            report = judge(evidence, Expected(interruptions=2))
            reports.append(report)
            took = " ".join(f"{barge.took_ms:.0f}" for barge in report.barge_ins) or "none"
            answers = " ".join(f"{answer.line_ms:.0f}" for answer in report.answers) or "none"
            print(
                f"{number:3} {report.codec} after {after_ms(number):4} ms "
                f"{_PHRASES[number % len(_PHRASES)]!r}: barge-in {took}; answers {answers}; "
                f"gaps {len(report.gaps_ms)}; heard {[turn.text for turn in report.caller_turns]}",
                flush=True,
            )
    return reports


def distribution(values: Sequence[float]) -> dict[str, float | int]:
    """Count, smallest, median, 95th percentile and largest, in whole milliseconds."""
    if not values:
        return {"count": 0}
    ordered = sorted(values)
    at95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {
        "count": len(ordered),
        "min": round(ordered[0]),
        "p50": round(statistics.median(ordered)),
        "p95": round(at95),
        "max": round(ordered[-1]),
    }


def main() -> int:
    """Exit status 1 when the system could not be started or a call failed altogether."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--agents-dir", type=Path, default=Path("agents"))
    parser.add_argument("--run-dir", type=Path, help="keep the logs there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            reports = asyncio.run(measure(given.calls, given.agents_dir, given.run_dir or Path(scratch)))
        except BackendError as error:
            print(error, file=sys.stderr)
            return 1
    figures = {
        "calls": len(reports),
        "barge_in_ms": distribution([b.took_ms for report in reports for b in report.barge_ins]),
        "barge_in_missed": sum(max(0, 2 - len(report.barge_ins)) for report in reports),
        "answer_ms": distribution([a.line_ms for report in reports for a in report.answers]),
        "gaps": sum(len(report.gaps_ms) for report in reports),
        "failed": [report.ending for report in reports if report.state != "ended"],
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
