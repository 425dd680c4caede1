"""The model adapter and the real SDK against the stand-in, over real connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from backend.core.llm import LlmEvent, Message, TextDelta, ToolCall, ToolSpec, Usage
from backend.errors import LlmError
from backend.llm.openai import OpenAiModel
from backend.simulator.llm import LlmStandIn, running
from backend.simulator.llm_script import parse_llm_script

KEY = "sk-test-0123456789abcdef"
HELLO = [Message("system", "You are brief."), Message("user", "Hello there")]
BOOK = ToolSpec("book", "Books it.", {"type": "object", "properties": {"day": {"type": "string"}}})


@asynccontextmanager
async def talking(
    *rules: dict[str, Any], fallback: bool = False, script: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[OpenAiModel, LlmStandIn]]:
    stand_in = LlmStandIn(parse_llm_script({"rules": list(rules), **(script or {})}))
    async with running(stand_in) as url:
        given = {
            "api_key": KEY,
            "model": "first",
            "fallback_model": "second" if fallback else None,
            **options,
        }
        model = OpenAiModel(url, **given)
        try:
            yield model, stand_in
        finally:
            await model.aclose()


async def events_of(model: OpenAiModel, messages: list[Message] = HELLO) -> list[LlmEvent]:
    return [event async for event in model.reply(messages, [BOOK])]


def text_of(events: list[LlmEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def failure_of(model: OpenAiModel) -> LlmError:
    with pytest.raises(LlmError) as caught:
        await events_of(model)
    return caught.value


async def test_text_comes_in_pieces_and_usage_last() -> None:
    async with talking({"reply": "Good day to you."}, temperature=0.25, max_tokens=77) as (model, stand_in):
        events = await events_of(model)
        assert [event.text for event in events[:-1] if isinstance(event, TextDelta)] == [
            "Good ",
            "day ",
            "to ",
            "you.",
        ]
        assert events[-1] == Usage(prompt_tokens=5, completion_tokens=4, model="first")
        asked = stand_in.asked[0]
        assert (asked.outcome, asked.authorized_by) == ("finished", f"Bearer {KEY}")
        assert asked.messages == [
            {"role": "system", "content": "You are brief."},
            {"role": "user", "content": "Hello there"},
        ]
        assert asked.body["tools"][0]["function"]["parameters"] == BOOK.parameters
        assert (asked.body["temperature"], asked.body["max_tokens"]) == (0.25, 77)


async def test_a_tool_call_comes_whole_and_its_result_goes_back() -> None:
    rules = (
        {"when": {"tool": "booked"}, "reply": "It is booked."},
        {
            "when": {"offers": "book"},
            "reply": [
                {"say": "One moment."},
                {"call": "book", "arguments": {"day": "Tuesday, “early”"}, "fragments": 7},
                {"call": "book", "arguments": '{"day": ', "fragments": 2},
            ],
        },
    )
    async with talking(*rules) as (model, stand_in):
        events = await events_of(model)
        calls = [event for event in events if isinstance(event, ToolCall)]
        assert [(call.name, call.id) for call in calls] == [("book", "call_0"), ("book", "call_1")]
        assert calls[1].arguments == '{"day":'[: len(calls[1].arguments.strip())] + " "
        assert calls[0].arguments.startswith('{"day": "Tuesday')
        after = [
            *HELLO,
            Message("assistant", "", (calls[0], calls[1])),
            Message("tool", "booked", tool_call_id="call_0"),
            Message("tool", "also booked", tool_call_id="call_1"),
        ]
        assert text_of(await events_of(model, after)) == "It is booked."
        sent = stand_in.asked[1].messages
        assert sent[2]["content"] is None and sent[3]["tool_call_id"] == "call_0"
        # What is no JSON would make many servers fail on the next request.
        assert [call["function"]["arguments"] for call in sent[2]["tool_calls"]] == [calls[0].arguments, "{}"]


@pytest.mark.parametrize(
    ("rule", "reason", "words"),
    [
        (
            {"refuse": {"status": 401, "code": "invalid_api_key", "message": f"bad {KEY}"}},
            "unauthorized",
            "key",
        ),
        ({"refuse": {"status": 403}}, "unauthorized", "HTTP 403"),
        ({"refuse": {"status": 429, "code": "rate_limit_exceeded"}}, "rate_limited", "plan"),
        ({"refuse": {"status": 429, "code": "insufficient_quota"}}, "quota", "credit"),
        ({"refuse": {"status": 400, "code": "context_length_exceeded"}}, "bad_request", "refused"),
        ({"refuse": {"status": 404, "code": "model_not_found"}}, "not_found", "HTTP 404"),
        ({"refuse": {"status": 404}}, "not_found", "no such model"),
        ({"refuse": {"status": 500}}, "server", "HTTP 500"),
        ({"refuse": {"status": 503}}, "server", "HTTP 503"),
        ({"reply": [{"malformed": True}]}, "protocol", "not JSON"),
        ({"reply": [{"error": {"code": "server_error", "message": "overloaded"}}]}, "server", "overloaded"),
        ({"reply": [{"cut": True}]}, "unreachable", "lost"),
        ({"reply": [{"say": ""}]}, "protocol", "empty"),
        ({"reply": [{"wait_ms": 0}], "finish": "content_filter"}, "bad_request", "filter"),
        ({"reply": [{"stall": True}]}, "timeout", "no first word within 0.2 s"),
        ({"reply": "late", "after_ms": 5000}, "timeout", "no first word within 0.2 s"),
    ],
)
async def test_failures_are_told_apart(rule: dict[str, Any], reason: str, words: str) -> None:
    # Only where nothing comes, waiting is short: a busy machine may be late with all the others.
    patience_s = 0.2 if reason == "timeout" else 5.0
    async with talking(rule, first_token_timeout_s=patience_s) as (model, stand_in):
        error = await failure_of(model)
        assert error.reason == reason, error
        assert words in str(error) and "first at 127.0.0.1" in str(error)
        assert KEY not in str(error)
        assert len(stand_in.asked) == 1  # nothing is tried again behind our back


async def test_no_key_leaks_by_the_chain_of_exceptions_or_the_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with talking(script={"api_key": "another"}, fallback=True) as (model, _):
        try:
            await events_of(model)
        except LlmError:
            logging.getLogger("test").exception("failed")
    mine = [record for record in caplog.records if record.name.startswith(("backend", "test"))]
    assert mine and KEY not in "".join(logging.Formatter().format(record) for record in mine)
    assert KEY not in caplog.text


async def test_nobody_there_is_unreachable() -> None:
    model = OpenAiModel("http://127.0.0.1:1/v1", None, "first")
    assert (await failure_of(model)).reason == "unreachable"
    await model.aclose()


async def test_a_reply_has_to_end_in_time() -> None:
    rule = {"reply": [{"say": "Well,"}, {"stall": True}]}
    async with talking(rule, timeout_s=0.3, fallback=True) as (model, stand_in):
        seen: list[LlmEvent] = []
        with pytest.raises(LlmError, match=r"not whole within 0\.3 s") as caught:
            async for event in model.reply(HELLO):
                seen.append(event)
        assert caught.value.reason == "timeout" and text_of(seen) == "Well,"
        await asyncio.wait_for(stand_in.asked[0].ended.wait(), 30)
        assert [item.outcome for item in stand_in.asked] == ["cancelled"]  # no fallback after the first word


async def test_a_reply_that_falls_silent_in_the_middle_is_not_waited_for_to_the_end() -> None:
    rule = {"reply": [{"say": "Once upon a time"}, {"stall": True}]}
    async with talking(rule, first_token_timeout_s=0.3, pause_s=0.3) as (model, _):
        error = await failure_of(model)
        assert error.reason == "timeout" and "fell silent for 0.3 s" in str(error)


async def test_who_reads_slowly_does_not_use_up_the_time() -> None:
    async with talking({"reply": "One two three."}, timeout_s=0.3, first_token_timeout_s=0.3) as (model, _):
        heard = ""
        async for event in model.reply(HELLO):
            heard += event.text if isinstance(event, TextDelta) else ""
            await asyncio.sleep(0.15)
        assert heard == "One two three."


@pytest.mark.parametrize(
    "first",
    [
        {"refuse": {"status": 500}},
        {"refuse": {"status": 429}},
        {"reply": [{"stall": True}]},
        {"reply": [{"malformed": True}]},
        {"reply": [{"cut": True}]},
        {"reply": [{"call": "book", "arguments": {"day": "x"}, "fragments": 2, "pace_ms": 1}, {"cut": True}]},
    ],
)
async def test_the_fallback_answers_when_nothing_was_given_yet(first: dict[str, Any]) -> None:
    rules = ({"when": {"model": "first"}, **first}, {"when": {"model": "second"}, "reply": "Here I am."})
    async with talking(*rules, fallback=True, first_token_timeout_s=0.2) as (model, stand_in):
        events = await events_of(model)
        assert text_of(events) == "Here I am."
        assert isinstance(events[-1], Usage) and events[-1].model == "second"
        assert [item.body["model"] for item in stand_in.asked] == ["first", "second"]


async def test_the_fallback_is_tried_once() -> None:
    async with talking({"refuse": {"status": 500}}, fallback=True) as (model, stand_in):
        assert "second" in str(await failure_of(model))
        assert len(stand_in.asked) == 2


async def test_a_fallback_elsewhere_gets_its_own_key() -> None:
    other = LlmStandIn(parse_llm_script({"rules": [{"reply": "From elsewhere."}]}))
    async with running(other) as elsewhere:
        options = {"fallback_base_url": elsewhere, "fallback_api_key": None}
        async with talking({"refuse": {"status": 500}}, **options) as (model, _):
            assert text_of(await events_of(model)) == "From elsewhere."
    assert (other.asked[0].authorized_by, other.asked[0].body["model"]) == (None, "first")


async def test_a_local_server_is_sent_no_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ADMIN_KEY", KEY)
    async with talking({"reply": "Yes."}, api_key=None) as (model, stand_in):
        assert text_of(await events_of(model)) == "Yes."
        assert stand_in.asked[0].authorized_by is None


async def test_closing_early_ends_the_request_at_once() -> None:
    rule = {"reply": [{"say": "A long story"}, {"stall": True}]}
    async with talking(rule, {"reply": "Next."}) as (model, stand_in):
        async with aclosing(model.reply(HELLO)) as events:
            async for _ in events:
                break
        await asyncio.wait_for(stand_in.asked[0].ended.wait(), 30)
        assert stand_in.asked[0].outcome == "cancelled"


@pytest.mark.parametrize("rule", [{"reply": [{"stall": True}]}, {"reply": "late", "after_ms": 60_000}])
async def test_a_cancelled_reader_ends_the_request_at_once(rule: dict[str, Any]) -> None:
    async with talking(rule) as (model, stand_in):
        reading = asyncio.create_task(events_of(model))
        asked = await asyncio.wait_for(stand_in.request(0), 30)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.wait_for(asked.ended.wait(), 30)
        assert asked.outcome == "cancelled"


async def test_replies_overlap_and_share_connections() -> None:
    async with talking(script={"pace_ms": 2}) as (model, _):
        said = await asyncio.gather(*(events_of(model, [Message("user", f"number {n}")]) for n in range(20)))
        assert [text_of(events) for events in said] == [f"You said: number {n}" for n in range(20)]
