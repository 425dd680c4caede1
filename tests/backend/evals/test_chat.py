"""`voice-agent chat` as its user has it: a process, lines typed, words read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.simulator.stack import _free_ports

ROOT = Path(__file__).parents[3]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("SESAME_", "OPENAI_"))}


def chat(*arguments: str, **settings: str) -> subprocess.Popen[str]:
    environment = {**CLEAN, "AGENTS_DIR": str(ROOT / "agents"), "PYTHONUNBUFFERED": "1", **settings}
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    # A test run in the background of a shell ignores Ctrl-C, and would hand that on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "backend.cli", "chat", *arguments],
            cwd=ROOT / "agents", env={**environment, "PYTHONPATH": str(ROOT)}, text=True, **pipes,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)


def typed(process: subprocess.Popen[str], *lines: str) -> str:
    """All it prints when these are typed, and then nothing more."""
    out, err = process.communicate("".join(f"{line}\n" for line in lines), timeout=50)
    assert process.returncode == 0, out + err
    assert "Traceback" not in err
    return out


def test_an_appointment_is_booked_by_typing() -> None:
    out = typed(
        chat("front-desk", "--text"), "I want an appointment on Tuesday.", "/silence 12", "The morning.",
        "Maria Jones", "/press 2125550142", "Yes.",
    )  # fmt: skip
    assert "On Tuesday I can offer you ten in the morning" in out
    assert "Are you still there?" in out
    assert "→ booked" in out
    assert "the agent hung up" in out
    assert "phone='2125550142'" in out


def test_silence_lasts_as_long_as_is_typed() -> None:
    appointment = ("--var", "name=Maria", "--var", "appointment_day=Friday", "--var", "appointment_time=ten")
    # Seven seconds of silence are taken for an answering machine.
    out = typed(chat("reminder", "--text", *appointment), "Hold on.", "/silence 5", "Yes.")
    assert "→ remind" in out and "→ leave_message" not in out
    out = typed(chat("reminder", "--text", *appointment), "Hold on.", "/silence 5", "/silence 3")
    assert "→ leave_message" in out


def test_what_is_nothing_to_do_takes_no_time() -> None:
    out = typed(chat("front-desk", "--text"), *["/help", "/dance", "/press x", ""] * 20, "/quit")
    assert "Are you still there?" not in out
    assert "There is no /dance." in out
    assert "you hung up" in out


def test_the_end_of_input_hangs_up() -> None:
    assert "you hung up" in typed(chat("front-desk", "--text"))


def test_an_agent_that_calls_wants_its_variables() -> None:
    process = chat("reminder", "--text")
    _, err = process.communicate("", timeout=50)
    assert process.returncode == 1
    assert "needs the variables name, appointment_day, appointment_time: --var name=…" in " ".join(
        err.split()
    )


def test_without_a_voice_it_is_in_writing_and_says_so(tmp_path: Path) -> None:
    (port,) = _free_ports(1)
    nobody = f"http://127.0.0.1:{port}"
    out = typed(chat("front-desk", SESAME_SELF_HOSTED_URL=nobody), "/quit")
    assert "In writing only: " in out
    assert "ENGINE=preview" in out
    process = chat("front-desk", "--save", str(tmp_path / "said.wav"), SESAME_SELF_HOSTED_URL=nobody)
    _, err = process.communicate("", timeout=50)
    assert process.returncode == 1
    assert "--save needs a voice" in err


@pytest.fixture
def voice(tmp_path: Path) -> Iterator[str]:
    (port,) = _free_ports(1)
    environment = {
        **CLEAN,
        "ENGINE": "preview",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "PYTHONPATH": str(ROOT),
    }
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "runpod_server"], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline_s = time.monotonic() + 40
        while time.monotonic() < deadline_s:
            try:
                if httpx.get(f"{url}/health", trust_env=False).json().get("status") != "loading":
                    break
            except (httpx.TransportError, ValueError):
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=20)


def test_with_a_voice_it_is_kept_and_typing_interrupts_it(voice: str, tmp_path: Path) -> None:
    said = tmp_path / "said.wav"
    process = chat("front-desk", "--save", str(said), SESAME_SELF_HOSTED_URL=voice)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        heard = ""
        while "picks up" not in heard:
            heard += process.stdout.readline()
        # Two seconds on, the agent is in the middle of its greeting.
        process.stdin.write("/silence 2\nI want to talk to a real person, please.\n")
        process.stdin.flush()
        while "connect you" not in heard:
            line = process.stdout.readline()
            assert line, heard
            heard += line
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert "— interrupted" in heard
    assert process.returncode == 0, out + err
    assert "Traceback" not in err
    assert "Saved" in out
    with wave.open(str(said)) as recording:
        assert recording.getframerate() == 8000
        assert recording.getnframes() > 3 * 8000
