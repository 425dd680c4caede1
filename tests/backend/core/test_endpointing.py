"""How long a silence lasts before a turn is over: by the words, by what was asked, by the caller."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.endpointing import Expects, TurnPolicy, is_statement, wait_ms

POLICY = TurnPolicy()
UNSURE = POLICY.unsure_ms


@pytest.mark.parametrize(
    ("text", "expects", "expected_ms"),
    [
        ("Next Tuesday.", "date", 320),
        ("The third of", "date", 900),
        ("March.", "date", 900),
        ("The 3rd of March.", "date", 320),
        ("Can you tell me when they're?", "any", 900),
        ("Who is it with?", "any", 320),
        ("That sounds good, thank you.", "any", 320),
        ("I'd like to cancel.", "any", 320),
        ("March 3rd.", "date", 320),
        ("Maria.", "name", UNSURE),
        ("Maria Jones.", "name", 320),
        ("No.", "name", 320),
        ("J-O-H-N.", "name", 1_100),
        ("It's S M I", "any", 1_100),
        ("M as in", "any", 900),
        ("At 5 p.m.", "any", 320),
        ("Plan B.", "any", 320),
        ("At 10:30.", "any", 320),
        ("In 2019.", "any", 320),
        ("My code is 555 2019", "any", 1_100),
        ("Yes I do.", "any", 320),
        ("Yes, I think it was.", "any", 320),
        ("I want.", "any", UNSURE),
        ("What do you want?", "any", 320),
        ("I would like a table,", "any", UNSURE),
        ("It was a long day...", "any", UNSURE),
    ],
)
def test_the_wait_fits_words_and_question(text: str, expects: Expects, expected_ms: float) -> None:
    assert wait_ms(text, expects, POLICY) == expected_ms


def test_a_statement_is_a_sentence_of_some_length_and_no_question() -> None:
    assert is_statement("I have a question.", "any") is False, "four words"
    assert is_statement("I have got a question.", "any")
    assert not is_statement("You are open until when?", "any")
    assert not is_statement("Can I bring my two children", "any")
    assert not is_statement("No, I do not think so.", "yes_no")
    assert not is_statement("", "any")


@given(st.text(max_size=60), st.sampled_from(["any", "yes_no", "digits", "phone", "name", "date"]))
def test_any_words_have_a_wait(text: str, expects: Expects) -> None:
    assert wait_ms(text, expects, POLICY) in (240, 320, UNSURE, 900, 1_100)


@given(
    st.lists(st.sampled_from("I want a table for two 5 1 2 J and yes March? um , ...".split()), max_size=8),
    st.sampled_from(["any", "yes_no", "digits", "phone", "name", "date"]),
    st.floats(0.85, 2.0),
)
def test_the_callers_pace_stretches_every_wait(words: list[str], expects: Expects, pace: float) -> None:
    text = " ".join(words)
    more_ms = wait_ms(text, expects, POLICY, pace) - wait_ms(text, expects, POLICY)
    assert more_ms == pytest.approx((pace - 1) * POLICY.end_of_turn_ms)


@pytest.mark.parametrize(
    ("text", "expects", "done", "expected_ms"),
    [
        ("I have a question.", "any", 0.05, UNSURE),
        ("I have a question.", "any", 0.5, 320),
        ("I have a question.", "any", 0.95, 320),
        ("I want.", "any", 0.95, UNSURE),
        ("I want.", "any", 0.05, UNSURE),
        ("I would like to", "any", 0.99, 900),
        ("Five five five", "phone", 0.99, 1_100),
        ("Yes.", "yes_no", 0.01, 240),
    ],
)
def test_a_melody_raises_doubt_and_settles_none(
    text: str, expects: Expects, done: float, expected_ms: float
) -> None:
    assert wait_ms(text, expects, POLICY, done=done) == expected_ms
    assert wait_ms(text, expects, POLICY, done=None) == wait_ms(text, expects, POLICY)
