from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.answers import AnswerType
from backend.core.dictation import MAX_PARTS, Parts, add, is_dictation, is_filler, mended, phone_so_far
from backend.core.matching import KeyMatch


@pytest.mark.parametrize(
    ("text", "far"),
    [
        ("555", KeyMatch.PARTIAL),
        ("5550142", KeyMatch.FULL_SO_FAR),
        ("5551234567", KeyMatch.FULL),
        ("1555123456", KeyMatch.FULL_SO_FAR),
        ("15551234567", KeyMatch.FULL),
        ("+1555123456", KeyMatch.PARTIAL),
        ("+15551234567", KeyMatch.FULL),
        ("+155512345678", KeyMatch.NO),
        ("+447700900123", KeyMatch.FULL_SO_FAR),
        ("07700900123", KeyMatch.FULL_SO_FAR),
        ("5550142x", KeyMatch.PARTIAL),
        ("5550142x12", KeyMatch.FULL_SO_FAR),
        ("555x12", KeyMatch.NO),
        ("1" * 16, KeyMatch.NO),
        ("+", KeyMatch.PARTIAL),
        ("*72", KeyMatch.NO),
    ],
)
def test_how_far_a_telephone_number_goes(text: str, far: KeyMatch) -> None:
    assert phone_so_far(text) is far


@pytest.mark.parametrize(
    ("text", "said", "last", "right"),
    [
        ("55512345", "seven seven", 0, "55512377"),
        ("555124", "one two three", 3, "555123"),
        ("5556", "five six", 1, "55556"),
        ("555129", "three, not nine", 3, "555123"),
        ("5551234567", "the first three are 556", 0, "5561234567"),
        ("5551234567", "the last two are seven seven", 0, "5551234577"),
        ("+1555", "six", 0, "+1556"),
        ("55", "123456", 2, "123456"),
        ("555", "that's wrong", 3, None),
    ],
)
def test_figures_are_put_right(text: str, said: str, last: int, right: str | None) -> None:
    assert mended(text, said, last) == right


@pytest.mark.parametrize("said", ["My number is 555", "and then five", "No, sorry, seven", "plus one"])
def test_dictation(said: str) -> None:
    assert is_dictation(said)


@pytest.mark.parametrize("said", ["Is it 555?! Why?", "My sister had 555 once", "What time is it"])
def test_no_dictation(said: str) -> None:
    assert not is_dictation(said)


def test_fillers() -> None:
    assert is_filler("Um, okay, let me see") and not is_filler("Monday")


@given(
    st.sampled_from(["digits", "phone", "email", "name", "text"]),
    st.lists(st.text(max_size=60) | st.from_regex(r"[a-z0-9 ,.+]{0,40}", fullmatch=True), max_size=20),
)
def test_anything_may_be_said_and_the_parts_stay_bounded(kind: AnswerType, turns: list[str]) -> None:
    parts = Parts()
    for said in turns:
        given_now = add(kind, parts, said, phone_so_far)
        if given_now is not None:
            assert given_now[0].turns == parts.turns + 1
            parts = given_now[0]
    assert parts.turns <= MAX_PARTS and len(parts.text) <= 2000
