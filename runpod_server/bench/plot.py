"""The report as a picture: first sound, gaps, speed beside transformers' and the time of a step."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib

from runpod_server.bench.plan import Load
from runpod_server.bench.report import Level, Report

matplotlib.use("Agg")

from matplotlib.axes import Axes  # noqa: E402  (the backend is chosen before anything draws)
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import (  # noqa: E402
    FixedLocator,
    FuncFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
    ScalarFormatter,
)

_BLUE, _ORANGE, _GREEN, _RED, _GREY, _INK = "#2563a8", "#d9772b", "#2c7a4b", "#c62f2f", "#8a929c", "#20262e"
_COLORS: dict[Load, str] = {"flat-out": _GREEN, "steady": _BLUE, "poisson": _ORANGE}
_SIZE_IN, _DPI = (11.0, 7.2), 140
_FRAMES_PER_AUDIO_S = 12.5
_FRAME_MS = 80.0


def draw(report: Report, path: Path) -> None:
    """Write the PNG. Raises OSError when `path` cannot be written."""
    figure = Figure(figsize=_SIZE_IN, dpi=_DPI, facecolor="white")
    axes = figure.subplots(2, 2)
    _first_sound(axes[0, 0], report)
    _gaps(axes[0, 1], report)
    _speed(axes[1, 0], report)
    _steps(axes[1, 1], report)
    for one in axes.flat:
        _dress(one, sorted({level.streams for level in report.levels}))
    figure.text(0.02, 0.965, "sesame-server bench", fontsize=14, fontweight="bold", color=_INK, va="center")
    told = [str(each) for each in report.machine.values() if each not in (None, "")]
    subtitle = ", ".join([*_what(report), *told])
    figure.text(0.02, 0.93, subtitle, fontsize=8.5, color="#4a535e", va="center")
    figure.subplots_adjust(left=0.07, right=0.98, top=0.87, bottom=0.08, hspace=0.38, wspace=0.2)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    path.write_bytes(png.getvalue())


def _what(report: Report) -> list[str]:
    return [str(report.options[name]) for name in ("model", "dtype") if report.options.get(name)]


def _first_sound(axes: Axes, report: Report) -> None:
    axes.set_title("First sound, ms: median, and 95th percentile dashed")
    for load, color in _COLORS.items():
        found = [
            (level.streams, figures.first_audio_ms)
            for level in _rising(report)
            if (figures := level.loads.get(load)) is not None and figures.first_audio_ms is not None
        ]
        streams = [count for count, _ in found]
        axes.plot(streams, [spread.p50 for _, spread in found], "o-", color=color, label=load, markersize=4)
        axes.plot(streams, [spread.p95 for _, spread in found], "o--", color=color, alpha=0.6, markersize=3)
    if report.first_audio_limit_ms:
        axes.axhline(report.first_audio_limit_ms, color=_RED, linewidth=0.8)
    axes.set_yscale("log")


def _gaps(axes: Axes, report: Report) -> None:
    axes.set_title("Utterances with a gap at a client in real time, %")
    for load, color in _COLORS.items():
        found = [
            (level.streams, 100 * figures.torn / figures.utterances)
            for level in _rising(report)
            if (figures := level.loads.get(load)) is not None and figures.utterances
        ]
        axes.plot(*_columns(found), "o-", color=color, label=load, markersize=4)
    axes.set_ylim(-4, 104)


def _speed(axes: Axes, report: Report) -> None:
    axes.set_title("Sound made flat out, seconds a second")
    single = [(each.streams, each.generate_single) for each in _rising(report)]
    batch = [(each.streams, each.generate_batch) for each in _rising(report)]
    ours = [
        (each.streams, each.frames_per_s / _FRAMES_PER_AUDIO_S)
        for each in _rising(report)
        if each.frames_per_s
    ]
    axes.plot(*_columns(ours), "o-", color=_GREEN, label="engine", markersize=4)
    for found, label, style in (
        (batch, "generate, static batch", "s-"),
        (single, "generate, one stream", "s:"),
    ):
        rates = [
            (streams, rate.frames_per_s / _FRAMES_PER_AUDIO_S)
            for streams, rate in found
            if rate is not None and rate.frames_per_s
        ]
        axes.plot(*_columns(rates), style, color=_GREY, label=label, markersize=4)
    reach = sorted({level.streams for level in report.levels})
    axes.plot(reach, reach, color=_RED, linewidth=0.8, label="all streams in real time")
    axes.set_yscale("log")


def _steps(axes: Axes, report: Report) -> None:
    axes.set_title("A frame of all streams, ms")
    found = [(level.streams, level.steps) for level in _rising(report) if level.steps is not None]
    p50 = [(streams, steps.ms.p50) for streams, steps in found]
    p95 = [(streams, steps.ms.p95) for streams, steps in found]
    least = [(streams, steps.least_ms) for streams, steps in found if steps.least_ms is not None]
    axes.plot(*_columns(p50), "o-", color=_GREEN, label="median", markersize=4)
    axes.plot(*_columns(p95), "o--", color=_GREEN, alpha=0.6, label="95th percentile", markersize=3)
    axes.plot(*_columns(least), "-", color=_GREY, label="memory alone (roofline)")
    axes.axhline(_FRAME_MS, color=_RED, linewidth=0.8, label="real time")
    axes.set_yscale("log")


def _rising(report: Report) -> list[Level]:
    return sorted(report.levels, key=lambda level: level.streams)


def _columns(pairs: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [x for x, _ in pairs], [y for _, y in pairs]


def _dress(axes: Axes, streams: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(streams))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    if axes.get_yscale() == "log":
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("streams", fontsize=8.5, color=_INK)
    axes.title.set_fontsize(10)
    axes.title.set_color(_INK)
    axes.tick_params(labelsize=8, colors=_INK)
    axes.grid(color="#e3e7ec", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, framealpha=0.85, edgecolor="none")
