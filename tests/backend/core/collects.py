"""A call at a node that collects a value, for tests."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from backend.core.agent_text import inspect_agent
from backend.core.flow import Flow
from backend.core.steps import Step

PHONE = "[2-9][0-9]{9}"
TODAY = date(2026, 11, 21)
GO_ON = ("Please go on.",)


def call(
    kind: str,
    *,
    confirm: bool = False,
    keys: str | None = None,
    thinks: bool = False,
    ways_out: bool = True,
    **more: Any,
) -> Flow:
    whens: list[dict[str, Any]] = [{"digits": keys}] if keys else [{"otherwise": True}]
    node = {
        "id": "get",
        "say": "Which one?",
        "collect": {"name": "value", "type": kind, "confirm": confirm},
        "transitions": [{"to": "bye", "when": when} for when in whens],
    }
    ends = [{"id": name, "say": "Bye.", "actions": [{"type": "hangup"}]} for name in ("bye", "human")]
    everywhere = [{"to": "human", "when": when} for when in ({"digits": "0"}, {"keywords": ["operator"]})]
    call_flow = {"start": "get", "nodes": [node | more, *ends], "transitions": everywhere if ways_out else []}
    data = {
        "id": "desk",
        "name": "Desk",
        "llm": {"provider": "openai", "model": "m"},
        "call_flow": call_flow,
    }
    inspection = inspect_agent(json.dumps(data), file="f")
    assert inspection.agent, inspection.errors
    flow = Flow(inspection.agent, {}, thinks=thinks, today=TODAY)
    flow.start()
    return flow


def tell(flow: Flow, *said: str) -> Step:
    """Say one turn after the other, then nothing more."""
    step = None
    for text in said:
        step = flow.heard(text)
    assert step is not None
    if step.listen is not None and not step.say and flow.node_id == "get":
        step = flow.silence(step.listen.silence_ms or 0)
    return step


def value_of(flow: Flow, *said: str) -> str | None:
    tell(flow, *said)
    return flow.variables.get("value")
