"""Calls of agents that go by what is written, for tests."""

from __future__ import annotations

import json
from typing import Any

from backend.core.agent import Agent
from backend.core.agent_text import inspect_agent
from backend.core.flow import Flow

OTHERWISE = {"otherwise": True}


def node(id: str, *transitions: tuple[str, dict[str, Any]], say: str = "", **more: Any) -> dict[str, Any]:
    going = [{"to": to, "when": when} for to, when in transitions]
    return {"id": id, "say": [say] if say else [], "transitions": going} | more


def end(id: str = "end", say: str = "Goodbye.") -> dict[str, Any]:
    return {"id": id, "say": say, "actions": [{"type": "hangup"}]}


def agent(
    *nodes: dict[str, Any], everywhere: tuple[tuple[str, dict[str, Any]], ...] = (), **more: Any
) -> Agent:
    flow = {
        "start": nodes[0]["id"],
        "nodes": nodes,
        "transitions": [{"to": to, "when": when} for to, when in everywhere],
    }
    text = json.dumps({"id": "desk", "name": "Desk", "call_flow": flow} | more)
    inspection = inspect_agent(text, file="desk.json")
    assert inspection.agent, inspection.errors
    return inspection.agent


def flow(*nodes: dict[str, Any], **more: Any) -> Flow:
    return Flow(agent(*nodes, **more), {})


def started(*nodes: dict[str, Any], **more: Any) -> Flow:
    call = flow(*nodes, **more)
    call.start()
    return call
