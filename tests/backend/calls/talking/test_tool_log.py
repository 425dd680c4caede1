"""What tools did stands in the call's record, whatever became of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from backend.calls.talking.recorder import TurnRecorder
from backend.calls.talking.tool_log import LoggedToolbox, readable
from backend.core.llm import LlmEvent, Message, TextDelta, ToolCall, ToolSpec
from backend.core.records import ToolUse
from backend.errors import ToolError
from tests.backend.calls.carrier import house
from tests.backend.calls.fakes import MemoryStore, agent


class Box:
    """Does what it is told; `clock` goes on by 250 ms meanwhile."""

    def __init__(self) -> None:
        self.now_ms = 1000.0
        self.failure: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.called = asyncio.Event()

    def clock(self) -> float:
        return self.now_ms

    async def call(self, call: ToolCall) -> str:
        self.called.set()
        self.now_ms += 250
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return "done"


class World:
    def __init__(self) -> None:
        self.box, self.recorder, self.used = Box(), TurnRecorder(MemoryStore(), "call"), list[ToolUse]()
        keep = self.recorder.add_tool

        def add_tool(tool: ToolUse) -> None:
            self.used.append(tool)
            keep(tool)

        self.recorder.add_tool = add_tool  # type: ignore[method-assign]
        self.logged = LoggedToolbox(self.box, self.recorder, clock=self.box.clock, node_id=lambda: "desk")


def book(arguments: str = '{"day": "Friday"}') -> ToolCall:
    return ToolCall("1", "book", arguments)


async def test_uses_are_kept_in_order_with_their_time() -> None:
    world = World()
    assert await world.logged.call(book()) == "done"
    world.box.failure = ToolError("book refused this (HTTP 422): no table\0.")
    with pytest.raises(ToolError):
        await world.logged.call(book('{"day": "Monday"}'))
    assert world.used == [
        ToolUse(0, "book", {"day": "Friday"}, True, 1000.0, 250.0, "desk"),
        ToolUse(
            1,
            "book",
            {"day": "Monday"},
            False,
            1250.0,
            250.0,
            "desk",
            "book refused this (HTTP 422): no table.",
        ),
    ]


async def test_one_that_is_given_up_or_breaks_is_kept_without_what_it_said() -> None:
    world = World()
    world.box.failure = RuntimeError("Authorization: Bearer sk-secret")
    with pytest.raises(RuntimeError):
        await world.logged.call(book())
    world.box.gate, world.box.called = asyncio.Event(), asyncio.Event()
    work = asyncio.create_task(world.logged.call(book()))
    await world.box.called.wait()
    work.cancel()
    await asyncio.wait([work])
    assert work.cancelled()
    assert [(use.ok, use.problem) for use in world.used] == [
        (False, "It failed."),
        (False, "It was given up before it answered."),
    ]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", {}),
        ('{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}),
        ('{"a": "\\ud83d"}', {"a": "?"}),
        ('{"a": NaN}', {"unreadable": '{"a": NaN}'}),
        ("[1]", {"unreadable": "[1]"}),
        ('{"a": ', {"unreadable": '{"a": '}),
        ("[" * 100_000, {"unreadable": "[" * 500}),
        ('{"a": "' + "x" * 9000 + '"}', {"unreadable": '{"a": "' + "x" * 493}),
    ],
)
def test_arguments_are_kept_as_far_as_they_can_be_read(given: str, kept: dict[str, Any]) -> None:
    assert readable(given) == kept


class Model:
    """Uses the tool, then says so."""

    def __init__(self) -> None:
        self.asked = 0

    async def reply(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()
    ) -> AsyncGenerator[LlmEvent]:
        self.asked += 1
        yield book() if self.asked == 1 else TextDelta("It is booked.")

    async def aclose(self) -> None:
        pass


async def test_a_calls_tools_stand_in_its_record() -> None:
    tool = {"name": "book", "description": "Book a table.", "url": "https://book.example/"}
    onward = [{"to": "bye", "when": {"digits": "1"}}]
    desk = agent(
        {"id": "desk", "prompt": "Book.", "tools": ["book"], "transitions": onward},
        {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]},
        llm={"provider": "openai", "model": "m"},
        tools=[tool],
    )
    async with house(desk, language_model=lambda agent: Model(), toolbox=lambda agent, variables: Box()) as h:
        h.carrier.ring()
        await h.heard("It is booked.")
        h.carrier.hang_up()
        await h.calls_over()
    (use,) = h.store.tools[h.store.only.id].values()
    assert (use.name, use.arguments, use.ok, use.node_id) == ("book", {"day": "Friday"}, True, "desk")
    assert use.at_ms >= 0 and use.took_ms >= 0
