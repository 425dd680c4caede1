"""One of several options, as callers name it."""

from __future__ import annotations

import pytest

from backend.core.call_flow import Collect
from backend.core.choices import by_key, chosen, listed

CARS = Collect.model_validate_json(
    """{"name": "car", "type": "choice", "options": [
        "sedan", {"value": "van", "words": ["minivan", "big car"]}, "wheelchair car"]}"""
).options
SIZES = Collect.model_validate_json(
    '{"name": "size", "type": "choice", "options": ["large", "extra large", "two in the afternoon", "10 AM"]}'
).options
SEATS = Collect.model_validate_json('{"name": "seats", "type": "choice", "options": ["4", "2", "6"]}').options


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("Sedan.", "sedan"),
        ("A sedan, please.", "sedan"),
        ("I'd like the big car.", "van"),
        ("Minivans are good", "van"),
        ("Do you have a van?", "van"),
        ("What about the van?", "van"),
        ("I need a wheelchair car", "wheelchair car"),
        ("The first one, please.", "sedan"),
        ("Number two.", "van"),
        ("I'll take the second.", "van"),
        ("two", "van"),
        ("The last one", "wheelchair car"),
        ("the third", "wheelchair car"),
        ("Not the van, the sedan.", "sedan"),
        ("I don't want the sedan, a van would be good", "van"),
        ("A van instead of the sedan", "van"),
        ("The sedan, no, the van.", "van"),
        ("The van. Sorry, I mean the sedan.", "sedan"),
    ],
)
def test_an_option_is_chosen(said: str, value: str) -> None:
    assert chosen(CARS, said) == value


@pytest.mark.parametrize(
    "said",
    [
        "",
        "A bicycle.",
        "A van or a sedan",
        "How much is the van?",
        "What is the difference to the sedan?",
        "Why a van?",
        "Not the van.",
        "Neither",
        "The fourth one",
        "four",
        "zero",
        "There are two of us",
        "Second thoughts, let me call back",
        "caravan",
    ],
)
def test_nothing_is_chosen(said: str) -> None:
    assert chosen(CARS, said) is None


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("extra large", "extra large"),
        ("Large, please", "large"),
        ("Two in the afternoon.", "two in the afternoon"),
        ("10 a.m.", "10 AM"),
        ("ten AM please", "10 AM"),
        ("the second", "extra large"),
    ],
)
def test_the_longer_name_wins(said: str, value: str) -> None:
    assert chosen(SIZES, said) == value


def test_a_figure_that_is_a_name_is_no_place() -> None:
    assert chosen(SEATS, "two") == "2" and chosen(SEATS, "the second one") == "2"
    assert chosen(SEATS, "four seats") == "4"
    assert by_key(SEATS, "4") == "4" and by_key(SEATS, "3") == "6"


def test_keys_go_by_place() -> None:
    assert [by_key(CARS, key) for key in ("1", "3", "4", "0", "*", "#", "", "12")] == [
        "sedan", "wheelchair car", None, None, None, None, None, None,
    ]  # fmt: skip


def test_every_option_chooses_itself() -> None:
    for options in (CARS, SIZES, SEATS):
        for option in options:
            assert [chosen(options, name) for name in (option.value, *option.words)] == [option.value] * (
                1 + len(option.words)
            )


def test_they_are_listed_as_one_says_them() -> None:
    assert listed(CARS) == "sedan, van or wheelchair car"
