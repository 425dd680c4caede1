"""Chunks as various servers send them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from backend.core.llm import LlmEvent, TextDelta, ToolCall, Usage
from backend.errors import LlmError
from backend.llm.reply import ReplyReader
from tests.cost import cpu_s


def chunk(delta: Any = None, finish: str | None = None, **more: Any) -> ChatCompletionChunk:
    choice = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}
    # As the SDK builds it: without looking at types.
    return ChatCompletionChunk.construct(**{"model": "m", "choices": [choice], **more})


def fragment(arguments: Any = "", **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": more.pop("name")} if "name" in more else {})
    return {"tool_calls": [{"function": function, **more}]}


def read(*chunks: ChatCompletionChunk) -> list[LlmEvent]:
    reader = ReplyReader("asked")
    events = [event for item in chunks for event in reader.push(item)]
    return [*events, *reader.end()]


def test_text_then_a_call_in_fragments_then_usage() -> None:
    assert read(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "One moment."}),
        chunk(fragment(index=0, id="a", name="look")),
        chunk(fragment('{"q":', index=0)),
        chunk(fragment(' "x"}', index=0)),
        chunk(fragment("{}", index=1, id="b", name="look")),
        chunk(finish="tool_calls"),
        chunk(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}),
    ) == [
        TextDelta("One moment."),
        ToolCall("a", "look", '{"q": "x"}'),
        ToolCall("b", "look", "{}"),
        Usage(3, 4, "m"),
    ]


def test_a_call_is_given_as_soon_as_the_next_one_begins() -> None:
    reader = ReplyReader("m")
    assert not list(reader.push(chunk(fragment("{}", index=0, id="a", name="one"))))
    assert reader.alive and not reader.given
    assert list(reader.push(chunk(fragment("", index=1, id="b", name="two")))) == [ToolCall("a", "one", "{}")]


def test_servers_that_do_not_count_and_do_not_name() -> None:
    # One index for all of them, told apart by their ids.
    assert read(
        chunk(fragment("{}", index=0, id="a", name="one")),
        chunk(fragment("{}", index=0, id="b", name="two")),
        chunk(finish="stop"),
    ) == [ToolCall("a", "one", "{}"), ToolCall("b", "two", "{}")]
    # No index and no id; the name again with every fragment.
    assert read(chunk(fragment("{", name="one")), chunk(fragment("}", name="one")), chunk(finish="stop")) == [
        ToolCall("call_0", "one", "{}")
    ]


def test_a_refusal_is_said() -> None:
    assert read(chunk({"refusal": "I can't do that."}), chunk(finish="stop")) == [
        TextDelta("I can't do that.")
    ]


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ([], "unreachable"),
        ([chunk({"content": "Well"})], "unreachable"),
        ([chunk(finish="stop")], "protocol"),
        ([chunk(finish="content_filter")], "bad_request"),
        ([chunk(finish="length")], "bad_request"),
        ([chunk(fragment("{}", index=0, id="a")), chunk(finish="tool_calls")], "protocol"),
        ([chunk(fragment("x" * 70_000, index=0, id="a", name="one"))], "protocol"),
        ([chunk(fragment({"q": "x"}, index=0, id="a", name="one"))], "protocol"),
    ],
)
def test_replies_that_are_none(chunks: list[ChatCompletionChunk], reason: str) -> None:
    with pytest.raises(LlmError) as caught:
        read(*chunks)
    assert caught.value.reason == reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["content", "tool_calls", "function", "name", "arguments", "index", "id", "delta"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(delta=JSON, choices=JSON, usage=JSON)
def test_whatever_comes_is_read_or_refused(delta: Any, choices: Any, usage: Any) -> None:
    for item in (chunk(delta, usage=usage), chunk(choices=choices), chunk(model=delta)):
        reader = ReplyReader("m")
        try:
            for event in reader.push(item):
                assert isinstance(event, TextDelta | ToolCall)
        except (LlmError, ValueError, TypeError, LookupError, AttributeError):
            pass  # the adapter makes one kind of failure of all these


def test_a_call_in_single_characters_is_put_together_while_others_wait() -> None:
    sign = chunk(fragment("1", index=0, name="look"))
    reply = [*[sign] * 60_000, chunk(finish="tool_calls")]
    assert read(*reply) == [ToolCall("call_0", "look", "1" * 60_000)]
    assert cpu_s(lambda: read(*reply)) < 3.0, "the whole process stands still meanwhile"


def test_a_call_without_end_is_given_up() -> None:
    with pytest.raises(LlmError, match="without end"):
        read(*[chunk(fragment("x" * 1_000, index=0, name="look"))] * 70)
    with pytest.raises(LlmError, match="without end"):
        read(*[chunk(fragment("{}", index=at, id=f"c{at}", name="look")) for at in range(50)])
