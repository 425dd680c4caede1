"""The template `taxi`: its callers, its dispatch office and its language model's script, together."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from backend.cli import app

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@contextmanager
def serving(folder: Path, *arguments: str, prints: str) -> Iterator[str]:
    """A program that runs on, and what it printed as its address."""
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}, text=True,
    ) as program:  # fmt: skip
        try:
            assert program.stdout
            found = next((match for line in program.stdout if (match := re.search(prints, line))), None)
            assert found, "it ended before it listened"
            yield found.group(1)
        finally:
            program.kill()


@contextmanager
def office(folder: Path, *options: str) -> Iterator[None]:
    """The dispatch office at a free port, which is written into the agent's file."""
    with serving(folder, "dispatch.py", "--port", "0", *options, prints=r"(http://\S+)") as url:
        agent = folder / "agents" / "taxi.json"
        agent.write_text(agent.read_text().replace("http://127.0.0.1:8500", url))
        yield


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    assert run("init", "--template", "taxi").exit_code == 0
    return tmp_path


def test_its_callers_order_without_a_language_model(folder: Path) -> None:
    with office(folder):
        result = run("eval")
    assert result.exit_code == 0, result.output
    assert "it has no language model" in result.output


def test_its_callers_order_with_a_language_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ("-m", "backend.simulator.llm", "--port", "0", "--script", "replies.json")
    with office(folder), serving(folder, *model, prints=r"OPENAI_BASE_URL=(\S+)") as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        result = run("eval", "evals-model")
    assert result.exit_code == 0, result.output
    assert "it has no language model" not in result.output


@pytest.mark.parametrize("options", [("--broken",), None])
def test_an_office_that_is_away_leads_to_a_colleague(folder: Path, options: tuple[str, ...] | None) -> None:
    if options is None:
        result = run("eval", "-k", "plain-order")
    else:
        with office(folder, *options):
            result = run("eval", "-k", "plain-order")
    assert result.exit_code == 1
    assert re.search(r"booking\W+booking_failed", re.sub(r"\s+", " ", result.output)), result.output


def test_the_form_and_the_tool_know_the_same_cars(folder: Path) -> None:
    text = (folder / "agents" / "taxi.json").read_text()
    office_text = (folder / "dispatch.py").read_text()
    for car in re.findall(r'"value": "([^"]+)"', text):
        assert f'"{car}"' in office_text and text.count(f'"{car}"') > 2, car
