"""Every piece of an agent file that the documentation shows loads as it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.core.agent import Agent, HttpTool
from backend.core.agent_text import inspect_agent
from backend.core.call_flow import Collect, Node, Transition
from backend.core.templates import BUILTIN_VARIABLES, variable_names

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# These show messages of servers, and tests of their own read them; whole agents are looked for there, too.
OF_OTHERS = re.compile(r"http-api|speech-server|sesame-server|simulator|stand-in|first-call|test-an-agent")
BYE = {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]}
ONWARD = {"to": "bye", "when": {"otherwise": True}}
FIELDS = {model: set(model.model_fields) for model in (Agent, Node, HttpTool, Transition, Collect)}


def _shown() -> Iterator[tuple[str, dict[str, Any]]]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for at, block in enumerate(re.findall(r"```json\n(.*?)```", text, re.DOTALL)):
            if "call_flow" in block or not OF_OTHERS.search(page.name):
                shown = json.loads(block if block.startswith("{") else f"{{{block}}}")
                if "spoken" not in shown:  # a call's record
                    yield f"{page.name} {at}", shown
        if page.name == "agents.md":
            plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
            for piece in re.findall(r'`("\w+": [^`]+)`', plain):
                yield piece[:40], json.loads(f"{{{piece}}}")


def _whole(shown: dict[str, Any]) -> dict[str, Any]:
    """An agent around what is shown: a whole one, settings, a tool, a node, or a part of a node."""
    if "call_flow" in shown:
        return shown
    agent: dict[str, Any] = {"id": "desk", "name": "Desk", "llm": {"provider": "openai", "model": "m"}}
    names = set(variable_names(json.dumps(shown, ensure_ascii=False))) - BUILTIN_VARIABLES.keys()
    agent["variables"] = dict.fromkeys(sorted(names), "")
    node: dict[str, Any] = {"id": "shown", "say": "Yes?", "transitions": [ONWARD]}
    keys = shown.keys()
    if keys >= {"url", "parameters"}:
        agent["tools"] = [shown]
    elif keys <= FIELDS[Node]:
        node |= shown
    elif keys <= FIELDS[Collect]:
        node["collect"] = {"name": "day", **shown}
    elif keys <= FIELDS[Transition]:
        node["transitions"] = [{"to": "bye", "when": {"keywords": ["yes"]}, **shown}]
    else:
        agent |= shown
    agent.setdefault("tools", [_tool(name) for name in node.get("tools", ())])
    others = {item["to"] for item in node["transitions"]} - {"bye", node["id"]}
    nodes = [node, *({**BYE, "id": name} for name in sorted(others)), BYE]
    return {"call_flow": {"start": node["id"], "nodes": nodes}} | agent


def _tool(name: str) -> dict[str, str]:
    return {"name": name, "description": "d", "url": "https://crm.example"}


SHOWN = list(_shown())


@pytest.mark.parametrize(("where", "shown"), SHOWN, ids=[where for where, _ in SHOWN])
def test_what_is_shown_of_an_agent_loads(where: str, shown: dict[str, Any]) -> None:
    inspection = inspect_agent(json.dumps(_whole(shown)), file=where)
    assert inspection.agent, inspection.errors
    assert [line for line in inspection.warnings if "never reached" not in line] == []


def test_there_are_some_of_each() -> None:
    pieces = [shown for _, shown in SHOWN]
    assert any("call_flow" in shown for shown in pieces)
    assert any(shown.keys() >= {"url", "parameters"} for shown in pieces)
    assert any(shown.keys() >= {"prompt", "transitions"} for shown in pieces)
    assert sum("collect" in shown or "confirm" in shown for shown in pieces) >= 2
