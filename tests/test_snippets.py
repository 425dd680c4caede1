"""What the pages about hearing and language models show can be used as it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from backend.core.agent_text import inspect_agent
from backend.settings import Settings
from backend.simulator.llm import _parser
from backend.simulator.llm_script import LlmScript

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {page: (DOCS / page).read_text(encoding="utf-8") for page in (
    "reference/agents.md", "reference/llm-stand-in.md", "reference/settings.md", "explanation/failover.md",
    "explanation/flow-and-language-model.md",
)}  # fmt: skip
BYE = {"id": "bye", "say": "Bye.", "actions": [{"type": "hangup"}]}
TOOL = {"name": "price_of", "description": "Prices.", "url": "https://crm.example/prices"}
LLM = {"provider": "openai", "model": "any"}


def blocks(page: str) -> list[str]:
    return re.findall(r"```json\n(.*?)```", PAGES[page], re.DOTALL)


def agent_of(*nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    ways = {"bye"} | {item["to"] for node in nodes for item in node.get("transitions", ())}
    others = [{**BYE, "id": way} for way in sorted(ways - {node["id"] for node in nodes})]
    flow = {"start": nodes[0]["id"], "nodes": [*nodes, *others]}
    return {"id": "a", "name": "A", "call_flow": flow, **more}


def is_sound(agent: dict[str, Any]) -> None:
    inspection = inspect_agent(json.dumps(agent), file="a.json")
    assert inspection.agent, inspection.errors


def inline(page: str, field: str) -> list[str]:
    """Pieces such as `"llm": {…}` in the running text."""
    return re.findall(rf'`"{field}": (\{{[^`]*\}})`', PAGES[page])


def test_the_node_that_thinks() -> None:
    (node,) = [json.loads(block) for block in blocks("explanation/flow-and-language-model.md")]
    is_sound(agent_of(node, tools=[TOOL], llm=LLM))


def test_the_tool() -> None:
    (tool,) = [json.loads(block) for block in blocks("reference/agents.md") if block.startswith('{"name"')]
    node = {"id": "ask", "prompt": "Book.", "tools": [tool["name"]], "transitions": [
        {"to": "bye", "when": {"tool": tool["name"]}}]}  # fmt: skip
    is_sound(agent_of(node, tools=[tool], llm=LLM, variables={"branch": "north"}))


def test_the_stand_ins_script_and_command() -> None:
    script, _, _ = blocks("reference/llm-stand-in.md")
    LlmScript.model_validate_json(script)
    (command,) = re.findall(
        r"python -m backend\.simulator\.llm (--port.*)", PAGES["reference/llm-stand-in.md"]
    )
    options = _parser().parse_args(command.split())
    assert options.port == 8400


@pytest.mark.parametrize("page", PAGES)
def test_pieces_of_agents_in_the_text(page: str) -> None:
    for field in ("llm", "stt", "turns"):
        for piece in inline(page, field):
            if "…" not in piece:
                is_sound(agent_of(BYE, **{field: json.loads(piece)}))


def test_defaults_that_the_reference_names_are_those() -> None:
    section = re.search(r"^## Hearing$(.*?)^## ", PAGES["reference/agents.md"], re.DOTALL | re.MULTILINE)
    assert section is not None
    agent = inspect_agent(json.dumps(agent_of(BYE)), file="a.json").agent
    assert agent is not None
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", section.group(1), re.MULTILINE)
    assert {name for name, _ in rows} >= {"provider", "timeout_ms", "fallbacks"}
    for name, default in rows:
        assert agent.stt.model_dump(mode="json")[name] == json.loads(default), name


def test_every_setting_named_in_capitals_is_one() -> None:
    known = {name.upper() for name in Settings.model_fields}
    for page, text in PAGES.items():
        named = set(re.findall(r"`((?:OPENAI|STT|ELEVENLABS|TELNYX|SESAME|AGENT)_[A-Z_]+)`", text))
        assert named <= known, (page, named - known)
