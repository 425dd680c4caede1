"""An agent that thinks by a language model, in a call whose time leaps: the model is waited for."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress

import pytest

from backend.calls.ports import LanguageModel, Toolbox
from backend.core.agent import Agent
from backend.core.llm import LlmEvent, Message, TextDelta, ToolCall, ToolSpec
from backend.errors import ToolError
from backend.evals.mind import mind_of
from backend.evals.text_call import Mind, run_text
from backend.evals.thinking import ToolUse, WaitedModel, WatchedToolbox
from backend.settings import load_settings
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


def test_a_model_that_hangs_is_left_alone_and_tried_again_by_the_call_s_own_time() -> None:
    help_ = {
        "id": "help",
        "say": "How can I help?",
        "prompt": "Answer.",
        "transitions": [{"to": "bye", "when": {"keywords": ["bye"]}}],
    }
    bye = {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]}
    with socket.create_server(("127.0.0.1", 0)) as hung:
        document = {
            "id": "one",
            "name": "One",
            "llm": {
                "provider": "openai",
                "model": "m",
                "base_url": f"http://127.0.0.1:{hung.getsockname()[1]}/v1",
                "first_token_ms": 300,
                "filler_ms": 100,
            },
            "turns": {"max_reprompts": 10, "idle_ms": 30_000},
            "call_flow": {"start": "help", "nodes": [help_, bye]},
        }
        quiet = {"wait_until_quiet": True}
        steps = [
            *(quiet, {"say": "When are you open?"}, quiet, {"say": "And now?"}, quiet),
            *({"silent_ms": 20_000}, {"say": "Until when?"}, quiet, {"say": "Good bye."}),
        ]
        began_s = time.monotonic()
        agent = Agent.model_validate_json(json.dumps(document))
        evidence = run_text(
            agent,
            parse_script({"steps": steps}),
            "inbound",
            {},
            mind_of(load_settings(None, openai_api_key=None), {}),
        )
        hung.setblocking(False)
        asked = 0
        with suppress(BlockingIOError):
            while True:
                hung.accept()[0].close()
                asked += 1
    assert time.monotonic() - began_s < 50, "the minutes of the call were not waited for"
    said = [turn["text"] for turn in evidence.call["turns"] if turn["role"] == "agent"]
    again = "Sorry, I didn't catch that. How can I help?"
    assert (said[0], said[1], said[-1]) == ("One moment, please.", "How can I help?", "Goodbye.")
    assert sum(text.endswith(again) for text in said) == 3
    assert asked == 3, "on entering, once more, and after twenty seconds"
