"""An agent that thinks by a language model, in a call whose time leaps: the model is waited for."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack

import pytest

from backend.calls.ports import LanguageModel, Toolbox
from backend.core.agent import Agent
from backend.core.llm import LlmEvent, Message, TextDelta, ToolCall, ToolSpec
from backend.errors import ToolError
from backend.evals.text_call import Mind, run_text
from backend.evals.thinking import ToolUse, WaitedModel, WatchedToolbox
from backend.simulator.script import parse_script

BOOK = ToolCall("call_1", "book", '{"day": "Tuesday"}')


class Tools:
    """Books what is asked for, but not on Monday."""

    async def call(self, call: ToolCall) -> str:
        if "Monday" in call.arguments:
            raise ToolError("Monday is full.")
        return '{"booked": true}'


async def test_a_tool_s_use_is_told_whatever_comes_of_it() -> None:
    told: list[ToolUse] = []
    tools = WatchedToolbox(Tools(), told.append)
    assert await tools.call(BOOK) == '{"booked": true}'
    with pytest.raises(ToolError):
        await tools.call(ToolCall("call_2", "book", '{"day": "Monday"}'))
    assert [use.line for use in told] == [
        """book(day='Tuesday') → {"booked": true}""", "book(day='Monday') ✗ Monday is full.",
    ]  # fmt: skip


class Model:
    """Says something on its way, and closes properly."""

    def __init__(self) -> None:
        self.closed = 0

    async def reply(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()
    ) -> AsyncGenerator[LlmEvent]:
        try:
            yield TextDelta("One. ")
            yield TextDelta("Two.")
        finally:
            self.closed += 1

    async def aclose(self) -> None:
        """Nothing to close."""


async def test_a_model_that_is_left_early_is_told_so() -> None:
    model = Model()
    events = WaitedModel(model).reply([Message("user", "Hello.")])
    assert await anext(events) == TextDelta("One. ")
    await events.aclose()
    assert model.closed == 1


def test_a_mind_is_made_for_each_call_and_closed_after_it() -> None:
    seen: list[str] = []

    async def open_mind(stack: AsyncExitStack) -> Mind:
        seen.append("opened")
        stack.callback(seen.append, "closed")

        def model(agent: Agent) -> LanguageModel | None:
            return None

        def tools(agent: Agent, variables: Mapping[str, str]) -> Toolbox | None:
            return None

        return Mind(model, tools)

    bye = {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]}
    document = {"id": "one", "name": "One", "call_flow": {"start": "bye", "nodes": [bye]}}
    agent = Agent.model_validate_json(json.dumps(document))
    evidence = run_text(agent, parse_script({}), "inbound", {}, open_mind)
    assert seen == ["opened", "closed"]
    assert evidence.call["state"] == "ended"
    assert evidence.call["tools"] == []
