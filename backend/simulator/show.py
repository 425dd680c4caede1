"""A call on the terminal and as plain text: the conversation as it happens, latencies, verdicts, transcript.

Shows what reports and moments say; decides and computes nothing but averages.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backend.core.percentile import percentile
from backend.simulator.call_run import Moment
from backend.simulator.report import Answer, CallReport, Span, chunk_to_frame_ms
from backend.simulator.wordcount import word_errors


class ConversationView:
    """Prints a call's moments, a line each, as they come. Keys pressed in one go share a line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._keys: list[Moment] = []

    def __call__(self, moment: Moment) -> None:
        if moment.kind == "dtmf":
            self._keys.append(moment)
            return
        self.flush()
        line = self._line(moment)
        if line:
            self._print(None if moment.kind == "turn" else moment.t_ms, line)

    def flush(self) -> None:
        """Print what was held back."""
        if self._keys:
            first, keys = self._keys[0], " ".join(str(key.data["digit"]) for key in self._keys)
            self._keys = []
            self._print(first.t_ms, f"[bold dark_orange]{escape(str(first.data['by']))} presses {keys}[/]")

    def _print(self, t_ms: float | None, line: str) -> None:
        clock = "" if t_ms is None else _clock(max(0.0, t_ms))
        self._console.print(f"[dim]{clock:>8}[/]  {line}")

    def _line(self, moment: Moment) -> str:
        data = moment.data
        match moment.kind:
            case "ringing":
                return f"[dim]ringing {escape(str(data.get('to', '')))}[/]"
            case "answered":
                return "[dim]answered[/]"
            case "agent_speech":
                return f"[bold blue]agent [/]  {escape(str(data['text'])) or '[dim](no words)[/]'}"
            case "caller_speech":
                return f"[bold dark_orange]caller[/]  {escape(str(data['text']))}"
            case "turn":
                return f"[green]        ╰ {escape(_about(data))}[/]" if data.get("node_id") else ""
            case "interrupt":
                took_ms = data["last_agent_audio_ms"] - data["speech_start_ms"]
                return f"[bold red]barge-in[/]  the agent fell silent after {took_ms:.0f} ms"
            case "underrun":
                return f"[bold red]gap[/]  {data['ms']:.0f} ms of silence inside an utterance"
            case "speak":
                return f"[bold magenta]carrier[/] {escape(str(data['text']))}"
            case "transfer":
                return f"[bold green]transferred to {escape(str(data['to']))}[/]"
            case "script_failed":
                return f"[bold red]the caller gives up:[/] {escape(str(data['reason']))}"
            case "hangup":
                return f"[dim]{escape(str(data['by']))} hangs up ({escape(str(data['cause']))})[/]"
            case _:
                return ""


def _about(turn: Mapping[str, Any]) -> str:
    """The turn's node, and how soon it came."""
    timings = turn.get("timings") or {}
    ended_ms, heard_ms = timings.get("caller_speech_ended_ms"), timings.get("heard_ms")
    soon = "" if ended_ms is None or heard_ms is None else f", {heard_ms - ended_ms:.0f} ms after the caller"
    return f"{turn['node_id']}{soon}" + (", interrupted" if turn.get("interrupted") else "")


def print_report(console: Console, report: CallReport) -> None:
    """The latencies of every answer, then the verdicts."""
    if report.answers:
        console.print(_latency_table(report))
    console.print(_verdict_table(report))


def _latency_table(report: CallReport) -> Table:
    table = Table(
        title="ms after the end of the caller's speech", title_justify="left", title_style="bold",
        header_style="dim", pad_edge=False, box=None, padding=(0, 1),
    )  # fmt: skip
    table.add_column("answer", no_wrap=True, overflow="ellipsis", max_width=22)
    names = ("recognised", "turn ended", "first text", "first chunk", "first frame", "heard", "on the line")
    for name in names:
        table.add_column(name, justify="right")
    rows = [_figures(answer) for answer in report.answers]
    for answer, row in zip(report.answers, rows, strict=True):
        table.add_row(answer.turn.node_id, *map(_ms, row))
    # A negative one was no wait: the agent began while the caller was still speaking.
    columns = [
        [value for value in column if value is not None and value >= 0] for column in zip(*rows, strict=True)
    ]
    p50 = [_ms(statistics.median(column)) if column else "–" for column in columns]
    p95 = [_ms(percentile(column, 95)) if column else "–" for column in columns]
    table.add_section()
    table.add_row("p50", *p50, style="bold")
    table.add_row("p95", *p95, style="bold")
    hops = chunk_to_frame_ms(report.agent_turns)
    if hops:
        table.caption = f"first chunk → first frame: p95 {percentile(hops, 95):.1f} ms over {len(hops)} turns"
        table.caption_justify = "left"
    return table


