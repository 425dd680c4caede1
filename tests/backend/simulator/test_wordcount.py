"""Word error rate: spelling never counts, hearing always does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.simulator.wordcount import WordPair, word_errors


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("Hello, I'm Ada!", "hello i am ada"),
        ("Call 555-1234 now.", "call five five five one two three four now"),
        ("Tuesday at 2 p.m.", "tuesday at two PM"),
        ("At 10:00 a.m. or 2:30 pm", "at ten am or two thirty p m"),
        ("It can't be; it won't.", "it cannot be it will not"),
        ("You have 1 voicemail", "you have one voice mail"),
        ("Please call us back tomorrow.", "please call us back to morrow"),
        ("Good bye", "Goodbye."),
        ("Twenty-one dollars", "$21"),
        ("on the 15th of May 2024", "on the fifteenth of may twenty twenty four"),
        ("the 21st", "the twenty first"),
        ("1,250 people", "one thousand two hundred and fifty people"),
        ("two hundred and five", "205"),
        ("call five oh five, double four", "call 505 44"),
        ("That’s OK", "that is okay"),
        ("Press two. Goodbye.", "press to good by"),
        ("", ""),
    ],
)
def test_same_to_the_ear(said: str, heard: str) -> None:
    result = word_errors(said, heard)
    assert result.rate == 0, result.differences()
    assert result.differences() == ""


def test_counts_and_shows_what_was_missed() -> None:
    result = word_errors(
        "Your appointment is on Tuesday at two, thank you.", "Your appointment on Thursday at 2 thank you all"
    )
    assert result.errors == 3
    assert result.said_words == 9
    assert result.rate == pytest.approx(3 / 9)
    assert WordPair("missed", "is", "") in result.alignment
    assert WordPair("replaced", "tuesday", "thursday") in result.alignment
    assert WordPair("added", "", "all") in result.alignment
    assert result.differences() == "appointment [-is] on [tuesday→thursday] at … you [+all]"


def test_nothing_heard_is_all_wrong() -> None:
    assert word_errors("hello there", "").rate == 1.0


def test_something_heard_where_nothing_was_said() -> None:
    assert word_errors("", "you").rate == 1.0


_words = st.lists(
    st.sampled_from(["the", "a", "cat", "sat", "on", "12", "mat", "five", "can't"]), max_size=12
)


@given(_words, _words)
def test_no_more_errors_than_words_and_zero_only_when_equal(said: list[str], heard: list[str]) -> None:
    result = word_errors(" ".join(said), " ".join(heard))
    backwards = word_errors(" ".join(heard), " ".join(said))
    assert result.errors == backwards.errors
    assert result.errors <= max(result.said_words, backwards.said_words)
    if said == heard:
        assert result.errors == 0


@given(
    st.integers(0, 9),
    st.lists(st.sampled_from(["red", "green", "blue", "black", "white"]), min_size=10, max_size=20),
)
def test_one_lost_word_is_one_error(lost: int, words: list[str]) -> None:
    result = word_errors(" ".join(words), " ".join(words[:lost] + words[lost + 1 :]))
    assert result.errors == 1
