"""Words that only ask for, or give, a sign of life."""

from __future__ import annotations

import pytest

from backend.core.flow import Flow
from backend.core.hello import is_hello, is_here
from tests.backend.calls.fakes import agent


@pytest.mark.parametrize(
    "text",
    ["Hello?", "Hello.", "Hello? Hello?", "hi", "Um, hello, is anybody there?", "Are you still there?",
     "Yes, hello?", "Can you hear me?", "Hello, can you hear me? Hello?", "Good morning.", "Allô?",
     "Hello? Are you there?", "Hi there.", "Hey there, can you hear me?"],
)  # fmt: skip
def test_a_hello(text: str) -> None:
    assert is_hello(text)
    assert not is_here(text)


@pytest.mark.parametrize(
    "text", ["Yes, I'm here.", "I’m still here", "Still here.", "Hello, I am here.", "Here."]
)
def test_somebody_is_here(text: str) -> None:
    assert is_here(text)
    assert not is_hello(text)


@pytest.mark.parametrize(
    "text",
    ["", "?", "Yes.", "Hello, I would like a table.", "Hello Kitty", "There.", "Can you hear the music?",
     "No.", "I am here to book.", "Is anybody hurt?", "Hi, it's Mary.", "hello " * 100 + "Mary"],
)  # fmt: skip
def test_something_else(text: str) -> None:
    assert not is_hello(text)
    assert not is_here(text)


def asks(**fields: object) -> Flow:
    first = {"id": "ask", "say": "My name is Mara. Which day?", **fields}
    flow = Flow(agent(first, {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]}), {})
    flow.start()
    return flow


ON = {"to": "bye", "when": {"otherwise": True}}


def test_a_hello_is_no_answer_wherever_a_question_waits() -> None:
    flow = asks(collect={"name": "day", "confirm": True}, transitions=[ON])
    assert flow.heard("Hello?").say == ("Which day?",)
    assert "day" not in flow.variables
    assert flow.heard("Friday").say == ("I have Friday. Is that right?",)
    assert flow.heard("Hello? Are you there?").say == ("I have Friday. Is that right?",)
    assert flow.heard("Yes.").node_id == "bye"


def test_a_hello_in_answer_to_a_greeting_goes_on() -> None:
    flow = asks(say="Hello, this is Mara.", listen=True, transitions=[ON])
    assert flow.heard("Hello.").node_id == "bye"


def test_a_hello_that_leads_somewhere_is_followed() -> None:
    flow = asks(transitions=[{"to": "bye", "when": {"keywords": ["hello"]}}])
    assert flow.heard("Hello?").node_id == "bye"


def test_who_says_nothing_but_hello_is_not_understood_in_the_end() -> None:
    flow = asks(transitions=[{"to": "bye", "when": {"keywords": ["friday"]}}])
    said = [flow.heard("Hello?").text for _ in range(6)]
    assert said[:3] == ["Which day?"] * 3
    assert said[3] == "Sorry, I didn't catch that. Which day?"
    assert "Goodbye" in said[5]


def test_a_caller_who_was_silent_and_says_that_they_are_here_has_not_said_yes() -> None:
    flow = asks(transitions=[{"to": "bye", "when": {"keywords": ["yes"]}}])
    flow.silence(8_000)
    assert flow.heard("Yes, I'm here.").say == ("Which day?",)
    assert flow.heard("Yes, I'm here.").node_id == "bye"
