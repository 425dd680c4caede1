"""One request to a language model: read ahead, its cost, and what becomes of its failures."""

from __future__ import annotations

import asyncio

import pytest

from backend.calls.talking.llm_reply import LlmReply
from backend.core.llm import TextDelta, ToolCall, Usage
from backend.errors import LlmError
from tests.backend.calls.fakes import until
from tests.backend.calls.talks import Reply, ScriptedModel

CALL = ToolCall("t1", "hours", "{}")


def reply(events: Reply) -> tuple[LlmReply, ScriptedModel]:
    model = ScriptedModel(events)
    return LlmReply(model.reply(())), model


async def all_of(answer: LlmReply) -> list[TextDelta | ToolCall]:
    return [event async for event in answer.events()]


async def test_what_it_gives_and_what_it_cost_once() -> None:
    answer, _ = reply(["We are ", CALL, Usage(120, 7, "tester")])
    assert await all_of(answer) == [TextDelta("We are "), CALL]
    await answer.aclose()
    assert answer.take_usage(1_000) == (120, 7)
    assert answer.take_usage(1_000) == (0, 0)


async def test_a_cost_that_is_not_told_is_reckoned() -> None:
    answer, _ = reply(["We are open."])
    assert await all_of(answer)
    await answer.aclose()
    assert answer.take_usage(400) == (100, 3)


async def test_who_was_not_asked_costs_nothing() -> None:
    for reason, cost in (("left_alone", (0, 0)), ("timeout", (100, 0))):
        answer, _ = reply([LlmError("away", reason=reason)])  # type: ignore[arg-type]
        with pytest.raises(LlmError):
            await all_of(answer)
        await answer.aclose()
        assert answer.take_usage(400) == cost


async def test_it_is_read_ahead_and_let_go_of() -> None:
    never = asyncio.Event()
    answer, model = reply(["We are ", "open.", never])
    left: list[str] = []

    def all_there() -> bool:
        left.extend(answer.left())
        return left == ["We are ", "open."]

    await until(all_there)
    await answer.aclose()
    assert model.cancelled == 1


async def test_failures_are_one_kind_of_error(caplog: pytest.LogCaptureFixture) -> None:
    for failure in (LlmError("away", reason="unreachable"), KeyError("a bug of an adapter's")):
        answer, _ = reply(["We ", failure])
        with pytest.raises(LlmError):
            await all_of(answer)
        await answer.aclose()
    assert "adapter failed" in caplog.text


async def test_a_model_that_falls_silent_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.calls.talking.llm_reply._EVENT_S", 0.02)
    never = asyncio.Event()
    answer, _ = reply([never])
    with pytest.raises(LlmError, match="fell silent"):
        await all_of(answer)
    await answer.aclose()
