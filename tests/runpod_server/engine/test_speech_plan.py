from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_server.engine.speech_plan import FRAME_MS, frame_limit, is_speakable, parts_of, seed_of_part


@given(st.text(alphabet="ab ,.!?\n:;é。…\"'9", max_size=600), st.integers(10, 80))
def test_parts_hold_the_same_signs_in_the_same_order(text: str, most_chars: int) -> None:
    parts = parts_of(text, most_chars=most_chars)
    assert "".join("".join(parts).split()) == "".join(text.split())
    if len(text) <= most_chars:
        assert parts == [text]
    for part in parts:
        words = part.split()
        assert len(part) <= most_chars or not is_speakable(words[-1])


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
