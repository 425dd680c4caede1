"""What was measured, on the terminal. Shows; computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backend.core.speech import RouteName
from backend.latency.figures import Measured, Spread
from backend.latency.subjects import Subject

_GROUPS = (
    ("connect ms", "connect_ms"),
    ("first chunk ms", "first_chunk_ms"),
    ("total ms", "total_ms"),
    ("real-time factor", "real_time_factor"),
)
_OF_WHICH = (("its server's own", "server_first_ms"), ("added on the way", "added_ms"))
_WIDTH = 6


def print_subject(console: Console, subject: Subject) -> None:
    """A line for a route that is going to be measured."""
    about = f"{subject.server}, voice {subject.voice} ({subject.agent})"
    console.print(f"[dim]measuring[/] {escape(subject.label):<17}[dim]{escape(about)}[/]", soft_wrap=True)


def print_measured(
    console: Console, found: Sequence[Measured], not_configured: Mapping[RouteName, str], runs: int
) -> None:
    """The table, what failed with what to do, and what is not set up."""
    console.print()
    console.print(_table(found, runs))
    for measured in found:
        if not measured.failed and not measured.stopped:
            continue
        many = f"{len(measured.failed)} of {measured.count} runs failed"
        said = "; ".join(filter(None, [many if measured.failed else "", measured.stopped]))
        mark = "[bold red]✗[/]" if measured.failed else "[yellow]![/]"
        console.print(f"{mark} [bold]{escape(measured.subject.label)}[/]: {said}", soft_wrap=True)
        for reason, count, sentence in measured.failures():
            console.print(f"    {count} × {reason}: {escape(sentence)}", soft_wrap=True)
    for name, remedy in not_configured.items():
        console.print(f"[dim]–[/] [bold]{name}[/]: not configured: {escape(remedy)}", soft_wrap=True)


def _table(found: Sequence[Measured], runs: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    table.add_column("\nroute", no_wrap=True)
    for title, _ in _GROUPS:
        table.add_column(f"{title:>{3 * _WIDTH}}\n{_row(('min', 'p50', 'p95'))}", no_wrap=True)
    table.add_column("\nkB", justify="right", no_wrap=True)
    table.add_column("\nruns", justify="right", no_wrap=True)
    for measured in found:
        figures = [_cell(measured.spread(name), name) for _, name in _GROUPS]
        size = measured.spread("bytes")
        kilobytes = "–" if size is None else f"{size.p50 / 1000:.0f}"
        good = len(measured.runs)
        count = f"{good}/{measured.count}" if measured.failed or measured.count < runs else f"{good}"
        table.add_row(escape(measured.subject.label), *figures, kilobytes, count)
        for title, name in _OF_WHICH:
            if (spread := measured.spread(name)) is not None:
                table.add_row(f"  {title}", "", _cell(spread, name), style="dim")
    return table


def _cell(spread: Spread | None, name: str) -> str:
    if spread is None:
        return _row(("–", "–", "–"))
    digits = 2 if name == "real_time_factor" else 1
    row = _row([_figure(value, digits) for value in (spread.min, spread.p50, spread.p95)])
    # Slower than it is spoken: a caller hears gaps.
    return f"[bold red]{row}[/]" if name == "real_time_factor" and spread.p95 >= 1 else row


def _figure(value: float, digits: int) -> str:
    # Adding nought: -0.04 is told as 0.0.
    return f"{value:.0f}" if abs(value) >= 100 else f"{round(value, digits) + 0.0:.{digits}f}"


def _row(figures: Sequence[str]) -> str:
    return "".join(f"{figure:>{_WIDTH}}" for figure in figures)
