"""`voice-agent eval --audio`: calls through the real processes, and what is kept of a run that is stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import wave
from pathlib import Path
from xml.etree import ElementTree as xml

ROOT = Path(__file__).parents[2]


def evaluate(*arguments: str) -> subprocess.Popen[str]:
    # A test run in the background of a shell ignores Ctrl-C, and would hand that on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "backend.cli", "eval", *arguments], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)


async def test_a_case_in_real_audio_leaves_its_sound_and_a_picture(tmp_path: Path) -> None:
    run = evaluate(
        "evals/reminder.json", "--audio", "-k", "wrong-person", "--junit", str(tmp_path / "junit.xml"),
        "--html", str(tmp_path / "html"),
    )  # fmt: skip
    out, err = await asyncio.to_thread(run.communicate, timeout=55)
    assert run.returncode == 0, out + err
    assert "✓ wrong-person" in out
    assert xml.parse(tmp_path / "junit.xml").getroot().get("failures") == "0"
    (sound,) = (tmp_path / "html" / "calls").glob("*.wav")
    with wave.open(str(sound)) as recording:
        assert (recording.getnchannels(), recording.getframerate()) == (2, 8_000)
        assert recording.getnframes() > 5 * 8_000
    assert sound.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    assert f'src="calls/{sound.name}"' in page


async def test_what_was_done_before_ctrl_c_is_in_the_reports(tmp_path: Path) -> None:
    run = evaluate(
        "evals/reminder.json", "--audio", "-k", "says-nothing", "--junit", str(tmp_path / "junit.xml")
    )
    assert run.stdout is not None
    try:
        assert "in audio" in await asyncio.to_thread(run.stdout.readline)
        run.send_signal(signal.SIGINT)
        out, err = await asyncio.to_thread(run.communicate, timeout=40)
    finally:
        run.kill()
    assert run.returncode == 130, out + err
    assert "what there is was kept" in out
    assert "Traceback" not in err
    assert xml.parse(tmp_path / "junit.xml").getroot().get("errors") == "1"
