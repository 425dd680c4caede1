"""What is in the wheel, and what a person can do in an empty folder with nothing else.

What works with `[local]`, all of README and docs, is in test_documented_commands.py.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.install.conftest import ROOT, Installation

pytestmark = pytest.mark.timeout(300)
PACKAGES = ("backend", "runpod_server")
SHIPPED = {"agents": "*.json", "evals": "*.json", "docs": "**/*.md"}


def test_everything_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    for package in PACKAGES:
        files = [path for path in (ROOT / package).rglob("*") if path.is_file()]
        for path in files:
            if path.suffix != ".pyc" and "shipped/docs" not in str(path):
                assert str(path.relative_to(ROOT)) in held
    for folder, pattern in SHIPPED.items():
        for path in (ROOT / folder).glob(pattern):
            assert held[f"backend/shipped/{path.relative_to(ROOT)}"] == path.read_bytes()
    assert held["backend/shipped/env.example"] == (ROOT / ".env.example").read_bytes()


def test_without_agents_a_sentence_says_how_to_get_some(core: Installation) -> None:
    for command in ("agents check", "eval", "chat", "serve", "latency", "prompts prepare"):
        assert "`voice-agent init`" in core.sentence("voice-agent", *command.split()), command


def test_core_works_in_writing(core: Installation) -> None:
    assert core.run("voice-agent", "init").returncode == 0
    assert core.run("voice-agent", "agents", "check").returncode == 0
    chat = core.run("voice-agent", "chat", "front-desk", "--text", typed="a person, please\n")
    assert chat.returncode == 0 and "Welcome" in chat.stdout or "thank you for calling" in chat.stdout
    evaluated = core.run("voice-agent", "eval", "evals/reminder.json")
    assert evaluated.returncode == 0, evaluated.stdout + evaluated.stderr


def test_core_says_what_to_install_for_the_rest(core: Installation) -> None:
    core.run("voice-agent", "init")
    how = f"'sesame-telephony[local] @ {core.wheel.as_uri()}'"
    for command in (
        "voice-agent demo",
        "voice-agent simulate --agent front-desk --script wants-a-human",
        "voice-agent eval --audio",
        "voice-agent serve",
        "sesame-server serve --engine preview",
        "python -m backend.simulator",
    ):
        name, *arguments = command.split()
        done = core.run(name, *arguments)
        told = done.stdout + done.stderr
        assert done.returncode in (1, 2) and "Traceback" not in told, command
        assert how in told.splitlines()[-1], command
    doctor = core.run("sesame-server", "doctor", "--offline").stdout
    assert "sesame-telephony[local]" in doctor and "Traceback" not in doctor


def test_core_serves_with_a_remote_recogniser(core: Installation) -> None:
    core.run("voice-agent", "init", "remote", "--template", "blank")
    file = core.folder / "remote" / "agents" / "my-agent.json"
    agent = json.loads(file.read_text())
    file.write_text(json.dumps({**agent, "stt": {"provider": "telnyx"}}))
    told = _served(
        core, TELNYX_API_KEY="KEY", TELNYX_BASE_URL="http://127.0.0.1:9/v2", agents_dir="remote/agents"
    )
    assert told["ready"] == 200
    assert [route["name"] for route in told["health"]["hearing"]] == ["telnyx"]


def test_with_local_the_demo_is_held_in_an_empty_folder(local: Installation) -> None:
    empty = local.folder / "empty"
    empty.mkdir()
    demo = subprocess.Popen(
        [local.bin / "voice-agent", "demo"], cwd=empty, env=local.environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert demo.stdout is not None
    heard = ""
    for line in demo.stdout:
        heard += line
        if "thank you for calling" in line:  # both programs and the stand-in are up, and the agent speaks
            demo.send_signal(signal.SIGINT)
            break
    rest, _ = demo.communicate()
    assert demo.returncode == 130, heard + rest
    assert "everything is stopped" in rest


def _served(installation: Installation, *, agents_dir: str = "agents", **settings: str) -> dict[str, Any]:
    """What a backend answers once it is up; it is then stopped as by Ctrl-C."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    backend = subprocess.Popen(
        [installation.bin / "voice-agent", "serve", "--agents-dir", agents_dir],
        cwd=installation.folder, env=installation.environment(PORT=str(port), **settings),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        while True:
            assert backend.poll() is None, backend.communicate()[0]
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/health", trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.05)
    finally:
        backend.send_signal(signal.SIGINT)
        told, _ = backend.communicate()
    assert backend.returncode == 0 and "Traceback" not in told, told
    return {"ready": answer.status_code, "health": answer.json()}
