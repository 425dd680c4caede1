"""A simulated backend has what `serve` would have, and no way to the world's carrier or to stored calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.settings import Settings, load_settings
from backend.simulated_settings import simulated_settings


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_models_hearing_and_secrets_come_along() -> None:
    settings = load_settings(
        None, openai_api_key="k", openai_base_url="http://here/v1", elevenlabs_api_key="e", stt_api_key="s",
        agent_secrets="CRM_KEY", smart_turn_model="turn.onnx", webhook_actions=False,
    )  # fmt: skip
    assert simulated_settings(settings, {"CRM_KEY": "c"}) == {
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_URL": "http://here/v1",
        "ELEVENLABS_API_KEY": "e",
        "STT_API_KEY": "s",
        "AGENT_SECRETS": "CRM_KEY",
        "CRM_KEY": "c",
        "SMART_TURN_MODEL": str(Path("turn.onnx").resolve()),
        "WEBHOOK_ACTIONS": "false",
    }


def test_carrier_database_ports_and_keys_of_its_own_stay_away() -> None:
    settings = load_settings(
        None, telnyx_api_key="k", telnyx_public_key="p", telnyx_base_url="https://api.telnyx.com/v2",
        telnyx_connection_id="1", telnyx_from_number="+15551234567", public_url="https://me.example",
        sesame_api_key="s", sesame_self_hosted_url="http://pod", database_url="postgresql+asyncpg://db/calls",
        agents_dir="mine", prompts_dir="mine", api_key="a", host="0.0.0.0", port=1, log_level="DEBUG",
    )  # fmt: skip
    assert simulated_settings(settings, {}) == {}


def test_a_secret_called_as_such_a_setting_does_not_take_its_place() -> None:
    settings = load_settings(None, agent_secrets="TELNYX_BASE_URL,DATABASE_URL,API_KEY")
    secrets = {"TELNYX_BASE_URL": "https://api.telnyx.com", "DATABASE_URL": "postgresql://x", "API_KEY": "a"}
    assert set(simulated_settings(settings, secrets)) == {"AGENT_SECRETS"}


def test_what_nobody_set_is_left_to_the_defaults() -> None:
    assert simulated_settings(load_settings(None), {}) == {}
