"""The picture: it is drawn for any call, rows never tear an answer, and it shows what the WAV holds."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from backend.simulator.report import CallReport, Expected, build_report
from backend.simulator.timeline import _row_starts, draw_timeline

RATE_HZ = 8_000
BLUE, ORANGE = (0x25, 0x63, 0xA8), (0xD9, 0x77, 0x2B)


def report(turns: int) -> CallReport:
    """A call of `turns` questions of 2 s and answers of 3 s, one second apart."""
    events: list[dict[str, Any]] = []
    recorded: list[dict[str, Any]] = []
    for turn in range(turns):
        asked_ms = 1_000 + turn * 7_000.0
        spoke_ms = asked_ms + 3_000
        events.append(_speech("caller", asked_ms, 2_000, "Could you say that again, please?"))
        events.append(_speech("agent", spoke_ms, 3_000, "Certainly, here it is once more."))
        recorded.append(_turn(turn, spoke_ms, asked_ms + 2_000))
    end_ms = turns * 7_000.0 + 1_000
    events.append({"t_ms": 500.0, "kind": "dtmf", "data": {"digit": "7"}})
    interrupted = {"speech_start_ms": 5_000.0, "last_agent_audio_ms": 5_200.0}
    events.append({"t_ms": 5_200.0, "kind": "interrupt", "data": interrupted})
    line = {"direction": "inbound", "codec": "PCMA", "duration_ms": end_ms, "events": events}
    return build_report(line, {"state": "ended", "turns": recorded}, Expected())


def _speech(role: str, start_ms: float, ms: float, text: str) -> dict[str, Any]:
    data = {"start_ms": start_ms, "end_ms": start_ms + ms, "text": text}
    return {"t_ms": start_ms, "kind": f"{role}_speech", "data": data}


def _turn(index: int, started_ms: float, caller_ended_ms: float) -> dict[str, Any]:
    words = "Certainly, here it is once more."
    return {
        "index": index, "role": "agent", "text": words, "heard_text": words, "started_ms": started_ms,
        "ended_ms": started_ms + 3_000, "node_id": f"node_{index}", "interrupted": False, "route": "sesame",
        "timings": {"caller_speech_ended_ms": caller_ended_ms, "first_frame_ms": started_ms},
    }  # fmt: skip


def wav(seconds: float, *, agent: float, caller: float) -> bytes:
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    tone = np.sin(2 * np.pi * 300 * t) * 20_000
    out = io.BytesIO()
    with wave.open(out, "wb") as writer:
        writer.setnchannels(2)
        writer.setsampwidth(2)
        writer.setframerate(RATE_HZ)
        writer.writeframes(np.stack([tone * caller, tone * agent], 1).astype("<i2").tobytes())
    return out.getvalue()


def pixels(path: Path, color: tuple[int, int, int]) -> int:
    picture = (imread(path)[:, :, :3] * 255).round().astype(int)
    return int((np.abs(picture - np.array(color)).max(axis=2) < 3).sum())


@pytest.mark.parametrize("turns", [1, 9])
def test_draws_calls_short_and_long(tmp_path: Path, turns: int) -> None:
    path = tmp_path / "call.png"
    draw_timeline(report(turns), wav(turns * 7 + 1, agent=1, caller=1), "A call", path)
    assert pixels(path, BLUE) > 10_000
    assert pixels(path, ORANGE) > 10_000


def test_a_silent_agent_looks_silent(tmp_path: Path) -> None:
    loud, silent = tmp_path / "loud.png", tmp_path / "silent.png"
    draw_timeline(report(1), wav(8, agent=1, caller=1), "A call", loud)
    draw_timeline(report(1), wav(8, agent=0, caller=1), "A call", silent)
    assert pixels(silent, BLUE) < pixels(loud, BLUE) / 4


def test_no_row_tears_an_answer_apart() -> None:
    call = report(9)
    starts_ms = _row_starts(call)
    assert len(starts_ms) >= 3
    for start_ms in starts_ms[1:]:
        assert not any(span.start_ms < start_ms < span.end_ms for span in call.spans)
        assert not any(answer.caller_end_ms < start_ms < answer.agent_start_ms for answer in call.answers)


def test_a_mono_recording_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with wave.open(out, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE_HZ)
        writer.writeframes(b"\0\0" * 100)
    with pytest.raises(ValueError, match="16-bit stereo"):
        draw_timeline(report(1), out.getvalue(), "A call", tmp_path / "call.png")
