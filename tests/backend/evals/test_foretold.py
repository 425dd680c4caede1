"""What is said before an agent is tried, and while it is."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from backend.cli import app
from backend.core.agent import Agent
from backend.evals.foretold import foretold, real_requests
from backend.evals.warnings import warnings_told
from backend.settings import Settings, load_settings
from backend.simulator.stack import _free_ports

HOOK = {"type": "webhook", "url": "http://127.0.0.1:9/hook"}


def document(**more: Any) -> dict[str, Any]:
    ask = {
        "id": "ask", "prompt": "Answer.", "say": "How can I help?", "actions": [HOOK],
        "transitions": [{"to": "bye", "when": {"keywords": ["bye"]}}],
    }  # fmt: skip
    nodes = [ask, {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]}]
    return {
        "id": "shop", "name": "Shop", "phone_numbers": ["+15550100031"], "greeting": "Hello.",
        "call_flow": {"start": "ask", "nodes": nodes}, **more,
    }  # fmt: skip


def shop(**more: Any) -> Agent:
    return Agent.model_validate_json(json.dumps(document(**more)))


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def test_what_it_goes_without_and_what_is_real() -> None:
    tool = {"name": "stock", "description": "What there is.", "url": "http://127.0.0.1:9/",
            "headers": {"Authorization": "Bearer {{secret:CRM_KEY}}"}}  # fmt: skip
    agent = shop(llm={"provider": "openai", "model": "m"}, tools=[tool])
    tools, webhooks = real_requests(agent, webhooks=True)
    assert webhooks == "Shop: its webhook actions are real: each is sent."
    assert list(foretold(agent, load_settings(None), {})) == [
        "Shop: it has no language model: set OPENAI_API_KEY, or OPENAI_BASE_URL to another server",
        "agent shop: tools[0].headers.Authorization: set CRM_KEY, and name it in AGENT_SECRETS",
        tools,
    ]
    assert tools == "Shop: its tools are real: whenever one is used, its request is sent (stock)."
    settings = load_settings(None, openai_api_key="k")
    assert len(list(foretold(agent, settings, {"CRM_KEY": "c"}))) == 1
    assert list(foretold(shop(llm={"provider": "none"}), settings, {})) == []


def test_a_warning_is_told_once_without_secrets_and_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    log = logging.getLogger("backend.somewhere")
    with warnings_told(told.append, {"KEY": "k3y-of-mine"}):
        log.warning("call call_1: the key is k3y-of-mine")
        log.warning("call call_2: the key is k3y-of-mine")
        log.info("all is well")
    assert len(told) == 1 and told[0].startswith("the key is ") and "k3y" not in told[0]
    assert caplog.text == ""


def eval_of(tmp_path: Path, agent: dict[str, Any]) -> str:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "shop.json").write_text(json.dumps(agent))
    steps = [
        {"wait_for": "hello", "timeout_ms": 60_000},
        {"wait_until_quiet": True},
        {"say": "When are you open?"},
        {"wait_for": "help", "timeout_ms": 60_000},
    ]
    suite = {"name": "Shop", "agent": "shop", "cases": [{"id": "one", "steps": steps}]}
    (tmp_path / "suite.json").write_text(json.dumps(suite))
    return " ".join(CliRunner().invoke(app, ["eval", "suite.json"]).output.split())


def test_eval_says_that_the_model_is_missing(tmp_path: Path) -> None:
    out = eval_of(tmp_path, document(llm={"provider": "openai", "model": "m"}))
    assert "! Shop: it has no language model: set OPENAI_API_KEY" in out


def test_eval_says_that_the_model_cannot_be_reached_and_webhooks_are_off(tmp_path: Path) -> None:
    (port,) = _free_ports(1)
    llm = {"provider": "openai", "model": "m", "base_url": f"http://127.0.0.1:{port}/v1"}
    out = eval_of(tmp_path, document(llm=llm))
    assert "! language model (unreachable): language model m at 127.0.0.1" in out
    assert "! webhook actions are off here: nothing is sent to 127.0.0.1" in out
