"""Settings that lead to the fault tests' servers, and agents who speak by any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backend.core.agent import Agent
from backend.core.speech import RouteName
from backend.latency.subjects import Choice, choose
from backend.settings import Settings, load_settings
from tests.backend.calls.fakes import agent
from tests.faults.servers import FaultyServer

BYE = {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]}
TEXT = "Hello there, how are you?"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def speaker() -> Callable[..., Agent]:
    def make(**given: Any) -> Agent:
        return agent(BYE, **{"elevenlabs_settings": {"voice_id": "adam"}} | given)

    return make


@pytest.fixture
def leading_to() -> Callable[[FaultyServer], Settings]:
    return settings_for


@pytest.fixture
def only(speaker: Callable[..., Agent]) -> Callable[..., Any]:
    """→ what to measure when this server is all there is."""

    async def chosen(server: FaultyServer, text: str = TEXT) -> Choice:
        return await choose(settings_for(server), [speaker()], text, names=[server.service])

    return chosen


def settings_for(server: FaultyServer) -> Settings:
    """With keys that must never be shown."""
    base = server.url.replace("ws", "http", 1) if server.url.startswith("ws") else server.url
    given: dict[RouteName, dict[str, Any]] = {
        "sesame_ws": {"sesame_self_hosted_url": base.removesuffix("/ws/generate")},
        "sesame_rest": {"sesame_self_hosted_url": base.removesuffix("/generate")},
        "sesame_fallback": {"sesame_fallback_enabled": True, "sesame_fallback_url": base},
        "sesame_hosted": {"sesame_self_hosted": False, "sesame_url": base},
    }
    vendor = {"elevenlabs_base_url": base, "elevenlabs_api_key": "secret-theirs"}
    keys = {"sesame_api_key": "secret-ours", "sesame_fallback_api_key": "secret-other"}
    return load_settings(None, **keys, **given.get(server.service, vendor))
