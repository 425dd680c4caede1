"""Names in `.env` that were meant for settings are pointed out; what belongs to others is left alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import runpod_server.settings
from backend.settings import Settings, unknown_in_env_file
from backend.unknown_settings import unknown_settings
from runpod_server.unknown_settings import unknown_settings as unknown_to_the_speech_server
from tests.backend.test_cli import run

ROOT = Path(__file__).parents[2]
EXAMPLE = re.findall(r"^(?:# )?([A-Z][A-Z0-9_]*)=", (ROOT / ".env.example").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SESAME_APIKEY", "SESAME_API_KEY"),
        ("TELNYX_APIKEY", "TELNYX_API_KEY"),
        ("OPEN_AI_API_KEY", "OPENAI_API_KEY"),
        ("telnyx_publik_key", "TELNYX_PUBLIC_KEY"),
        ("AGENT_DIR", "AGENTS_DIR"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("ELEVEN_LABS_API_KEY", "ELEVENLABS_API_KEY"),
    ],
)
def test_the_nearest_name_is_told(name: str, meant: str) -> None:
    (told,) = unknown_settings([name], Settings.model_fields, [])
    assert told == f".env: {name} is no setting and has no effect; did you mean {meant}?"


def test_one_that_begins_as_ours_do_is_pointed_out() -> None:
    (told,) = unknown_settings(["TELNYX_REGION_OF_CHOICE"], Settings.model_fields, [])
    assert "docs/reference/settings.md" in told


def test_secrets_of_agents_and_variables_of_others_are_not_scolded() -> None:
    names = [
        "CRM_KEY",
        "COMPOSE_PROJECT_NAME",
        "PATH",
        "DEBUG",
        "HTTP_PROXY",
        "SESAME_HOME",
        "TELNYX_CRM_KEY",
    ]
    assert unknown_settings(names, Settings.model_fields, ["TELNYX_CRM_KEY"]) == []


def test_neither_program_scolds_what_the_other_reads() -> None:
    assert len(EXAMPLE) > 40
    assert unknown_settings(EXAMPLE, Settings.model_fields, []) == []
    assert unknown_to_the_speech_server(EXAMPLE, runpod_server.settings.Settings.model_fields) == []


def test_the_speech_server_knows_its_own() -> None:
    known = runpod_server.settings.Settings.model_fields
    for name, meant in (("SESAME_APIKEY", "SESAME_API_KEY"), ("CSM_WEIGHT", "CSM_WEIGHTS")):
        assert unknown_to_the_speech_server([name], known)[0].endswith(f"did you mean {meant}?")


def test_the_file_is_read_and_its_agents_secrets_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENT_SECRETS", raising=False)
    path = tmp_path / ".env"
    assert unknown_in_env_file(path) == []
    path.write_text("AGENT_SECRETS=TELNYX_CRM_KEY, OTHER\nTELNYX_CRM_KEY=a\nSESAME_APIKEY=b\n")
    assert [told.split()[1] for told in unknown_in_env_file(path)] == ["SESAME_APIKEY"]


def test_a_command_points_it_out_and_tells_no_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from backend import cli

    monkeypatch.chdir(tmp_path)
    cli._unknown_settings_told.cache_clear()
    (tmp_path / ".env").write_text("SESAME_APIKEY=s3cr3t\n")
    result = run("prompts", "list")
    assert result.stderr.count("did you mean SESAME_API_KEY?") == 1
    assert "s3cr3t" not in result.output
    cli._unknown_settings_told.cache_clear()
