"""`voice-agent eval --audio`: calls through the real processes, and what is kept of a run that is stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import wave
from pathlib import Path
from xml.etree import ElementTree as xml

import pytest

from backend.simulator.llm import LlmStandIn, running
from backend.simulator.llm_script import LlmScript
from tests.words import errors_within

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
    out, err = await asyncio.to_thread(run.communicate, timeout=150)
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
        out, err = await asyncio.to_thread(run.communicate, timeout=150)
    finally:
        run.kill()
    assert run.returncode == 130, out + err
    assert "what there is was kept" in out
    assert "Traceback" not in err
    assert xml.parse(tmp_path / "junit.xml").getroot().get("errors") == "1"


async def test_a_language_model_plays_a_caller_who_is_heard_and_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = [
        {"when": {"user": "how can i help"}, "reply": "What are your opening hours?"},
        {
            "when": {"user": "would you like to book"},
            "reply": [{"call": "press", "arguments": {"keys": "0"}}],
        },
        {"reply": [{"call": "wait"}]},
    ]
    suite = {
        "name": "Improvised", "agent": "front-desk",
        "cases": [{
            "id": "curious",
            "played_by": {"goal": "You ask when they are open, then want a human.", "model": "m"},
            "expect": {
                "hears": ["what are your opening hours"], "nodes": ["opening_hours", "human"],
                "says": ["from nine in the morning"], "ends_by": "transfer", "answer_p95_ms": 2500,
            },
        }],
    }  # fmt: skip
    path = tmp_path / "suite.json"
    path.write_text(json.dumps(suite), encoding="utf-8")
    stand_in = LlmStandIn(LlmScript.model_validate({"rules": rules}))
    async with running(stand_in) as base_url:
        monkeypatch.setenv("OPENAI_BASE_URL", base_url)
        run = evaluate(str(path), "--audio", "--html", str(tmp_path / "html"))
        out, err = await asyncio.to_thread(run.communicate, timeout=150)
    assert run.returncode == 0, out + err
    heard = [asked.messages[-1]["content"] for asked in stand_in.asked]
    assert errors_within("Willow Clinic", heard[0]) <= 1  # by ear
    assert errors_within("would you like to book", heard[1]) <= 1
    page = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    assert "played by a language model" in page and " turns, " in page
    assert list((tmp_path / "html" / "calls").glob("*.wav"))


async def test_a_played_caller_whose_model_fails_ends_the_call_and_blames_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = {"id": "broken", "played_by": {"goal": "You call.", "model": "m"}}
    path = tmp_path / "suite.json"
    path.write_text(json.dumps({"name": "Improvised", "agent": "front-desk", "cases": [case]}))
    refusing = LlmScript.model_validate({"rules": [{"refuse": {"status": 500, "message": "on fire"}}]})
    async with running(LlmStandIn(refusing)) as base_url:
        monkeypatch.setenv("OPENAI_BASE_URL", base_url)
        run = evaluate(str(path), "--audio", "--junit", str(tmp_path / "junit.xml"))
        out, err = await asyncio.to_thread(run.communicate, timeout=150)
    assert run.returncode == 1, out + err
    assert "! broken" in out and "on fire" in out
    document = xml.parse(tmp_path / "junit.xml").getroot()
    assert (document.get("errors"), document.get("failures")) == ("1", "0")
