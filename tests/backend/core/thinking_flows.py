"""Calls of an agent with a language model, for tests."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from backend.core.agent_text import inspect_agent
from backend.core.flow import Flow
from backend.core.steps import Step

TODAY = date(2026, 11, 21)
BYE = {"id": "bye", "say": "Goodbye, {{who}}.", "actions": [{"type": "hangup"}]}


def to(target: str, **when: Any) -> dict[str, Any]:
    return {"to": target, "when": when or {"otherwise": True}}


def flow(
    *nodes: dict[str, Any], thinks: bool = True, given: dict[str, str] | None = None, **more: Any
) -> Flow:
    text = json.dumps(
        {
            "id": "desk",
            "name": "Desk",
            "llm": {"provider": "openai", "model": "m"},
            "call_flow": {"start": nodes[0]["id"], "nodes": [*nodes, BYE]},
            "variables": {"who": "friend"},
        }
        | more
    )
    inspection = inspect_agent(text, file="f")
    assert inspection.agent, inspection.errors
    return Flow(inspection.agent, given or {}, thinks=thinks, today=TODAY)


def started(*nodes: dict[str, Any], **more: Any) -> tuple[Flow, Step]:
    call = flow(*nodes, **more)
    return call, call.start()
