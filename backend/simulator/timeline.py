"""A picture of one call: both voices on a shared clock, turns, flow, barge-in, and what each answer took.

The call is set in rows like a musical score, so that words stay legible at the width of a README. Draws
what the report says; decides nothing.
"""

from __future__ import annotations

import io
import itertools
import math
import textwrap
import wave
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

from backend.simulator.report import AgentTurn, CallReport, answer_p50_ms

matplotlib.use("Agg")

from matplotlib.axes import Axes  # noqa: E402  (the backend is chosen before anything draws)
from matplotlib.figure import Figure  # noqa: E402

_AGENT, _CALLER = "#2563a8", "#d9772b"
_AGENT_PALE, _CALLER_PALE = "#e9f0f8", "#fcf0e6"
_RED, _GREEN, _GREY, _INK = "#c62f2f", "#2c7a4b", "#8a929c", "#20262e"

_ROW_MS, _SHORTEST_ROW_MS, _LONGEST_ROW_MS = 21_000.0, 8_000.0, 25_000.0
_WIDTH_IN, _ROW_IN, _HEAD_IN, _DPI = 11.0, 2.25, 0.85, 160
_CHARS_PER_ROW = 172
_COLUMNS_PER_ROW = 1_500

# Heights within a row: the agent's voice above, the caller's below, what lies between them is the answer.
_AGENT_Y, _CALLER_Y, _VOICE = 1.0, -1.0, 0.52
_NODE_Y, _TOP, _BOTTOM = 3.02, 3.3, -2.45


@dataclass(frozen=True, slots=True)
class _Voices:
    rate_hz: int
    caller: NDArray[np.float32]
    agent: NDArray[np.float32]


def draw_timeline(report: CallReport, stereo_wav: bytes, title: str, path: Path) -> None:
    """Write the PNG. `stereo_wav`: 16-bit, left the caller, right the agent, sample 0 at the media's start.

    Raises ValueError when the WAV is not 16-bit stereo, OSError when `path` cannot be written.
    """
    voices = _read_voices(stereo_wav)
    starts_ms = _row_starts(report)
    height_in = _HEAD_IN + len(starts_ms) * _ROW_IN + 0.1
    figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=_DPI, facecolor="white")
    _title(figure, height_in, report, title)
    scale_ms = max(_longest(starts_ms, report.duration_ms), _SHORTEST_ROW_MS)
    ends_ms = [*starts_ms[1:], report.duration_ms]
    for row, (from_ms, to_ms) in enumerate(zip(starts_ms, ends_ms, strict=True)):
        bottom = (height_in - _HEAD_IN - (row + 1) * _ROW_IN + 0.1) / height_in
        axes = figure.add_axes((0.016, bottom, 0.968, (_ROW_IN - 0.1) / height_in))
        _row(axes, report, voices, from_ms, to_ms, scale_ms)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    path.write_bytes(png.getvalue())


def _read_voices(stereo_wav: bytes) -> _Voices:
    with wave.open(io.BytesIO(stereo_wav)) as reader:
        if reader.getnchannels() != 2 or reader.getsampwidth() != 2:
            raise ValueError("the call's audio must be a 16-bit stereo WAV")
        frames = np.frombuffer(reader.readframes(reader.getnframes()), "<i2").reshape(-1, 2)
        samples = frames.astype(np.float32) / 32768.0
        return _Voices(reader.getframerate(), samples[:, 0], samples[:, 1])


def _row_starts(report: CallReport) -> list[float]:
    """Where each row begins: before the caller speaks, so that no answer is torn, rows about equally long."""
    fits_in_one = report.duration_ms <= _LONGEST_ROW_MS
    at_least = 1 if fits_in_one else math.ceil(report.duration_ms / _ROW_MS)
    pauses_ms = _pauses(report)
    for rows in range(at_least, at_least + 3):
        chosen = _most_even(pauses_ms, rows, report.duration_ms)
        if chosen and _longest(chosen, report.duration_ms) <= _LONGEST_ROW_MS:
            return chosen
    return [row * report.duration_ms / at_least for row in range(at_least)]


def _pauses(report: CallReport) -> list[float]:
    """The middles of the silences that end with the caller's speech or keys."""
    busy = [(span.start_ms, span.end_ms, span.role == "caller") for span in report.spans]
    busy += [(first_ms, last_ms, True) for first_ms, last_ms, _ in _key_presses(report)]
    pauses: list[float] = []
    quiet_from_ms = 0.0
    for start_ms, end_ms, by_caller in sorted(busy):
        if by_caller and start_ms > quiet_from_ms > 0:
            pauses.append((start_ms + quiet_from_ms) / 2)
        quiet_from_ms = max(quiet_from_ms, end_ms)
    return pauses


