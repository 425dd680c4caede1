from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.agent import Agent
from backend.core.brain import (
    Chose,
    Filled,
    Refused,
    UseTool,
    judge,
    prompt_messages,
    tool_specs,
)
from backend.core.call_flow import Collect
from backend.core.llm import Message, ToolCall
from backend.core.steps import ELSE, Ask, Choice

AGENT = Agent.model_validate_json(
    json.dumps(
        {
            "id": "desk",
            "name": "Desk",
            "llm": {"provider": "openai", "model": "m"},
            "tools": [
                {
                    "name": "book",
                    "description": "Books.",
                    "url": "https://crm.example/book",
                    "headers": {"Authorization": "{{secret:CRM_KEY}}"},
                },
                {"name": "refund", "description": "Refunds.", "url": "https://crm.example/refund"},
            ],
            "call_flow": {"start": "a", "nodes": [{"id": "a", "say": "Hi."}]},
        }
    )
)
ASK = Ask(
    "a",
    "You are kind.",
    "Book a table.",
    "Friday at eight",
    (Choice("wants a human", None), Choice("wants the menu", "Read the menu."), Choice(ELSE, None)),
    ("book",),
    (),
    (Collect(name="day", type="date"),),
    ("day",),
    True,
    (("who", "Anna"),),
    date(2026, 11, 21),
)


def call(name: str, arguments: str) -> ToolCall:
    return ToolCall("1", name, arguments)


def test_what_the_model_is_told() -> None:
    talk = [Message("assistant", "Hello."), Message("user", "Friday at eight")]
    messages = prompt_messages(AGENT, ASK, talk)
    assert messages[0].role == "system"
    for part in ("You are kind.", "Book a table.", "en-US", "day", "2026-11-21", "Saturday"):
        assert part in messages[0].text
    assert "Anna" not in messages[0].text
    assert messages[1].role == "user" and '"who": "Anna"' in messages[1].text
    assert list(messages[2:]) == talk


def test_a_node_just_entered_is_opened_by_the_agent() -> None:
    entered = replace(ASK, said=None, known=())
    assert prompt_messages(AGENT, entered, [])[-1].role == "user"
    assert prompt_messages(AGENT, entered, [Message("assistant", "Hello.")])[-1].role == "user"
    said = [Message("user", "Book me in.")]
    assert prompt_messages(AGENT, entered, said)[1:] == tuple(said)


def test_a_choice_alone_is_asked_for_without_words() -> None:
    messages = prompt_messages(AGENT, replace(ASK, task=None, known=()), [Message("user", "Hm.")])
    assert "only choose" in messages[0].text and "Book a table." not in messages[0].text


def test_what_is_offered_and_nothing_else() -> None:
    specs = {spec.name: spec for spec in tool_specs(AGENT, ASK)}
    assert list(specs) == ["go_to", "fill", "book"]
    assert specs["go_to"].parameters["properties"]["choice"]["enum"] == [
        "wants a human",
        "wants the menu",
        ELSE,
    ]
    assert "Read the menu." in specs["go_to"].description
    assert "YYYY-MM-DD" in repr(specs["fill"].parameters)
    assert "secret" not in repr(specs).lower() and "crm.example" not in repr(specs)
    assert tool_specs(AGENT, replace(ASK, choices=(), tools=(), collect=())) == ()


@pytest.mark.parametrize(
    ("made", "decision"),
    [
        (call("go_to", '{"choice": "wants a human"}'), Chose("wants a human")),
        (call("go_to", '{"choice": " Wants A Human "}'), Chose("wants a human")),
        (call("fill", '{"value": "2026-11-27"}'), Filled({"day": "2026-11-27"})),
        (call("fill", '{"value": "next Friday"}'), Filled({"day": "2026-11-27"})),
        (call("book", '{"day": 1}'), UseTool(call("book", '{"day": 1}'))),
    ],
)
def test_calls_that_make_sense(made: ToolCall, decision: object) -> None:
    assert judge(ASK, made) == decision


@pytest.mark.parametrize(
    "made",
    [
        call("go_to", '{"choice": "vault"}'),
        call("go_to", '{"choice": '),
        call("go_to", '["wants a human"]'),
        call("go_to", '{"choice": ["wants a human"]}'),
        call("go_to", ""),
        call("fill", '{"value": "someday"}'),
        call("fill", '{"value": null}'),
        call("refund", "{}"),
        call("transfer", '{"to": "+19005550000"}'),
        call("", "{}"),
    ],
)
def test_calls_that_do_not_are_refused_with_a_sentence(made: ToolCall) -> None:
    decision = judge(ASK, made)
    assert isinstance(decision, Refused)
    assert decision.sentence.endswith(".")


@given(st.sampled_from(["go_to", "fill", "refund", "x"]), st.text(max_size=80))
def test_nothing_a_model_writes_leads_where_it_was_not_offered(name: str, arguments: str) -> None:
    decision = judge(ASK, call(name, arguments))
    assert isinstance(decision, Refused | Filled | Chose)
    if isinstance(decision, Chose):
        assert decision.intent in {choice.intent for choice in ASK.choices}


@given(st.text(max_size=200))
def test_a_callers_words_are_never_instructions(words: str) -> None:
    marked = f"§{words}§"
    ask = replace(ASK, said=marked, known=(("who", marked),))
    messages = prompt_messages(AGENT, ask, [Message("user", marked)])
    assert all("§" not in message.text for message in messages if message.role == "system")


def test_answers_that_serve_for_the_same_words() -> None:
    assert ASK.like(replace(ASK, said="friday, at eight."))
    assert not ASK.like(replace(ASK, said="Friday at nine"))
    assert not ASK.like(replace(ASK, said=None))
    assert not ASK.like(replace(ASK, node_id="b"))
