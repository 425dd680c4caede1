"""A node looks something up without a language model, and says what it found.

Its HTTP server is called in this process: a clock that leaps does not wait for sockets. What tools do with
real ones is tested in `tests/backend/llm/test_tools.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from backend.calls.ports import Toolbox
from backend.core.agent import Agent
from backend.llm.tools import HttpToolbox
from tests.backend.calls.carrier import house
from tests.backend.calls.fakes import agent
from tests.backend.calls.talks import BYE, node, to

URL = "http://crm.example"


def desk(url: str = URL, **changes: Any) -> Agent:
    tool = {
        "name": "find",
        "description": "Finds a time.",
        "url": f"{url}/slots",
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
    asked: list[str] = []
    crm = FastAPI()

    @crm.get("/slots")
    async def slots(request: Request) -> JSONResponse:
        asked.append(request.url.query)
        if slow:
            await asyncio.Event().wait()
        return JSONResponse({"slots": [{"time": "9:30"}]}, status)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(crm), timeout=None) as http:

        def toolbox(agent: Agent, variables: MutableMapping[str, str]) -> Toolbox:
            return HttpToolbox(agent.tools, variables=variables, secrets={}, http=http)

        async with house(desk(timeout_ms=1500), toolbox=toolbox) as h:
            h.carrier.ring()
            await h.heard("Goodbye.")
            await h.calls_over()
    assert asked == ["day=Friday&people=2"]
    turns = h.store.turns[h.store.only.id].values()
    assert [turn.text for turn in sorted(turns, key=lambda turn: turn.index)] == [*words, "Goodbye."]
    (use,) = h.store.tools[h.store.only.id].values()
    assert (use.name, use.ok, use.node_id) == ("find", status == 200 and not slow, "look")
