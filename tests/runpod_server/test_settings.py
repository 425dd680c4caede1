from __future__ import annotations

from pathlib import Path

import pytest

from runpod_server.errors import StartError
from runpod_server.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def empty_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_defaults() -> None:
    settings = load_settings()
    assert (settings.engine, settings.port, settings.chunk_samples) == ("", 8000, 4800)
    assert settings.csm_model == "sesame/csm-1b"
    assert settings.api_key is None


def test_the_command_line_wins_over_the_environment_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("PORT=1001\nMAX_STREAMS=7\nSESAME_API_KEY=from-file\nTELNYX_API_KEY=not-ours\n")
    assert load_settings().port == 1001
    monkeypatch.setenv("PORT", "1002")
    assert load_settings().port == 1002
    assert load_settings(port=1003, host=None).port == 1003
    assert load_settings().max_streams == 7
    assert load_settings().api_key == "from-file"


def test_an_empty_key_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESAME_API_KEY", "")
    assert load_settings().api_key is None


def test_a_key_is_not_shown() -> None:
    assert "hush" not in repr(load_settings(sesame_api_key="hush"))


@pytest.mark.parametrize(
    "name, value", [("PORT", "eighty"), ("ENGINE", "espeak"), ("MAX_STREAMS", "0"), ("CHUNK_SAMPLES", "100")]
)
def test_a_bad_setting_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StartError, match=f"{name}='{value}'"):
        load_settings()


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "speech-server.md").read_text("utf-8")
    assert [name for name in Settings.model_fields if f"`{name.upper()}`" not in page] == []
