"""Settings and an agent's wishes become a language model and tools, or the reason why not."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from backend.calls.boards.llm_board import LlmBoard
from backend.core.agent import Agent
from backend.core.agent_text import parse_agent
from backend.core.llm import Message, TextDelta
from backend.errors import LlmError
from backend.settings import Settings, load_settings
from backend.simulator.llm import LlmStandIn, running
from backend.simulator.llm_script import LlmScript
from backend.thinking import Thinking


def agent(**llm: Any) -> Agent:
    wants = {"provider": "openai", "model": "m"} | llm
    nodes = [{"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]}]
    text = {"id": "a", "name": "A", "llm": wants, "call_flow": {"start": "bye", "nodes": nodes}}
    return parse_agent(json.dumps(text), file="f")


@asynccontextmanager
async def thinking(*agents: Agent, **settings: Any) -> AsyncIterator[Thinking]:
    board = LlmBoard(lambda: time.monotonic() * 1000)
    made = Thinking(_settings(**settings), {}, board, lambda: agents)
    try:
        yield made
    finally:
        await made.aclose()


def _settings(**settings: Any) -> Settings:
    return load_settings(None, openai_api_key=settings.pop("openai_api_key", None), **settings)


async def test_without_a_key_for_openai_the_call_flow_decides_alone() -> None:
    async with thinking(openai_base_url="https://api.openai.com/v1") as made:
        assert made.language_model(agent()) is None
        assert "OPENAI_API_KEY" in (made.lack(agent()) or "")
        assert made.language_model(agent(base_url="http://127.0.0.1:1/v1")) is not None
        off = agent().model_copy(update={"llm": agent().llm.model_copy(update={"provider": "none"})})
        assert made.lack(off) is None and made.language_model(off) is None


async def test_one_model_for_all_calls_of_an_agent() -> None:
    async with thinking(openai_api_key="k") as made:
        assert made.language_model(agent()) is made.language_model(agent())
        assert made.language_model(agent()) is not made.language_model(agent(temperature=0.5))
        assert made.toolbox(agent(), {}) is None


async def test_the_model_answers() -> None:
    script = LlmScript.model_validate({"rules": [{"reply": "Good day."}], "api_key": "k"})
    async with running(LlmStandIn(script)) as url, thinking(openai_base_url=url, openai_api_key="k") as made:
        model = made.language_model(agent())
        assert model is not None
        events = [event async for event in model.reply([Message("user", "Hello")])]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "Good day."


async def test_what_one_agent_meets_of_a_model_holds_for_all_who_ask_it() -> None:
    one, other, none = agent(), agent(temperature=0.5), agent(provider="none", model=None)
    async with thinking(one, other, none, openai_base_url="http://127.0.0.1:1/v1") as made:
        assert [(row.model, row.state) for row in made.health_now()] == [("m", "unknown")]
        reasons = []
        for wanting in (one, one, other):
            model = made.language_model(wanting)
            assert model is not None
            with pytest.raises(LlmError) as caught:
                async for _ in model.reply([Message("user", "Hello")]):
                    pass
            reasons.append(caught.value.reason)
        assert reasons == ["unreachable", "unreachable", "left_alone"]
        (row,) = made.health_now()
        assert (row.state, row.breaker, row.server) == ("down", "open", "http://127.0.0.1:1/v1")
