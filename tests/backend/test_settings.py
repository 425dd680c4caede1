from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backend.errors import ConfigError
from backend.settings import Settings, load_agent_secrets, load_settings, missing

HERE = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_defaults() -> None:
    settings = load_settings(None)
    assert settings.database_url == "sqlite+aiosqlite:///voice-agent.sqlite3"
    assert (settings.host, settings.port, settings.agents_dir) == ("127.0.0.1", 8080, Path("agents"))
    assert settings.sesame_server_urls == ("http://127.0.0.1:8000",)
    assert settings.telnyx_base_url == "https://api.telnyx.com/v2"


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "env"
    file.write_text(
        "PORT=1234\nHOST=0.0.0.0\nTELNYX_API_KEY=KEYsecret\nLOG_LEVEL=debug\nENGINE=preview\nAPI_KEY=\n"
    )
    monkeypatch.setenv("PORT", "4321")
    settings = load_settings(file)
    assert (settings.port, settings.host, settings.log_level, settings.api_key) == (
        4321,
        "0.0.0.0",
        "DEBUG",
        None,
    )
    assert settings.telnyx_api_key and settings.telnyx_api_key.get_secret_value() == "KEYsecret"
    assert "KEYsecret" not in repr(settings)


def test_a_list_of_speech_servers() -> None:
    settings = load_settings(None, sesame_self_hosted_url=" https://a.example/ , http://b:8000,")
    assert settings.sesame_server_urls == ("https://a.example", "http://b:8000")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("port", "99999", "PORT: input should be less than or equal to 65535 (found '99999')"),
        ("public_url", "example.com", "PUBLIC_URL: must be an address such as https://example.com"),
        ("sesame_self_hosted_url", "ws://a", "SESAME_SELF_HOSTED_URL: must be an address"),
        ("sesame_self_hosted_url", " , ", "SESAME_SELF_HOSTED_URL: must name at least one"),
        ("telnyx_from_number", "555", "TELNYX_FROM_NUMBER: must be a number in international form"),
        ("log_level", "loud", "LOG_LEVEL: input should be 'DEBUG'"),
        ("timezone", "America/NewYork", "TIMEZONE: there is no time zone 'America/NewYork'; did you mean"),
        ("sesame_enabled", "perhaps", "SESAME_ENABLED: input should be a valid boolean"),
    ],
)
def test_what_cannot_be_used_is_said(
    name: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name.upper(), value)
    with pytest.raises(ConfigError) as caught:
        load_settings(None)
    assert str(caught.value).startswith(sentence)
    assert "mend it in the environment or .env" in str(caught.value)


def test_a_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "env").write_bytes(b"HOST=\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_settings(tmp_path / "env")


COMPLETE = {
    "telnyx_api_key": "KEY",
    "telnyx_public_key": "k",
    "telnyx_connection_id": "1",
    "telnyx_from_number": "+15550100001",
    "public_url": "https://example.com",
}


@pytest.mark.parametrize(
    "voices",
    [
        {},
        {"sesame_enabled": False},
        {"sesame_enabled": False, "sesame_self_hosted": False},
        {"sesame_self_hosted": False, "sesame_url": "https://example.com"},
        {"sesame_fallback_enabled": True, "sesame_fallback_url": "https://example.com"},
        {"elevenlabs_api_key": "k"},
    ],
)
def test_nothing_is_missing_when_all_is_set(voices: dict[str, Any]) -> None:
    assert missing(load_settings(None, **COMPLETE | voices)) == []


@pytest.mark.parametrize("name", COMPLETE)
def test_what_is_missing_is_named_and_what_to_do(name: str) -> None:
    sentences = missing(load_settings(None, **COMPLETE | {name: None}))
    assert len(sentences) == 1
    assert sentences[0].startswith(f"{name.upper()} is not set: ") and sentences[0].endswith(".")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"host": "0.0.0.0"}, "API_KEY is not set"),
        ({"host": "example.com"}, "API_KEY is not set"),
        ({"sesame_self_hosted": False}, "SESAME_URL is not set and SESAME_SELF_HOSTED is false"),
        (
            {"sesame_fallback_enabled": True},
            "SESAME_FALLBACK_ENABLED is true and SESAME_FALLBACK_URL is not set",
        ),
        ({"sesame_fallback_url": "https://example.com"}, "SESAME_FALLBACK_URL has no effect"),
        ({"sesame_url": "https://example.com"}, "SESAME_URL has no effect while SESAME_SELF_HOSTED is true"),
    ],
)
def test_what_is_missing_for_what_was_chosen(changes: dict[str, Any], word: str) -> None:
    sentences = missing(load_settings(None, **COMPLETE | changes))
    assert len(sentences) == 1 and sentences[0].startswith(word)


@pytest.mark.parametrize(
    ("host", "loopback"), [("localhost", True), ("::1", True), ("127.0.0.9", True), ("0.0.0.0", False)]
)
def test_loopback(host: str, loopback: bool) -> None:
    assert load_settings(None, host=host).is_loopback is loopback


def test_every_setting_is_documented_in_the_reference() -> None:
    text = (HERE / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    for name in Settings.model_fields:
        assert f"`{name.upper()}`" in text, name


def test_secrets_of_agents_are_those_that_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "env"
    file.write_text("AGENT_SECRETS=CRM_KEY, BOOK_KEY,NOT_SET\nCRM_KEY=from-file\nBOOK_KEY=x\nOTHER_KEY=y\n")
    monkeypatch.setenv("CRM_KEY", "from-environment")
    found = load_agent_secrets(load_settings(file), file)
    assert found == {"CRM_KEY": "from-environment", "BOOK_KEY": "x"}
    assert load_agent_secrets(load_settings(None), None) == {}


def test_a_value_among_the_names_of_secrets_is_not_shown() -> None:
    with pytest.raises(ConfigError, match="AGENT_SECRETS: must be names") as caught:
        load_settings(None, agent_secrets="CRM_KEY=hunter2")
    assert "hunter2" not in str(caught.value)
