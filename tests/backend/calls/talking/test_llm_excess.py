"""A language model that writes more than anybody listens to, or says one thing again and again."""

from __future__ import annotations

import asyncio
import time

import pytest

from backend.calls.talking.llm_turn import LlmTurn
from backend.core.flow import Flow
from backend.core.llm import Message, ToolCall
from tests.backend.calls.talks import HELP, ScriptedModel, ScriptedTools

MOST_SPOKEN = 2_400
SENTENCE = "We are open until six on every day but Sunday. "


def turn_of(model: ScriptedModel, tools: ScriptedTools | None = None) -> LlmTurn:
    ask = Flow(HELP, {}, thinks=True).start().ask
    assert ask is not None
    talk = [Message("user", "When are you open?")]
    return LlmTurn(HELP, ask, talk, model, tools or ScriptedTools(), on_tools=lambda calls, results: None)


async def spoken_by(turn: LlmTurn) -> str:
    async with asyncio.timeout(20):
        said = [piece.text async for piece in turn.pieces()]
    await turn.aclose()
    return " ".join(said)


@pytest.mark.parametrize(
    ("reply", "least"),
    [
        ([SENTENCE * 2_200], 2_000),
        ([SENTENCE] * 2_200, 2_000),
        (["no end " * 15_000], 0),
        (["no end "] * 15_000, 0),
        (["a" * 100_000], 0),
        (["🙂 *** " * 20_000], 0),
        (["*", *["\n"] * 100_000], 0),
    ],
    ids=["at once", "bit by bit", "one sentence", "word by word", "one word", "signs", "blanks"],
)
async def test_a_hundred_thousand_characters_are_cut_off(reply: list[str], least: int) -> None:
    model, began_s = ScriptedModel(reply), time.thread_time()
    said = await spoken_by(turn_of(model))
    assert least <= len(said) <= MOST_SPOKEN
    assert len(model.asked) == 1
    assert time.thread_time() - began_s < 3.0, "late on any machine"


async def test_a_hundred_calls_of_one_tool_use_it_once() -> None:
    book = ToolCall("t", "hours", '{"day": "Monday"}')
    tools = ScriptedTools()
    turn = turn_of(ScriptedModel(*[[book] * 25] * 4, ["It is done."]), tools)
    await spoken_by(turn)
    assert len(tools.calls) == 1
    assert turn.broke_off
