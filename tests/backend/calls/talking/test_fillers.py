"""What is said while a tool takes its time: when, how often, and never over the caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import ValidationError

from backend.calls.talking.fillers import Fillers, Waiting
from backend.core.agent import Agent
from backend.core.agent_checks import find_errors
from tests.backend.calls.fakes import agent, until
from tests.backend.calls.talks import BYE, HOURS

TEXTS = ("One moment.", "Still at it.", "Thank you for waiting.", "A fourth.")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.calls.talking.fillers.FIRST_AFTER_S", 0.05)
    monkeypatch.setattr("backend.calls.talking.fillers.MORE_AFTER_S", 0.15)
    monkeypatch.setattr("backend.calls.talking.fillers._AFTER_CALLER_S", 0.05)


class Bridge:
    """A tool that works until `done`, and what is said meanwhile."""

    def __init__(self, waiting: Waiting | None = None) -> None:
        self.done = asyncio.Event()
        self.waiting = waiting or Waiting()
        self.fillers = Fillers("en-US", self.waiting)
        self.said: list[str] = []
        self.at_s: list[float] = []

    async def run(self, texts: tuple[str, ...] = TEXTS) -> None:
        work = asyncio.create_task(self.done.wait())
        self.at_s.append(asyncio.get_running_loop().time())
        async for piece in self.fillers.bridge(work, texts):
            self.said.append(piece.text)
            self.at_s.append(asyncio.get_running_loop().time())
        await work


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    yield Bridge()


async def test_three_of_them_each_another_and_then_silence(bridge: Bridge) -> None:
    running = asyncio.create_task(bridge.run())
    await until(lambda: len(bridge.said) == 3)
    await asyncio.wait([running], timeout=0.3)
    assert tuple(bridge.said) == TEXTS[:3]
    first, *more = [later - earlier for earlier, later in zip(bridge.at_s, bridge.at_s[1:], strict=False)]
    assert first >= 0.049
    assert min(more) >= 0.149
    bridge.done.set()
    await running


async def test_a_quick_tool_needs_none(bridge: Bridge) -> None:
    bridge.done.set()
    await bridge.run()
    assert bridge.said == []


async def test_words_of_the_model_s_stand_for_the_first(bridge: Bridge) -> None:
    bridge.fillers.spoke()
    running = asyncio.create_task(bridge.run())
    await until(lambda: bridge.said)
    assert bridge.at_s[1] - bridge.at_s[0] >= 0.14
    bridge.done.set()
    await running


async def test_the_next_tool_of_the_turn_does_not_begin_again(bridge: Bridge) -> None:
    running = asyncio.create_task(bridge.run())
    await until(lambda: bridge.said)
    bridge.done.set()
    await running
    bridge.done.clear()
    running = asyncio.create_task(bridge.run())
    await until(lambda: len(bridge.said) == 2)
    bridge.done.set()
    await running
    assert bridge.said == ["One moment.", "Still at it."]


async def test_nothing_is_said_while_the_caller_speaks() -> None:
    quiet = asyncio.Event()
    bridge = Bridge(Waiting(quiet))
    running = asyncio.create_task(bridge.run())
    await asyncio.wait([running], timeout=0.3)
    assert bridge.said == []
    quiet.set()
    await until(lambda: bridge.said)
    bridge.done.set()
    await running


async def test_a_tool_that_is_done_while_the_caller_speaks_needs_no_more_words() -> None:
    bridge = Bridge(Waiting(asyncio.Event()))
    running = asyncio.create_task(bridge.run())
    await asyncio.wait([running], timeout=0.1)
    bridge.done.set()
    await running
    assert bridge.said == []


async def test_a_caller_who_asks_is_told_at_once(monkeypatch: pytest.MonkeyPatch, bridge: Bridge) -> None:
    monkeypatch.setattr("backend.calls.talking.fillers.FIRST_AFTER_S", 60.0)
    running = asyncio.create_task(bridge.run())
    await asyncio.wait([running], timeout=0.05)
    bridge.waiting.asked.set()
    await until(lambda: bridge.said)
    bridge.done.set()
    await running


def with_tool(**fields: object) -> Agent:
    return agent(BYE, tools=[{**HOURS, **fields}])


def test_what_is_said_is_the_agent_s_own_and_ours_only_in_english() -> None:
    tool = with_tool().tools[0]
    assert len(set(tool.fillers("en-GB"))) == 3
    assert tool.fillers("de-DE") == ("One moment, please.",)
    assert with_tool(more_fillers=[]).tools[0].fillers("en-US") == ("One moment, please.",)
    assert with_tool(more_fillers="Gleich.").tools[0].fillers("de-DE")[1:] == ("Gleich.",)


def test_fillers_are_few_and_said_as_they_are_written() -> None:
    with pytest.raises(ValidationError, match="two at most"):
        with_tool(more_fillers=["Wait.", "Wait more.", "Wait most."])
    problems = list(find_errors(with_tool(more_fillers=["Wait, {{agent_name}}."])))
    assert "tools[0].more_fillers" in [field for field, _ in problems]
