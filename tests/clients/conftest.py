"""The newest releases of other people's clients against a real speech server, in a process of its own.

Off by default, as environments are fetched for them: `make test-clients` runs them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backend.stt.local import LocalTranscriber
from tests.speech_process import speech_process

HERE = Path(__file__).parent
KEY = "a-key-nobody-guesses"
START_DEADLINE_S = 60.0
CLIENT_DEADLINE_S = 240.0
VERSIONS: dict[str, str] = {}

Case = dict[str, Any]
Ask = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Server:
    """Where a client finds the speech server."""

    url: str
    key: str


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with _running(tmp_path_factory.mktemp("speech-server"), KEY) as running:
        yield running


@pytest.fixture(scope="session")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that wants no key."""
    with _running(tmp_path_factory.mktemp("speech-server"), "") as running:
        yield running


@contextmanager
def _running(folder: Path, key: str) -> Iterator[Server]:
    with speech_process(folder, key, start_s=START_DEADLINE_S, stop_s=20) as port:
        yield Server(f"http://127.0.0.1:{port}/v1", key or "any")


@pytest.fixture(scope="session")
def ask(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Run a client's script with its cases on stdin; its answers, by the cases' names."""

    def run(command: list[str], cases: dict[str, Case], where: Server = server) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("sound")
        task = {"base_url": where.url, "api_key": where.key, "folder": str(folder), "cases": cases}
        done = subprocess.run(
            command, input=json.dumps(task), env=_bare_environment(folder), cwd=folder,
            capture_output=True, text=True, timeout=CLIENT_DEADLINE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        VERSIONS.update({answers["client"]: answers["version"]})
        return dict(answers["answers"])

    return run


def _bare_environment(home: Path) -> dict[str, str]:
    """No PYTHONPATH and no keys of the machine's reach a client."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "HOME": str(home)}


@pytest.fixture(scope="session")
def ears() -> Iterator[LocalTranscriber]:
    pytest.importorskip("moonshine_voice")
    transcriber = LocalTranscriber()
    yield transcriber
    transcriber.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if VERSIONS:
        terminalreporter.write_line("clients: " + ", ".join(f"{n} {v}" for n, v in VERSIONS.items()))
