from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_server.engine.speech_plan import (
    FRAME_MS,
    PART_CHARS,
    frame_limit,
    is_speakable,
    parts_of,
    seed_of_part,
)
from tests.cost import cpu_s


@given(st.text(alphabet="ab ,.!?\n:;é。…\"'9", max_size=600), st.integers(10, 80))
def test_parts_hold_the_same_letters_in_the_same_order(text: str, most_chars: int) -> None:
    parts = parts_of(text, most_chars=most_chars)
    assert [sign for sign in "".join(parts) if sign.isalnum()] == [sign for sign in text if sign.isalnum()]
    assert all(len(part) <= most_chars for part in parts)
    if len(text) <= most_chars:
        assert parts == [text]
    else:
        assert all(is_speakable(part) for part in parts)


@given(
    st.lists(st.text(alphabet="abé", min_size=1, max_size=9), min_size=40, max_size=90), st.integers(20, 80)
)
def test_no_word_is_lost_doubled_or_cut_at_the_borders(words: list[str], most_chars: int) -> None:
    parts = parts_of(". ".join(words), most_chars=most_chars)
    assert " ".join(parts).replace(".", "").split() == words


@pytest.mark.parametrize(
    "text", ["😀 " * 900 + "Hello. " + "🎉" * 3000 + " Bye.", "So" + "." * 4000 + " then?", "¿" * 700 + "ya?"]
)
def test_what_cannot_be_said_makes_no_part_longer(text: str) -> None:
    parts = parts_of(text)
    assert all(len(part) <= PART_CHARS and is_speakable(part) for part in parts)
    assert len(parts) <= 2


@pytest.mark.parametrize(
    "text",
    ["a. " * 33_000, "x" + " " * 99_000 + "y", "\n" * 99_000 + "x", '."' * 50_000 + "x", "a\t \n" * 25_000,
     "w" * 100_000, ",;" * 50_000 + "x", "。" * 99_999 + "x"],
)  # fmt: skip
def test_the_longest_text_a_server_may_take_is_cut_in_no_time(text: str) -> None:
    assert cpu_s(lambda: parts_of(text)) < 1.0


def test_a_text_is_cut_between_sentences_first() -> None:
    text = "Dr. Smith sees you at 3 p.m. today. Please bring your card! Will you come? We hope so."
    assert parts_of(text, most_chars=60) == [
        "Dr. Smith sees you at 3 p.m. today. Please bring your card!",
        "Will you come? We hope so.",
    ]


def test_a_long_sentence_is_cut_at_a_comma_then_at_a_space_then_anywhere() -> None:
    assert parts_of("one two three, four five six seven", most_chars=20) == [
        "one two three,",
        "four five six seven",
    ]
    assert parts_of("one two three four five six", most_chars=12) == ["one two", "three four", "five six"]
    assert parts_of("x" * 25, most_chars=10) == ["x" * 10, "x" * 10, "x" * 5]


@pytest.mark.parametrize("text, seconds", [("Hi.", 1), ("You have an appointment on Tuesday morning.", 3.5),
                                           ("Call 0 1 2 3 4 5 6 7 8 9.", 6), ("word " * 48, 20)])  # fmt: skip
def test_the_limit_leaves_room_for_slow_speech_but_not_for_minutes(text: str, seconds: float) -> None:
    limit_s = frame_limit(text) * FRAME_MS / 1000
    assert 1.5 * seconds < limit_s < 3 * seconds + 4


def test_seeds_of_parts_differ_and_fit() -> None:
    seeds = [seed_of_part(2**63 - 1, part) for part in range(50)]
    assert seeds[0] == 2**63 - 1
    assert len(set(seeds)) == 50
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    "text, expected", [("Hi", True), ("7", True), ("日本", True), ("... !?", False), ("_", False)]
)
def test_speakable(text: str, expected: bool) -> None:
    assert is_speakable(text) is expected
