"""Both programs as they are started: Ctrl-C before they have begun, `-h`, `--version`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import backend
import runpod_server

ROOT = Path(__file__).parents[1]
PRESSED = """
import importlib, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == {during!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.argv = ["program", *{arguments!r}]
sys.meta_path.insert(0, CtrlC())
getattr(importlib.import_module({module!r}), {function!r})()
"""


def python(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "function", "arguments", "during"),
    [
        ("backend.entry", "main", ["demo"], "backend.cli"),
        ("backend.entry", "main", ["demo"], "rich.console"),
        ("backend.entry", "main", ["serve"], "backend.app"),
        ("backend.entry", "serve", [], "backend.run"),
        ("backend.entry", "serve", [], "backend.app"),
        ("runpod_server.entry", "main", [], "runpod_server.cli"),
        ("runpod_server.entry", "main", [], "numpy"),
        ("runpod_server.entry", "main", ["serve", "--engine", "preview"], "uvloop"),
    ],
)
def test_ctrl_c_in_the_first_second_ends_quietly(
    tmp_path: Path, module: str, function: str, arguments: list[str], during: str
) -> None:
    code = PRESSED.format(module=module, function=function, arguments=arguments, during=during)
    ended = python("-c", code, folder=tmp_path)
    assert (ended.returncode, ended.stderr.strip()) == (130, "")


@pytest.mark.parametrize(
    ("module", "name"),
    [("backend", "voice-agent"), ("backend.cli", "voice-agent"), ("runpod_server", "sesame-server"),
     ("backend.simulator", "voice-agent"), ("backend.simulator.llm", "voice-agent"),
     ("backend.simulator.elevenlabs", "voice-agent")],
)  # fmt: skip
def test_every_program_tells_its_version_and_helps(module: str, name: str) -> None:
    told = python("-m", module, "--version")
    assert (told.returncode, told.stdout.strip()) == (0, f"{name} {backend.__version__}")
    for option in ("-h", "--help"):
        helped = python("-m", module, option)
        assert helped.returncode == 0 and "usage" in helped.stdout.lower()


def test_both_packages_are_of_one_version() -> None:
    assert runpod_server.__version__ == backend.__version__


def test_what_the_backend_does_not_take_is_wrong_usage() -> None:
    refused = python("-m", "backend", "--sing")
    assert refused.returncode == 2 and "--sing" in refused.stderr


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("backend.cli", ("agents", "check")),
        ("backend.cli", ("simulate",)),
        ("runpod_server", ("voices", "list")),
    ],
)
def test_a_command_of_a_program_helps(module: str, command: tuple[str, ...]) -> None:
    assert python("-m", module, *command, "-h").returncode == 0


@pytest.mark.parametrize("module", ["backend", "runpod_server"])
def test_a_mistyped_setting_is_pointed_out_at_the_start(tmp_path: Path, module: str) -> None:
    # Neither gets far: there are no agents, and the voices cannot be kept.
    lines = "SESAME_APIKEY=s3cr3t\nAGENTS_DIR=none\nVOICES_DIR=/dev/null/voices\nCRM_KEY=x\n"
    (tmp_path / ".env").write_text(lines)
    started = python("-m", module, folder=tmp_path)
    assert started.returncode == 1
    assert (
        started.stderr.count("SESAME_APIKEY is no setting and has no effect; did you mean SESAME_API_KEY?")
        == 1
    )
    assert "CRM_KEY" not in started.stderr and "s3cr3t" not in started.stderr
