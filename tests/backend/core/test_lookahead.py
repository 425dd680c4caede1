"""What may be said next is known beforehand."""

from __future__ import annotations

import pytest

from backend.core.flow import Flow
from backend.errors import FlowError
from tests.backend.core.flows import OTHERWISE, end, flow, node, started


def ahead() -> Flow:
    return flow(
        node(
            "a",
            ("name", {"keywords": ["yes"]}),
            ("end", {"keywords": ["no"]}),
            ("again", {"silence_ms": 5000}),
            say="Welcome. Are you there?",
        ),
        node(
            "name",
            ("hello", {"regex": r"it's (?P<who>\w+)"}),
            ("hello", OTHERWISE),
            say="Your name?",
            collect={"name": "who", "type": "text"},
        ),
        node("hello", ("end", OTHERWISE), say="Hello {{who}}.", listen=False),
        node("again", ("end", OTHERWISE), say="One more time, {{place}}."),
        end(),
        end("human", "A human, then."),
        everywhere=(("human", {"keywords": ["human"]}),),
        greeting="Hi.",
        variables={"place": "here"},
    )


def test_what_may_come_next_is_known_beforehand() -> None:
    call = ahead()
    assert call.likely_texts() == ["Hi. Welcome. Are you there?"]
    assert call.likely_texts() == [call.start().text]
    assert call.likely_texts() == [
        "Your name?",
        "Goodbye.",
        "One more time, here.",
        "Sorry, I didn't catch that. Are you there?",
        "Are you still there?",
        "A human, then.",
    ]


def test_what_hangs_on_words_not_said_yet_is_left_out() -> None:
    call = ahead()
    call.start()
    call.heard("yes")
    assert not any("Hello" in text for text in call.likely_texts())
    call.heard("It's Ada")
    assert call.likely_texts() == ["Goodbye."]  # does not listen: there is one way on, and no silence to fill


def test_what_a_transition_sets_is_known() -> None:
    going = {"to": "end", "when": {"keywords": ["morning"]}, "set": {"time": "ten"}}
    call = started({"id": "a", "say": "When?", "transitions": [going]}, end(say="At {{time}}."))
    assert call.likely_texts()[0] == "At ten."
    assert call.variables.get("time") is None


def test_looking_ahead_changes_nothing_and_says_what_will_be_said() -> None:
    call = ahead()
    call.start()
    for _ in range(2):
        texts = call.likely_texts()
        assert call.heard("something else").text in texts
    texts = call.likely_texts()
    assert "I'm sorry, I still didn't understand. Please call again. Goodbye." in texts
    assert call.heard("something else").text in texts
    assert call.likely_texts() == [], "the call is over"


def test_the_second_silence_has_the_next_words() -> None:
    call = started(node("a", ("end", {"keywords": ["x"]}), say="Yes?"), end())
    for _ in range(2):
        texts = call.likely_texts()
        assert call.silence(8000).text in texts


def test_everything_said_at_a_node_is_known() -> None:
    assert ahead().texts_at("name") == [
        "Your name?",
        "Sorry, I didn't catch that. Your name?",
        "Are you still there?",
        "A human, then.",
        "I can't hear you, so I will hang up now. Goodbye.",
        "I'm sorry, I still didn't understand. Please call again. Goodbye.",
    ]
    assert ahead().texts_at("end") == ["Goodbye."]
    with pytest.raises(FlowError, match="no node 'nowhere'"):
        ahead().texts_at("nowhere")
