"""Numbers, addresses and names given over several turns, as recognisers write them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backend.core.collects import PHONE, call, tell, value_of


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (("My number is five five five.", "One two three, four five six seven."), "5551234567"),
        (("555", "123", "4567."), "5551234567"),
        (("It's five.", "Five five.", "one two three four", "oh six seven"), "5551234067"),
        (("Area code 555.", "Then 123.", "And then 4567, please."), "5551234567"),
        (("five five five", "um", "okay so", "123 4567"), "5551234567"),
        (("five five five", "Hold on a second.", "123 4567"), "5551234567"),
        (("five double five", "one two three, four five", "sixty seven"), "5551234567"),
        (("555 124", "No, 123.", "4567"), "5551234567"),
        (("555 126 6", "no, four five", "67"), None),
        (("555 123 45", "No, seven seven.", "7 8"), "5551237778"),
        (("555 123 45", "No.", "seven seven", "7 8"), "5551237778"),
        (("five five five one two, no, one three, four five six seven", "8"), "5551345678"),
        (("555 999", "Sorry, let me start over.", "555 123", "4567"), "5551234567"),
        (("555 999", "Sorry, let me start again, 555 123 4567"), "5551234567"),
        (("555 999", "555 123 4567"), "5551234567"),
        (("555 129", "three, not nine", "4567"), "5551234567"),
        (("five five five.", "zero", "12 34 56"), "5550123456"),
    ],
)
@pytest.mark.parametrize("kind", ["digits", "phone"])
def test_a_number_in_parts(kind: str, said: tuple[str, ...], value: str | None) -> None:
    if value is None:
        assert value_of(call(kind, keys=PHONE), *said) is None
    else:
        assert value_of(call(kind, keys=PHONE), *said) == value


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (("plus one 555", "123", "4567"), "+15551234567"),
        (("plus four four seven seven double oh", "nine hundred one two three"), "+447700900123"),
        (("one eight hundred", "555 0199"), "18005550199"),
        (("555 0199",), "5550199"),
        (("555", "0199"), "5550199"),
        (("555 0199", "777"), "5550199777"),
        (("555 123 4567 extension twelve",), "5551234567x12"),
        (("555 0142 extension", "3 4"), "5550142x34"),
    ],
)
def test_a_telephone_number_of_any_length(said: tuple[str, ...], value: str) -> None:
    assert value_of(call("phone"), *said) == value


def _splits(figures: str) -> st.SearchStrategy[list[str]]:
    cuts = st.sets(st.integers(1, len(figures) - 1), max_size=5)
    return cuts.map(
        lambda at: [figures[a:b] for a, b in zip([0, *sorted(at)], [*sorted(at), len(figures)], strict=True)]
    )


_WORDS = "zero one two three four five six seven eight nine".split()
_KEYS = {*_WORDS, *"0123456789"}
_FRAMES = st.sampled_from(
    ["{}", "{}.", "It's {}.", "My number is {}", "Um, {},", "And then {}.", "Okay, {} please.", "so {}"]
)


@st.composite
def _told(draw: st.DrawFn, numbers: st.SearchStrategy[str]) -> tuple[str, list[str]]:
    number = draw(numbers)
    plus = number.startswith("+")
    turns = []
    for part in draw(_splits(number.removeprefix("+"))):
        shown = draw(
            st.sampled_from(
                [part, " ".join(part), " ".join(_WORDS[int(key)] for key in part), "-".join(part)]
            )
        )
        # "Okay, one" may be a yes to what was read back.
        frame = draw(_FRAMES if len(part) > 1 else _FRAMES.filter(lambda text: not text.startswith("Okay")))
        turns.append(frame.format(("plus " if plus and not turns else "") + shown))
    return number, turns


@given(_told(st.from_regex(r"[2-9][0-9]{9}", fullmatch=True)))
def test_any_split_gives_the_same_number(told: tuple[str, list[str]]) -> None:
    number, turns = told
    assert value_of(call("digits", keys=PHONE), *turns) == number
    assert value_of(call("phone", keys=PHONE), *turns) == number


@given(
    _told(st.from_regex(r"[2-9][0-9]{9}|1[2-9][0-9]{9}|\+1[2-9][0-9]{9}|\+4[4-9][0-9]{8,10}", fullmatch=True))
)
def test_any_split_of_a_telephone_number_gives_the_same(told: tuple[str, list[str]]) -> None:
    number, turns = told
    assert value_of(call("phone"), *turns) == number
    flow = call("phone", confirm=True)
    tell(flow, *turns)
    flow.heard("Yes.")
    assert flow.variables.get("value") == number


@given(_told(st.from_regex(r"[1-9][0-9]{15}", fullmatch=True)))
def test_any_split_of_a_long_number_gives_the_same(told: tuple[str, list[str]]) -> None:
    number, turns = told
    assert value_of(call("digits", keys="[0-9]{16}"), *turns) == number


@given(_told(st.from_regex(r"[1-9][0-9]{9}", fullmatch=True)), st.data())
def test_keys_and_voice_may_take_turns(told: tuple[str, list[str]], data: st.DataObject) -> None:
    number, turns = told
    flow = call("digits", keys="[0-9]{10}", ways_out=False)
    typed = ""
    for turn in turns:
        if data.draw(st.booleans()):
            typed += _typed(turn)
            if flow.digits(typed) is None and data.draw(st.booleans()):
                flow.digits_done()
                typed = ""
        else:
            flow.heard(turn)
            typed = ""
    assert flow.variables.get("value") == number


def _typed(turn: str) -> str:
    plain = re.findall(r"[a-z]+|[0-9]", turn.lower())
    return "".join(str(_WORDS.index(word)) if word in _WORDS else word for word in plain if word in _KEYS)


# --- addresses and names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (("It's jane dot doe.", "At example dot com."), "jane.doe@example.com"),
        (("My email is J A N E.", "at example", "dot com"), "jane@example.com"),
        (("J A", "N E", "at example dot com"), "jane@example.com"),
        (("jane at", "example dot com"), "jane@example.com"),
        (("jane at example dot org",), "jane@example.org"),
        (("B as in boy, O B at", "example dot com"), "bob@example.com"),
        (("jane at sample", "no, at example", "dot com"), "jane@example.com"),
        (("I don't have one",), None),
        (("What do you need that for?",), None),
    ],
)
def test_an_address_in_parts(said: tuple[str, ...], value: str | None) -> None:
    assert value_of(call("email"), *said) == value


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (("J-O-H-N.",), "John"),
        (("K A T A R", "Z Y N A"), "Katarzyna"),
        (("J O H N", "Smith."), "John Smith"),
        (("Smith, that's S-M-Y-T-H.",), "Smyth"),
        (("M I double L E R",), "Miller"),
        (("Anna Smith",), "Anna Smith"),
        (("J R Smith",), "J R Smith"),
    ],
)
def test_a_name_spelled(said: tuple[str, ...], value: str) -> None:
    assert value_of(call("name"), *said) == value
