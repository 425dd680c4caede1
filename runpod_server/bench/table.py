"""The report as text for a screen. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from runpod_server.bench.report import Level, Report
from runpod_server.bench.spread import Spread

_FRAMES_PER_AUDIO_S = 12.5
_GIB = 2**30


def as_table(report: Report) -> str:
    """What callers meet with, what the machine does, and what must be known about it."""
    blocks = [_heading(report), _callers(report), _machine(report), _endnotes(report)]
    return "\n\n".join(block for block in blocks if block)


def _heading(report: Report) -> str:
    lines = [", ".join(str(each) for each in report.machine.values() if each not in (None, ""))]
    read = report.frame_bytes
    if read is not None and report.bytes_per_s is not None:
        lines.append(
            f"a frame reads {_size(read.weights)} of weights (backbone {_size(read.backbone)}, depth decoder "
            f"{_size(read.depth)}, codec {_size(read.codec)}) and {_size(read.per_position)} a position of a "
            f"stream; memory copies {report.bytes_per_s / 1e9:.1f} GB/s"
        )
    for name, same in report.same_codes.items():
        lines.append(f"greedy codes, {name}: {'the same' if same else 'DIFFERENT'}")
    return "\n".join(line for line in lines if line)


def _callers(report: Report) -> str:
    rows = [
        ["streams", "callers", "asked", "first sound ms", "", "", "real-time factor", "", "gaps", "longest"]
        + ["listening", "frames/s", "holds"],
        ["", "", "", "p50", "p95", "p99", "p50", "p95", "", "ms", "mean", "", ""],
    ]
    for level in report.levels:
        for load, figures in level.loads.items():
            holds = figures.holds(report.first_audio_limit_ms) if load == "steady" else None
            rows.append(
                [str(level.streams), load, str(figures.asked)]
                + _percentiles(figures.first_audio_ms, "{:.0f}", 3)
                + _percentiles(figures.real_time_factor, "{:.3f}", 2)
                + [
                    str(figures.underruns),
                    f"{figures.longest_gap_ms:.0f}",
                    _number(figures.listening, "{:.1f}"),
                ]
                + [f"{figures.frames_per_s:.1f}", _verdict(holds) if load == "steady" else ""]
            )
    return columns(rows) if len(rows) > 2 else ""


def _verdict(holds: bool | None) -> str:
    return "–" if holds is None else "yes" if holds else "no"


def _machine(report: Report) -> str:
    rows = [
        ["streams", "flat out", "", "generate ×1", "", "generate ×N", "", "step ms", "", "roofline", "memory"]
        + ["energy"],
        ["", "frames/s", "× real time", "frames/s", "we are", "frames/s", "we are", "p50", "p95", "", "GiB"]
        + ["J/s of sound"],
    ]
    for level in report.levels:
        if level.frames_per_s is None and level.steps is None:
            continue
        rows.append(
            [str(level.streams), _number(level.frames_per_s, "{:.1f}")]
            + [_number(level.frames_per_s and level.frames_per_s / _FRAMES_PER_AUDIO_S, "{:.2f}")]
            + _beside(level)
            + _percentiles(level.steps.ms if level.steps else None, "{:.1f}", 2)
            + [_number(level.steps.roofline if level.steps else None, "{:.1%}")]
            + [_number(_gib(level), "{:.2f}")]
            + [_number(level.joules_per_audio_s, "{:.2f}")]
        )
    return columns(rows) if len(rows) > 2 else ""


def _gib(level: Level) -> float | None:
    shown = level.memory.shown if level.memory else None
    return None if shown is None else shown / _GIB


def _beside(level: Level) -> list[str]:
    cells = []
    for rate in (level.generate_single, level.generate_batch):
        cells += [_number(rate.frames_per_s if rate else None, "{:.2f}")]
        cells += [_number(level.speedup(rate), "{:.1f} ×")]
    return cells


def _endnotes(report: Report) -> str:
    lines = []
    if report.largest is not None:
        limit = f"no gap, first sound p95 at most {report.first_audio_limit_ms:.0f} ms"
        found = f"{report.largest} streams" if report.largest else "not even the fewest streams tried"
        lines.append(f"largest number that holds in real time ({limit}): {found}")
    failed = [f"{level.name}: {level.failure}" for level in report.levels if level.failure]
    lines += [sentence for sentence in failed if sentence != report.failure]
    lines += report.notes
    lines += _of_a_processor(report)
    if report.failure:
        lines.append(f"ended before its end: {report.failure}")
    if report.interrupted:
        lines.append("interrupted: what was measured until then")
    return "\n".join(lines)


def _of_a_processor(report: Report) -> list[str]:
    """What a processor was busy with besides, and the comparison that this disturbs least."""
    lines = []
    loads = [level.load_average for level in report.levels if level.load_average is not None]
    if loads:
        lines.append(f"load average meanwhile: {min(loads):g} to {max(loads):g}")
    by_cpu = [(level, level.cpu_speedup(level.generate_single)) for level in report.levels]
    told = [f"{level.name} {times:.1f} ×" for level, times in by_cpu if times is not None]
    if told:
        lines.append("frames by processor time against generate ×1: " + ", ".join(told))
    return lines


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Right-aligned columns, two spaces apart. A heading may reach over empty cells to its right."""
    body = rows[1:]
    widths = [max(len(row[at]) for row in body) for at in range(len(rows[0]))]
    heading, spanned = list(rows[0]), 0
    for at in range(len(heading) - 1, -1, -1):
        spanned += widths[at] + (2 if spanned else 0)
        if heading[at]:
            widths[at] += max(0, len(heading[at]) - spanned)
            spanned = 0
    lines = [_spanning(heading, widths)]
    lines += ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in body]
    return "\n".join(line.rstrip() for line in lines)


def _spanning(heading: Sequence[str], widths: Sequence[int]) -> str:
    """Every heading right-aligned over all the columns it stands for."""
    groups: list[tuple[str, int]] = []
    for cell, width in zip(heading, widths, strict=True):
        if cell or not groups:
            groups.append((cell, width))
        else:
            groups[-1] = (groups[-1][0], groups[-1][1] + 2 + width)
    return "  ".join(cell.rjust(width) for cell, width in groups)


def _percentiles(spread: Spread | None, form: str, count: int) -> list[str]:
    if spread is None:
        return ["–"] * count
    return [form.format(value) for value in (spread.p50, spread.p95, spread.p99)[:count]]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _size(count: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} B"
