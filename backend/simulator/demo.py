"""The demonstration: one inbound and one outbound call through the whole system, judged and written down."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.rule import Rule

from backend.simulator.call_run import Evidence, Listener, run_inbound, run_outbound
from backend.simulator.outcome import judge, write_outcome
from backend.simulator.report import CallReport, Expected
from backend.simulator.sample_scripts import read_script
from backend.simulator.show import ConversationView, print_report
from backend.simulator.stack import BACKEND_NUMBER, Stack, StackConfig

_CALLER = "+15550100077"
_PATIENT = "+15550100042"


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    title: str
    expected: Expected
    run: Callable[[Stack, Listener], Awaitable[Evidence]]


def _book(stack: Stack, listener: Listener) -> Awaitable[Evidence]:
    script = read_script("book-appointment")
    return run_inbound(stack, to=BACKEND_NUMBER, from_number=_CALLER, script=script, listener=listener)


def _remind(stack: Stack, listener: Listener) -> Awaitable[Evidence]:
    return run_outbound(
        stack, agent_id="reminder", to=_PATIENT, variables=_REMINDER_VARIABLES,
        script=read_script("reminder-confirm"), listener=listener,
    )  # fmt: skip


_REMINDER_VARIABLES = {"name": "Maria", "appointment_day": "Tuesday", "appointment_time": "ten o'clock"}

_CALLS = (
    _Call(
        "call-inbound",
        "Inbound: Maria books an appointment",
        Expected(
            nodes=(
                "how_can_i_help", "which_day", "which_time", "your_name", "your_number", "confirm", "booked",
            ),
            interruptions=1,
            ends="agent",
        ),
        _book,
    ),
    _Call(
        "call-outbound",
        "Outbound: Maria is reminded of it",
        Expected(nodes=("who_is_there", "remind", "confirmed"), ends="agent"),
        _remind,
    ),
)  # fmt: skip


async def run_demo(console: Console, out_dir: Path, agents_dir: Path, *, lenient_latency: bool) -> int:
    """Both calls. → exit status: 0, or 1 when something that must hold did not.

    Raises BackendError with a sentence when the demonstration could not be held at all.
    """
    began_s = time.monotonic()
    console.print("Starting the speech server, the Telnyx stand-in and the backend …")
    reports: list[tuple[_Call, CallReport]] = []
    async with Stack(StackConfig(run_dir=out_dir / "run", agents_dir=agents_dir)) as stack:
        console.print(
            f"[dim]ready after {time.monotonic() - began_s:.1f} s; logs are in {out_dir / 'run'}[/]"
        )
        for call in _CALLS:
            console.print()
            console.print(Rule(f"[bold]{call.title}[/]", align="left"))
            evidence = await call.run(stack, ConversationView(console))
            report = judge(evidence, call.expected)
            console.print()
            print_report(console, report)
            write_outcome(evidence, report, out_dir, call.name, call.title)
            reports.append((call, report))
    return _conclude(console, out_dir, reports, lenient_latency, time.monotonic() - began_s)


def _conclude(
    console: Console, out_dir: Path, reports: list[tuple[_Call, CallReport]], lenient: bool, took_s: float
) -> int:
    console.print()
    console.print(Rule())
    broken = [
        (call, verdict) for call, report in reports for verdict in report.broken(lenient_latency=lenient)
    ]
    for call, verdict in broken:
        told = f"✗ {call.title}: {verdict.name} is {verdict.figure}, must be {verdict.limit}"
        console.print(
            f"[bold red]{escape(told)}[/]" + (escape(f" – {verdict.detail}") if verdict.detail else "")
        )
    if not broken:
        console.print(f"[bold green]✓ Everything that must hold, held[/] [dim]({took_s:.0f} s)[/]")
    elif all(verdict.severity == "latency" for _, verdict in broken):
        console.print("Only the machine was too slow for it; --lenient-latency lets that pass.")
    console.print(f"Listen and look: {out_dir}/call-*.wav, .png, .txt, .json")
    return 1 if broken else 0