def _figures(answer: Answer) -> tuple[float | None, ...]:
    return (
        answer.recognised_ms, answer.turn_ended_ms, answer.text_ready_ms, answer.first_chunk_ms,
        answer.first_frame_ms, answer.heard_ms, answer.line_ms,
    )  # fmt: skip


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _verdict_table(report: CallReport) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column("", no_wrap=True)
    table.add_column("must hold", no_wrap=True)
    table.add_column("figure", no_wrap=True, style="bold")
    table.add_column("limit", no_wrap=True, style="dim")
    table.add_column("detail", style="dim", overflow="fold")
    for verdict in report.verdicts:
        mark = "[bold green]✓[/]" if verdict.ok else "[bold red]✗[/]"
        table.add_row(mark, verdict.name, escape(verdict.figure), verdict.limit, escape(verdict.detail))
    return table


def transcript(report: CallReport, title: str) -> str:
    """The call as text: what each side said, what of it was heard, and the verdicts."""
    lines = [title, "=" * len(title), ""]
    before = ""
    for at_ms, said in sorted([*_agent_lines(report), *_caller_lines(report)], key=lambda line: line[0]):
        node, _, text = said.partition("\0")
        if node and node != before:
            lines.append(f"{'':>8}  → {node}")
            before = node
        lines.append(f"{_clock(at_ms):>8}  {text}")
    lines += ["", report.ending, "", *_what_was_missed(report), "Verdicts", "--------"]
    lines += [
        f"{'ok ' if verdict.ok else 'NOT'}  {verdict.name}: {verdict.figure} ({verdict.limit})"
        + (f" – {verdict.detail}" if verdict.detail else "")
        for verdict in report.verdicts
    ]
    return "\n".join(lines) + "\n"


def _agent_lines(report: CallReport) -> list[tuple[float, str]]:
    lines: list[tuple[float, str]] = []
    for turn in report.agent_turns:
        text = f"{turn.node_id}\0agent:   {turn.heard_text or '(nothing was heard)'}"
        if turn.interrupted and (unheard := _unheard(turn.text, turn.heard_text)):
            text += f" — interrupted; not heard: “{unheard}”"
        lines.append((turn.started_ms, text))
    return lines


def _unheard(text: str, heard: str) -> str:
    words, count = text.split(), len(heard.split())
    return " ".join(words[count:]) if words[:count] == heard.split() else text


def _caller_lines(report: CallReport) -> list[tuple[float, str]]:
    lines: list[tuple[float, str]] = []
    for span in report.spans:
        if span.role == "caller":
            lines.append((span.start_ms, f"\0caller:  {span.text}{_recognised(report, span)}"))
    return lines + [
        (turn.started_ms, f"\0caller:  [keys {turn.text}]")
        for turn in report.caller_turns
        if turn.via == "dtmf"
    ]


def _recognised(report: CallReport, span: Span) -> str:
    """What the backend made of it, when those are other words."""
    words = " ".join(
        turn.text
        for turn in report.caller_turns
        if turn.via == "speech" and turn.started_ms < span.end_ms and turn.ended_ms > span.start_ms
    )
    if not words:
        return "  (not recognised)"
    return f"  (recognised: “{words}”)" if word_errors(span.text, words).errors else ""


def _what_was_missed(report: CallReport) -> Sequence[str]:
    heard = " ".join(span.text for span in report.spans if span.role == "agent")
    lines = ["What the caller's ears heard of the agent", "-" * 41, heard, ""]
    return [*lines, f"differences: {report.words.differences()}", ""] if report.words.errors else lines


def _clock(ms: float) -> str:
    return f"{int(ms // 60_000)}:{ms % 60_000 / 1000:04.1f}"