def _most_even(pauses_ms: list[float], rows: int, end_ms: float) -> list[float] | None:
    """The `rows` starts whose longest row is shortest; None when there are too few pauses."""
    best: dict[float, list[float]] = {0.0: [0.0]}
    for _ in range(rows - 1):
        following: dict[float, list[float]] = {}
        for starts_ms in best.values():
            for pause_ms in (pause for pause in pauses_ms if pause > starts_ms[-1]):
                longer = [*starts_ms, pause_ms]
                known = following.get(pause_ms)
                if known is None or _longest(longer[:-1], pause_ms) < _longest(known[:-1], pause_ms):
                    following[pause_ms] = longer
        best = following
    return min(best.values(), key=lambda starts: _longest(starts, end_ms), default=None)


def _longest(starts_ms: list[float], end_ms: float) -> float:
    return max(b - a for a, b in itertools.pairwise([*starts_ms, end_ms]))


def _title(figure: Figure, height_in: float, report: CallReport, title: str) -> None:
    def y(inches: float) -> float:
        return 1 - inches / height_in

    figure.text(0.016, y(0.33), title, fontsize=14, fontweight="bold", color=_INK, va="center")
    figure.text(0.016, y(0.63), "    ".join(_totals(report)), fontsize=10, color="#4a535e", va="center")
    for x, color, name in ((0.865, _AGENT, "agent"), (0.935, _CALLER, "caller")):
        figure.text(x, y(0.33), f"● {name}", fontsize=11, color=color, va="center")


def _totals(report: CallReport) -> list[str]:
    totals = [f"{report.duration_ms / 1000:.0f} s on {report.codec}"]
    if (answer_ms := answer_p50_ms(report.answers)) is not None:
        totals.append(f"answer p50 {answer_ms:.0f} ms")
    if report.barge_ins:
        totals.append("barge-in " + ", ".join(f"{barge_in.took_ms:.0f} ms" for barge_in in report.barge_ins))
    totals.append(f"gaps {len(report.gaps_ms) or 'none'}")
    totals.append(f"word errors {100 * report.words.rate:.1f} % of {report.words.said_words}")
    return totals


def _row(
    axes: Axes, report: CallReport, voices: _Voices, from_ms: float, to_ms: float, scale_ms: float
) -> None:
    axes.set_xlim(from_ms, from_ms + scale_ms)
    axes.set_ylim(_BOTTOM, _TOP)
    axes.axis("off")
    for y, pale in ((_AGENT_Y, _AGENT_PALE), (_CALLER_Y, _CALLER_PALE)):
        axes.fill_between([from_ms, to_ms], y - _VOICE, y + _VOICE, color=pale, linewidth=0)
    _wave(axes, voices.agent, voices.rate_hz, from_ms, to_ms, _AGENT_Y, _AGENT)
    _wave(axes, voices.caller, voices.rate_hz, from_ms, to_ms, _CALLER_Y, _CALLER)
    _clock(axes, from_ms, to_ms)
    _nodes(axes, report, from_ms, to_ms)
    _texts(axes, report, from_ms, to_ms)
    for answer in report.answers:
        if from_ms <= answer.agent_start_ms < to_ms:
            _bracket(axes, max(answer.caller_end_ms, from_ms), answer.agent_start_ms, answer.line_ms, from_ms)
    for barge_in in report.barge_ins:
        if from_ms <= barge_in.speech_start_ms < to_ms:
            _barge_in(axes, barge_in.speech_start_ms, barge_in.silent_ms)
    for first_ms, last_ms, digits in _key_presses(report):
        if from_ms <= first_ms < to_ms:
            _keys(axes, (first_ms + last_ms) / 2, digits)


