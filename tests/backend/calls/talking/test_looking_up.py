"""A node looks something up without a language model, at a real HTTP server, and says what it found."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from backend.calls.ports import Toolbox
from backend.core.agent import Agent
from backend.llm.tools import HttpToolbox, make_http_client
from tests.backend.calls.carrier import house
from tests.backend.calls.fakes import agent
from tests.backend.calls.talks import BYE, node, to
from tests.backend.llm.test_tools import answer, server


def desk(url: str, **changes: Any) -> Agent:
    tool = {
        "name": "find",
        "description": "Finds a time.",
        "url": url + "/slots",
        "method": "GET",
        "parameters": {
            "type": "object",
            "properties": {"day": {"type": "string"}, "people": {"type": "integer"}},
            "required": ["day"],
        },
        "set": {"slot": "slots.0.time"},
        **changes,
    }
    action = {
        "type": "lookup",
        "tool": "find",
        "arguments": {"day": "{{day}}", "people": "{{people}}"},
        "failed": "sorry",
    }
    return agent(
        node("look", "Let me see.", actions=[action], transitions=[to("found")]),
        node("found", "There is {{slot}}.", transitions=[to("bye")]),
        node("sorry", "I cannot look it up.", transitions=[to("bye")]),
        BYE,
        tools=[tool],
        variables={"day": "Friday", "people": "2"},
    )


@pytest.mark.parametrize(
    ("status", "slow", "words"),
    [
        (200, False, ["Let me see.", "There is 9:30."]),
        (503, False, ["Let me see.", "I cannot look it up."]),
        (200, True, ["Let me see.", "One moment, please.", "I cannot look it up."]),
    ],
)
async def test_a_node_says_what_it_looked_up(status: int, slow: bool, words: list[str]) -> None:
    async with server() as crm, make_http_client() as http:
        found = answer(json.dumps({"slots": [{"time": "9:30"}]}).encode(), status=status)
        crm.reply = lambda _: None if slow else found

        def toolbox(agent: Agent, variables: MutableMapping[str, str]) -> Toolbox:
            return HttpToolbox(agent.tools, variables=variables, secrets={}, http=http)

        async with house(desk(crm.url, timeout_ms=1500), toolbox=toolbox) as h:
            h.carrier.ring()
            await h.heard("Goodbye.")
            await h.calls_over()
        assert crm.heads[0].startswith("GET /slots?day=Friday&people=2 HTTP/1.1")
    turns = h.store.turns[h.store.only.id].values()
    assert [turn.text for turn in sorted(turns, key=lambda turn: turn.index)] == [*words, "Goodbye."]
    (use,) = h.store.tools[h.store.only.id].values()
    assert (use.name, use.ok, use.node_id) == ("find", status == 200 and not slow, "look")
