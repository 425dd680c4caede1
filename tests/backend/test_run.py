"""The backend's own log: whatever is written, by whomever, holds no key."""

from __future__ import annotations

import logging
import sys

import pytest

from backend.run import WithoutSecrets
from backend.settings import load_settings, secrets_of


def test_every_key_and_password_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_KEY", "crm-canary")
    settings = load_settings(
        None,
        openai_api_key="openai-canary",
        stt_api_key="stt-canary",
        agent_secrets="CRM_KEY",
        database_url="postgresql+asyncpg://me:db%2Fcanary@db.example/calls",
        sesame_self_hosted_url="http://a.example,https://me:pod-canary@b.example",
    )
    assert set(secrets_of(settings).values()) == {
        "openai-canary", "stt-canary", "crm-canary", "db/canary", "pod-canary"
    }  # fmt: skip


def test_a_key_is_in_no_line_and_no_traceback() -> None:
    formatter = WithoutSecrets("%(message)s", {"A": "canary-1", "B": "db/canary", "C": "ab"})
    try:
        raise ValueError("refused: canary-1")
    except ValueError:
        record = logging.LogRecord("x", logging.DEBUG, "f", 1, "at %s", ("db%2Fcanary",), sys.exc_info())
    text = formatter.format(record)
    assert text.startswith("at [secret]\nTraceback")
    assert text.endswith("ValueError: refused: [secret]")
    assert "cabs" in formatter.format(logging.LogRecord("x", 10, "f", 1, "cabs", (), None)), "too short a key"
