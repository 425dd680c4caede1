"""The command line: a user's mistake is one sentence and exit 1, never a traceback."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from backend import __version__
from backend.cli import app
from backend.storage.prompt_file import Prompt
from backend.storage.prompts import PromptStore

AGENTS = Path(__file__).parents[2] / "agents"


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def told(result: Result) -> str:
    """What went wrong, on one line."""
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


def test_version() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.output.strip() == f"voice-agent {__version__}"


def test_help_names_the_commands() -> None:
    result = run("--help")
    assert all(command in result.output for command in ("serve", "demo", "simulate", "agents"))


def test_the_shipped_agents_are_sound() -> None:
    result = run("agents", "check", AGENTS)
    assert result.exit_code == 0, result.output
    assert "8015d274-4291-432a-acba-fcac59fac97b" in result.output
    assert "reminder" in result.output


def test_a_broken_agent_file_is_named_with_field_and_reason(tmp_path: Path) -> None:
    shutil.copy(AGENTS / "reminder.json", tmp_path)
    agent = json.loads((AGENTS / "front-desk.json").read_text(encoding="utf-8"))
    agent["greting"] = "Hello."
    (tmp_path / "broken.json").write_text(json.dumps(agent), encoding="utf-8")
    result = run("agents", "check", tmp_path)
    assert result.exit_code == 1
    output = " ".join(result.output.split())
    assert "✓ Willow Clinic reminder" in output
    assert "broken.json" in output and "greting" in output and "greeting" in output


@pytest.mark.parametrize("arguments", [("agents", "check"), ("demo", "--agents-dir")])
def test_a_folder_without_agents_is_said_to_be_so(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert "holds no agent file" in told(run(*arguments, tmp_path))


def test_a_folder_that_is_none_is_said_to_be_so(tmp_path: Path) -> None:
    assert "is not a folder" in told(run("demo", "--agents-dir", tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("agents", "check"),
        ("eval", AGENTS.parent / "evals" / "front-desk.json"),
        ("simulate", "--agent", "reminder", "--script", "reminder-confirm"),
        ("chat", "reminder"),
        ("latency",),
    ],
)
def test_agents_are_looked_for_where_the_settings_say(
    arguments: tuple[str | Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTS_DIR", str(tmp_path))
    message = told(run(*arguments))
    assert "holds no agent file" in message and tmp_path.name in message


def test_a_folder_asked_for_comes_before_the_settings_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTS_DIR", str(tmp_path))
    assert run("agents", "check", AGENTS).exit_code == 0


def test_the_demo_calls_the_shipped_agents_unless_told_otherwise(tmp_path: Path) -> None:
    help_text = " ".join(run("demo", "--help").output.replace("│", "").split())
    assert "[default: (the shipped ones)]" in help_text
    nowhere = tmp_path / "nowhere"
    assert f"{nowhere} is not a folder" in told(run("demo", "--agents-dir", nowhere))


def test_an_unknown_agent_is_answered_with_the_known_ones() -> None:
    message = told(
        run("simulate", "--agent", "frontdesk", "--script", "wants-a-human", "--agents-dir", AGENTS)
    )
    assert "there is no agent frontdesk" in message
    assert "Willow Clinic reminder (reminder)" in message


def test_an_unknown_script_is_answered_with_the_known_ones() -> None:
    message = told(run("simulate", "--agent", "reminder", "--script", "zzz", "--agents-dir", AGENTS))
    assert "there is no script zzz" in message
    assert "wants-a-human" in message


def test_a_broken_script_is_named_with_step_and_reason(tmp_path: Path) -> None:
    script = tmp_path / "mine.json"
    script.write_text('{"steps": [{"say": "Hello."}, {"press": "five"}]}', encoding="utf-8")
    message = told(run("simulate", "--agent", "reminder", "--script", script, "--agents-dir", AGENTS))
    assert "mine.json" in message.replace(" ", "")
    assert "steps[1]: press: keys are 0-9" in message


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--codec", "OPUS", "choose PCMU or PCMA"),
        ("--var", "name", "write NAME=VALUE"),
        ("--speech-url", "localhost:8000", "--speech-url localhost:8000: must be an address such as"),
    ],
)
def test_other_wrong_options_are_told(option: str, value: str, reason: str) -> None:
    message = told(
        run(
            "simulate", "--agent", "reminder", "--script", "reminder-confirm", "--agents-dir", AGENTS,
            option, value,
        )
    )  # fmt: skip
    assert reason in message


@pytest.mark.parametrize("name", ["front-desk", "front-desk.json", "Willow Clinic front desk"])
def test_agents_are_found_by_file_and_by_name(name: str) -> None:
    message = told(run("simulate", "--agent", name, "--script", "zzz", "--agents-dir", AGENTS))
    assert "there is no script zzz" in message  # so the agent was found


def test_prompts_are_listed_and_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTS_DIR", str(tmp_path / "prompts"))
    monkeypatch.setenv("PROMPTS_MAX_MB", "1")
    store = PromptStore(tmp_path / "prompts", max_bytes=1 << 20)
    store.put("a" * 64, Prompt(b"\xff" * 12_000, "Hello.", "sesame rowan", "preview"))
    store.put("b" * 64, Prompt(b"\xff" * 4_000, "Goodbye.", "sesame alder", "preview"))

    listed = run("prompts", "list").output
    assert "1.5 s  Hello." in listed and "sesame alder, made by preview" in listed
    assert "2 prompts, 2 s" in listed
    assert "1 prompts removed" in run("prompts", "clear", "--voice", "rowan").output
    assert [prompt.text for _, prompt in store.prompts()] == ["Goodbye."]
    assert "1 prompts removed" in run("prompts", "clear").output
    assert "0 prompts" in run("prompts", "list").output


def test_prompts_that_cannot_be_kept_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PROMPTS_DIR", str(tmp_path / "file"))
    assert "set PROMPTS_DIR to a folder" in told(run("prompts", "list"))
    monkeypatch.setenv("PROMPTS_MAX_MB", "0")
    assert "PROMPTS_MAX_MB is 0" in told(run("prompts", "clear"))


def test_preparing_needs_a_speech_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMPTS_DIR", str(tmp_path))
    monkeypatch.setenv("AGENTS_DIR", str(AGENTS))
    with socket.socket() as nobody:  # bound and not listening: every connection is refused
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("SESAME_SELF_HOSTED_URL", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        assert "All connection attempts failed" in told(run("prompts", "prepare", "--agent", "reminder"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--runs", "0"), "--runs 0: give a number from 1 to 1000"),
        (("--agent", "nobody"), "there is no agent nobody in "),
        (("--route", "sesame"), "--route sesame: there is no such route; choose from sesame_ws, "),
        (("--route", "elevenlabs"), "no speech route is configured that could be measured: elevenlabs: set "),
        (("--text", "***"), "--text: there is nothing in it that can be spoken"),
    ],
)
def test_what_cannot_be_measured_is_told(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTS_DIR", str(AGENTS))
    monkeypatch.delenv("ELEVENLABS_API_KEY", raising=False)
    assert sentence in told(run("latency", "--out", tmp_path / "out", *arguments))
    assert not (tmp_path / "out").exists()


def test_one_agent_file_is_checked_alone(tmp_path: Path) -> None:
    shutil.copy(AGENTS / "front-desk.json", tmp_path / "mine[1].json")
    (tmp_path / "other.json").write_text("{}")
    result = run("agents", "check", tmp_path / "mine[1].json")
    assert result.exit_code == 0
    assert "Willow Clinic front desk" in result.output and "other.json" not in result.output
    result = run("agents", "check", tmp_path / "other.json")
    assert result.exit_code == 1 and "other.json" in result.output


def test_an_agent_file_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    message = told(run("agents", "check", tmp_path / "nosuch.json"))
    assert "nosuch.json does not exist: give an agent's file, or a folder of them" in message


def test_secrets_that_are_not_named_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    agent = json.loads((AGENTS / "front-desk.json").read_text(encoding="utf-8"))
    tool = {
        "name": "find",
        "description": "Finds.",
        "url": "https://crm.example/find",
        "headers": {"Authorization": "Bearer {{secret:CRM_KEY}}"},
        "parameters": {"type": "object", "properties": {}},
    }
    (tmp_path / "desk.json").write_text(json.dumps({**agent, "id": "desk", "tools": [tool]}))
    monkeypatch.setenv("CRM_KEY", "0123456789")
    result = run("agents", "check", tmp_path)
    warning = "! agent desk: tools[0].headers.Authorization: set CRM_KEY, and name it in AGENT_SECRETS"
    assert result.exit_code == 0 and warning in result.output
    monkeypatch.setenv("AGENT_SECRETS", "CRM_KEY")
    assert "CRM_KEY" not in run("agents", "check", tmp_path).output


def test_who_only_looks_at_prompts_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PROMPTS_DIR", raising=False)
    for command in ("list", "clear"):
        result = run("prompts", command)
        assert result.exit_code == 0 and "Nothing is prepared" in result.output
    assert list(tmp_path.iterdir()) == []