def _wave(
    axes: Axes, samples: NDArray[np.float32], rate_hz: int, from_ms: float, to_ms: float, y: float, color: str
) -> None:
    """The envelope: the loudest sample of each column, above and below the voice's own line."""
    part = samples[int(from_ms * rate_hz / 1000) : int(to_ms * rate_hz / 1000)]
    per_column = max(1, int((_ROW_MS * rate_hz / 1000) // _COLUMNS_PER_ROW))
    columns = len(part) // per_column
    if not columns:
        return
    folded = part[: columns * per_column].reshape(columns, per_column)
    loudest = max(float(np.abs(samples).max(initial=0.0)), 0.05)
    x = from_ms + (np.arange(columns) + 0.5) * per_column * 1000 / rate_hz
    scale = _VOICE * 0.94 / loudest
    low, high = folded.min(axis=1) * scale, folded.max(axis=1) * scale
    axes.fill_between(x, y + low, y + high, color=color, linewidth=0.35)


def _clock(axes: Axes, from_ms: float, end_ms: float) -> None:
    for second in range(int(-(-from_ms // 1000)), int(end_ms // 1000) + 1):
        whole = second % 5 == 0
        axes.plot([second * 1000] * 2, [-0.05, 0.05], color=_GREY, linewidth=0.9 if whole else 0.5)
        if whole:
            label = f"{second // 60}:{second % 60:02d}"
            side = "left" if second * 1000 - from_ms < 300 else "center"
            axes.text(second * 1000, -0.13, label, fontsize=7.5, color=_GREY, ha=side, va="top")
    axes.plot([from_ms, end_ms], [0, 0], color=_GREY, linewidth=0.6)


def _nodes(axes: Axes, report: CallReport, from_ms: float, to_ms: float) -> None:
    before, free_ms = "", from_ms
    for turn in report.agent_turns:
        moved, before = turn.node_id != before, turn.node_id
        if not moved or not turn.node_id or not from_ms <= turn.started_ms < to_ms:
            continue
        label = turn.node_id.replace("_", " ")
        room_ms = (len(label) + 3) * 125.0
        left = max(free_ms, min(turn.started_ms, to_ms - room_ms))
        free_ms = left + room_ms
        axes.plot(
            [turn.started_ms] * 2, [_AGENT_Y - _VOICE, _NODE_Y - 0.2], color=_GREEN, linewidth=0.8, alpha=0.55
        )
        axes.text(
            left, _NODE_Y, label, fontsize=8.5, color="white", fontweight="bold", va="center",
            bbox={"boxstyle": "round,pad=0.28", "facecolor": _GREEN, "edgecolor": "none"},
        )  # fmt: skip


def _texts(axes: Axes, report: CallReport, from_ms: float, to_ms: float) -> None:
    for turn in report.agent_turns:
        if from_ms <= turn.started_ms < to_ms and turn.heard_text:
            words = turn.heard_text + ("\u00a0—" if turn.interrupted else "")
            _words(axes, words, turn.started_ms, _until(report, turn, to_ms), _AGENT_Y + _VOICE + 0.1, _AGENT)
    callers = [span for span in report.spans if span.role == "caller"]
    for at, span in enumerate(callers):
        if from_ms <= span.start_ms < to_ms:
            later = callers[at + 1].start_ms if at + 1 < len(callers) else report.duration_ms
            _words(axes, span.text, span.start_ms, min(later, to_ms), _CALLER_Y - _VOICE - 0.1, _CALLER)


def _until(report: CallReport, turn: AgentTurn, to_ms: float) -> float:
    """Where the next words of the agent begin: as far as this turn's may be written."""
    later = [other.started_ms for other in report.agent_turns if other.started_ms > turn.started_ms]
    return min([to_ms, *later])


def _words(axes: Axes, text: str, left_ms: float, until_ms: float, y: float, color: str) -> None:
    row_ms = axes.get_xlim()[1] - axes.get_xlim()[0]
    columns = max(8, int((until_ms - left_ms) / row_ms * _CHARS_PER_ROW))
    shown = textwrap.fill(textwrap.shorten(text, 3 * columns, placeholder=" …"), columns)
    above = y > 0
    axes.text(left_ms, y, shown, fontsize=8.5, color=color, va="bottom" if above else "top", linespacing=1.08)


def _bracket(axes: Axes, from_ms: float, to_ms: float, took_ms: float, row_ms: float) -> None:
    axes.plot([from_ms, from_ms], [_CALLER_Y + _VOICE, 0.3], color=_INK, linewidth=0.8)
    axes.plot([to_ms, to_ms], [0.2, _AGENT_Y - _VOICE], color=_INK, linewidth=0.8)
    axes.annotate(
        "", (to_ms, 0.3), (from_ms, 0.3),
        arrowprops={"arrowstyle": "-|>", "color": _INK, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7},
    )  # fmt: skip
    fits = from_ms - row_ms > 900
    axes.text(
        from_ms - 70 if fits else to_ms + 70, 0.27, f"{took_ms:.0f} ms", fontsize=8.5, color=_INK,
        ha="right" if fits else "left", va="center",
    )  # fmt: skip


def _barge_in(axes: Axes, speech_ms: float, silent_ms: float) -> None:
    """The label stands in the agent's lane, which has just fallen silent."""
    low, high = _CALLER_Y - _VOICE, _AGENT_Y + _VOICE
    axes.fill_between([speech_ms, silent_ms], low, high, color=_RED, alpha=0.18, linewidth=0)
    axes.plot([speech_ms] * 2, [low, high], color=_RED, linewidth=1.0)
    axes.text(
        silent_ms + 90, _AGENT_Y + 0.02, f"barge-in\n{silent_ms - speech_ms:.0f} ms", color=_RED,
        fontsize=8.5, fontweight="bold", va="center", linespacing=1.0,
    )  # fmt: skip


def _key_presses(report: CallReport) -> list[tuple[float, float, str]]:
    """Keys pressed in one go: when the first, when the last, which."""
    presses: list[tuple[float, float, str]] = []
    for at_ms, digit in report.keys:
        if presses and at_ms - presses[-1][1] < 1_000:
            presses[-1] = (presses[-1][0], at_ms, f"{presses[-1][2]} {digit}")
        else:
            presses.append((at_ms, at_ms, digit))
    return presses


def _keys(axes: Axes, at_ms: float, digits: str) -> None:
    axes.text(
        at_ms, _CALLER_Y, digits, fontsize=9, color="white", fontweight="bold", ha="center", va="center",
        bbox={"boxstyle": "round,pad=0.35", "facecolor": _CALLER, "edgecolor": "white"},
    )  # fmt: skip
