"""A sign of listening or an answer?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.backchannel import answers, is_backchannel


@pytest.mark.parametrize(
    "text",
    [
        "Uh-huh.",
        "Mm-hmm.",
        "Mhm",
        "Yeah.",
        "Okay, okay.",
        "Right.",
        "I see.",
        "Oh, okay.",
        "Sure.",
        "Got it!",
    ],
)
def test_signs_of_listening(text: str) -> None:
    assert is_backchannel(text, 500.0)
    assert not is_backchannel(text, 5_000.0)


@pytest.mark.parametrize(
    "text",
    ["", "...", "No.", "Wait.", "Stop!", "Okay stop.", "Yes, but", "Right?", "Hello?", "Okay book me in",
     "Yeah yeah yeah yeah", "Sorry", "Tuesday.", "One moment"],
)  # fmt: skip
def test_what_wants_to_be_heard(text: str) -> None:
    assert not is_backchannel(text, 500.0)


@given(st.text(max_size=40), st.floats(0, 10_000))
def test_any_text_is_judged(text: str, spoke_ms: float) -> None:
    is_backchannel(text, spoke_ms)


SCRIPT = "I have Tuesday at ten. Shall I book it for you? It is free."


@pytest.mark.parametrize(
    ("heard", "answered"),
    [
        ("", False),
        ("I have Tuesday at ten.", False),
        ("I have Tuesday at ten. Shall", True),
        (SCRIPT, True),
    ],
)
def test_a_yes_counts_once_the_question_has_begun(heard: str, answered: bool) -> None:
    assert answers("Yeah.", "yes_no", heard, SCRIPT) is answered
    assert answers("Yeah.", "any", heard, SCRIPT) is answered, "a question that wants a yes or no"
    assert not answers("", "yes_no", heard, SCRIPT)


def test_without_a_question_nothing_is_answered() -> None:
    assert not answers("Yeah.", "yes_no", "Your table", "Your table is booked.")


def test_a_question_that_wants_more_is_not_answered_by_a_sign_of_listening() -> None:
    script = "Thank you for calling. How can I help you?"
    assert not answers("Yeah.", "any", script, script)
