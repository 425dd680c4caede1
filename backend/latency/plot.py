"""The runs as a picture: for every route how long connecting, the first sound and all of it took.

Draws what was measured; decides nothing. Needs Matplotlib, of the `local` extra.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from backend.latency.figures import Measured

matplotlib.use("Agg")

from matplotlib.axes import Axes  # noqa: E402  (the backend is chosen before anything draws)
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullFormatter  # noqa: E402

_COLORS = {"sesame": "#2563a8", "elevenlabs": "#d9772b"}
_RED, _GREY, _INK, _PALE = "#c62f2f", "#8a929c", "#20262e", "#e6e9ed"
_PANELS = (
    ("connect, cold", "connect_ms"),
    ("first chunk, warm", "first_chunk_ms"),
    ("all of it", "total_ms"),
)
_WIDTH_IN, _HEAD_IN, _ROW_IN, _FOOT_IN, _DPI = 11.0, 0.85, 0.62, 0.55, 160
_LEFT, _PANEL, _BETWEEN = 0.135, 0.262, 0.03
_FAR_APART = 50
_SPREAD = 0.22  # how far the dots of a row lie apart


def draw_latency(found: Sequence[Measured], title: str, path: Path) -> None:
    """Write the PNG. Raises OSError when `path` cannot be written."""
    height_in = _HEAD_IN + len(found) * _ROW_IN + _FOOT_IN
    figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=_DPI, facecolor="white")
    figure.text(0.016, 1 - 0.3 / height_in, title, fontsize=13, fontweight="bold", color=_INK, va="center")
    figure.text(
        0.984, 1 - 0.3 / height_in, "● a run    ┃ p50, in figures    │ p95    ◇ the server's own p50",
        fontsize=9, color=_GREY, va="center", ha="right",
    )  # fmt: skip
    for number, (heading, name) in enumerate(_PANELS):
        left = _LEFT + number * (_PANEL + _BETWEEN)
        axes = figure.add_axes((left, _FOOT_IN / height_in, _PANEL, len(found) * _ROW_IN / height_in))
        _panel(axes, found, heading, name)
        if number == 0:
            _labels(axes, found)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    path.write_bytes(png.getvalue())


def _panel(axes: Axes, found: Sequence[Measured], heading: str, name: str) -> None:
    axes.set_ylim(len(found) - 0.5, -0.5)
    logarithmic = _scale(axes, [getattr(run, name) for measured in found for run in measured.runs])
    told = f"{heading}, ms{' (logarithmic)' if logarithmic else ''}"
    axes.set_title(told, fontsize=9.5, color=_INK, loc="left", pad=6)
    axes.set_yticks([])
    axes.tick_params(axis="x", labelsize=8, color=_GREY, labelcolor=_GREY, length=3)
    axes.tick_params(axis="x", which="minor", color=_PALE, length=2)
    axes.grid(axis="x", color=_PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GREY)
    for row, measured in enumerate(found):
        _runs(axes, row, measured, name)


def _scale(axes: Axes, values: Sequence[float]) -> bool:
    """From nought, unless that would push most into a corner. → whether it is logarithmic."""
    lowest, highest = max(min(values, default=0.1), 0.1), max([*values, 0.1])
    logarithmic = highest > _FAR_APART * lowest
    # Room for the figures at the end of a row.
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(lowest / 1.5, highest * (highest / lowest) ** 0.25)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, highest * 1.22)
    return logarithmic


def _runs(axes: Axes, row: int, measured: Measured, name: str) -> None:
    spread = measured.spread(name)
    if spread is None:
        return
    color = _COLORS[measured.subject.key.name.partition("_")[0]]
    values = [getattr(run, name) for run in measured.runs]
    places = [row + _SPREAD * (2 * (number % 5) / 4 - 1) for number in range(len(values))]
    axes.scatter(values, places, s=14, color=color, alpha=0.45, linewidths=0)
    axes.plot([spread.p50] * 2, [row - 0.34, row + 0.34], color=color, linewidth=2.6)
    axes.plot([spread.p95] * 2, [row - 0.34, row + 0.34], color=color, linewidth=1.0)
    if name == "first_chunk_ms" and (own := measured.spread("server_first_ms")) is not None:
        axes.scatter(
            [own.p50], [row], s=34, marker="D", facecolors="white", edgecolors=_INK, linewidths=1.1, zorder=4
        )
    axes.annotate(
        f"{spread.p50:.0f}" if spread.p50 >= 10 else f"{spread.p50:.1f}",
        (max(spread.p95, max(values)), row), (6, 0), textcoords="offset points", fontsize=9, color=_INK,
        fontweight="bold", va="center",
    )  # fmt: skip


def _labels(axes: Axes, found: Sequence[Measured]) -> None:
    for row, measured in enumerate(found):
        failed = len(measured.failed)
        shift = 0.13 if failed else 0.0
        where = axes.get_yaxis_transform()
        axes.text(
            -0.04, row - shift, measured.subject.label, transform=where, fontsize=10, color=_INK, ha="right",
            va="center",
        )  # fmt: skip
        if failed:
            told = f"{failed} of {measured.count} failed"
            axes.text(
                -0.04, row + 0.18, told, transform=where, fontsize=8, color=_RED, ha="right", va="center"
            )
