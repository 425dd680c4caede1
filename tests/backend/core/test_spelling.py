from __future__ import annotations

import pytest

from backend.core.spelling import plain_letters, spelled, words_of_letters


@pytest.mark.parametrize(
    ("said", "letters"),
    [
        ("J-O-H-N.", "JOHN"),
        ("It's S, M, I, T, H", "SMITH"),
        ("B as in boy, O, B", "BOB"),
        ("double L, E", "LLE"),
        ("Smith", ""),
        ("J", ""),
        ("I am Bob", ""),
    ],
)
def test_letters_alone(said: str, letters: str) -> None:
    assert "".join(spelled(said)) == letters


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("J-O-H-N", "John"),
        ("Smith, S-M-Y-T-H", "Smyth"),
        ("John Smith, that's S M Y T H", "John Smyth"),
        ("J O H N Smith", "John Smith"),
        ("A. J. Smith", "A. J. Smith"),
        ("Mary-Jane", "Mary-Jane"),
        ("Anna", "Anna"),
    ],
)
def test_names_spelled(name: str, written: str) -> None:
    assert words_of_letters(name) == written


def test_each_letter_is_named_once() -> None:
    assert plain_letters("a as in alpha, double n a") == "a n n a"
