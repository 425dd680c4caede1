"""`voice-agent agents check` asks the speech server that is set up, and no other."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from backend.cli import app
from tests.backend.tts.answering import server

REMINDER = Path(__file__).parents[2] / "agents" / "reminder.json"
HEALTHY = {"status": "healthy", "model_loaded": True, "engine": "csm", "unbound_speakers": []}


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """What the command says of the reminder, which speaks as speaker 6, and its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESAME_API_KEY", "secret")
    shutil.copy(REMINDER, tmp_path)

    async def check(url: str) -> tuple[str, int]:
        monkeypatch.setenv("SESAME_SELF_HOSTED_URL", url)
        result = await asyncio.to_thread(CliRunner().invoke, app, ["agents", "check", str(tmp_path)])
        return " ".join(result.output.split()), result.exit_code

    return check


async def test_a_speaker_without_a_voice_is_warned_of(checked: Callable[[str], Any]) -> None:
    def tells(path: str, key: str | None) -> tuple[int, object]:
        return (200, HEALTHY | {"unbound_speakers": [6]}) if key == "Bearer secret" else (401, {})

    async with server(tells) as url:
        said, code = await checked(url)
    assert code == 0 and "✓ Willow Clinic reminder" in said
    assert f"! reminder: speaker 6 has no voice at the speech server {url}" in said


async def test_where_every_speaker_has_a_voice_nothing_is_said(checked: Callable[[str], Any]) -> None:
    async with server(lambda path, key: (200, HEALTHY)) as url:
        said, code = await checked(url)
    assert code == 0 and "speaker" not in said


async def test_a_server_of_this_machine_that_does_not_run_is_no_warning(
    checked: Callable[[str], Any],
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # nobody listens
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        said, code = await checked(url)
    assert code == 0 and "!" not in said
    assert said.endswith(
        f"· The speech server at {url} is not running, so whether it has a voice for each speaker was not "
        "checked."
    )


def test_a_fresh_folder_whose_env_names_no_server_asks_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SESAME_SELF_HOSTED_URL", raising=False)
    assert CliRunner().invoke(app, ["init"]).exit_code == 0
    env = tmp_path / ".env"
    env.write_text(re.sub(r"(?m)^(SESAME_SELF_HOSTED_URL=).*", r"\1", env.read_text()))
    result = CliRunner().invoke(app, ["agents", "check"])
    assert result.exit_code == 0 and "speech server" not in result.output and "!" not in result.output


async def test_a_server_that_cannot_be_asked_is_said_and_the_files_are_sound(
    checked: Callable[[str], Any],
) -> None:
    async with server(lambda path, key: (502, {})) as url:
        said, code = await checked(url)
    assert code == 0
    assert "! Whether the agents' speakers have a voice could not be asked. Sesame speech server" in said


async def test_a_server_that_hangs_is_waited_for_two_seconds(checked: Callable[[str], Any]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # and never answers
        said, code = await checked(f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert code == 0 and "does not answer" in said


async def test_without_an_address_none_is_asked(checked: Callable[[str], Any]) -> None:
    said, code = await checked("")
    assert code == 0 and "speaker" not in said
