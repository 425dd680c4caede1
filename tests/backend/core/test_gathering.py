"""Numbers, addresses and names given over several turns, as recognisers write them."""

from __future__ import annotations

import json
import re
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.agent_text import inspect_agent
from backend.core.flow import Flow
from backend.core.steps import Hangup, Step

TODAY = date(2026, 11, 21)
GO_ON = ("Please go on.",)


def call(
    kind: str,
    *,
    confirm: bool = False,
    keys: str | None = None,
    thinks: bool = False,
    ways_out: bool = True,
    **more: Any,
) -> Flow:
    whens: list[dict[str, Any]] = [{"digits": keys}] if keys else [{"otherwise": True}]
    node = {
        "id": "get",
        "say": "Which one?",
        "collect": {"name": "value", "type": kind, "confirm": confirm},
        "transitions": [{"to": "bye", "when": when} for when in whens],
    }
    ends = [{"id": name, "say": "Bye.", "actions": [{"type": "hangup"}]} for name in ("bye", "human")]
    everywhere = [{"to": "human", "when": when} for when in ({"digits": "0"}, {"keywords": ["operator"]})]
    call_flow = {"start": "get", "nodes": [node | more, *ends], "transitions": everywhere if ways_out else []}
    data = {
        "id": "desk",
        "name": "Desk",
        "llm": {"provider": "openai", "model": "m"},
        "call_flow": call_flow,
    }
    inspection = inspect_agent(json.dumps(data), file="f")
    assert inspection.agent, inspection.errors
    flow = Flow(inspection.agent, {}, thinks=thinks, today=TODAY)
    flow.start()
    return flow


def tell(flow: Flow, *said: str) -> Step:
    """Say one turn after the other, then nothing more."""
    step = None
    for text in said:
        step = flow.heard(text)
    assert step is not None
    if step.listen is not None and not step.say and flow.node_id == "get":
        step = flow.silence(step.listen.silence_ms or 0)
    return step


def value_of(flow: Flow, *said: str) -> str | None:
    tell(flow, *said)
    return flow.variables.get("value")


PHONE = "[2-9][0-9]{9}"


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


def test_keys_finish_what_was_said() -> None:
    flow = call("phone", keys=PHONE)
    assert flow.heard("five five five").say == ()
    for end in range(1, 7):
        assert flow.digits("1234567"[:end]) is None
    step = flow.digits("1234567")
    assert step is not None and step.node_id == "bye" and flow.variables["value"] == "5551234567"


def test_words_finish_what_was_typed() -> None:
    flow = call("phone", keys=PHONE)
    assert flow.digits("555") is None
    assert flow.heard("one two three four five six seven").node_id == "bye"
    assert flow.variables["value"] == "5551234567"


def test_keys_that_stop_are_waited_for() -> None:
    flow = call("phone", keys=PHONE)
    assert flow.digits("555") is None
    assert flow.digits_done().say == GO_ON
    assert flow.digits("1234567") is not None
    flow = call("phone", keys=PHONE)
    assert flow.digits("555#") is not None and flow.node_id == "get"
    assert flow.digits("5551234567") is not None and flow.variables["value"] == "5551234567"


# --- waiting, and giving up ------------------------------------------------------------------------------


def test_a_part_is_met_with_silence_and_the_rest_is_waited_for() -> None:
    flow = call("phone")
    step = flow.heard("My number is five five five.")
    assert step.say == () and step.listen is not None and step.listen.silence_ms == 2500
    assert step.ask is None and not step.ends_call
    assert flow.silence(2500).say == GO_ON
    step = flow.heard("one two three four five six seven")
    assert step.node_id == "bye" and flow.variables["value"] == "5551234567"


def test_what_may_be_all_is_gone_on_with_after_a_while() -> None:
    flow = call("phone")
    step = flow.heard("555 0142")
    assert step.say == () and step.listen is not None and step.listen.silence_ms == 1500
    assert flow.silence(1500).node_id == "bye"


def test_a_caller_who_says_no_more_is_asked_again_and_in_the_end_let_go() -> None:
    flow = call("phone")
    said = []
    for _ in range(20):
        step = flow.heard("five five five")
        while not step.ends_call and (step.say == () or step.say == GO_ON):
            assert step.listen is not None
            step = flow.silence(step.listen.silence_ms or 0)
        said.append(step)
        if step.ends_call:
            break
    assert [step.ends_call for step in said] == [False, False, True]
    assert said[0].say == ("Sorry, I didn't catch that.", "Which one?")
    assert said[-1].actions == (Hangup(),)


def test_words_in_the_middle_lose_nothing() -> None:
    flow = call("phone")
    flow.heard("five five five")
    step = flow.heard("The weather is lovely, is it not?")
    assert step.say == ("Sorry, I didn't catch that.", "So far I have five five five.", "Please go on.")
    assert flow.heard("123 4567").node_id == "bye"
    assert flow.variables["value"] == "5551234567"


def test_a_way_out_stays_open_in_the_middle() -> None:
    flow = call("phone")
    flow.heard("five five five")
    assert flow.heard("Operator, please.").node_id == "human"
    flow = call("phone")
    assert flow.heard("Zero.").node_id == "human"


def test_a_node_with_words_of_its_own_begins_anew() -> None:
    flow = call("phone", keys=PHONE, reprompt="All ten digits, please.")
    flow.heard("five five five")
    assert flow.heard("What was that again?").say == ("All ten digits, please.",)
    flow.heard("five five five")
    assert flow.heard("123 4567").node_id == "bye"
    assert flow.variables["value"] == "5551234567"


def test_endless_parts_come_to_an_end() -> None:
    flow = call("phone")
    step = flow.heard("five five")
    for _ in range(60):
        if step.ends_call:
            break
        step = flow.heard("No, six six.")
    assert step.ends_call


def test_a_model_is_not_asked_about_parts() -> None:
    flow = call("phone", thinks=True, prompt="Ask for the number.")
    assert flow.heard("five five five").ask is None
    assert flow.heard("Why do you need that?").ask is not None
    assert flow.heard("one two three four five six seven").node_id == "bye"
    assert flow.variables["value"] == "5551234567"


def test_a_fork_keeps_its_own_parts() -> None:
    flow = call("phone")
    flow.heard("five five five")
    flow.fork().heard("123 4567")
    assert flow.heard("987 6543").node_id == "bye" and flow.variables["value"] == "5559876543"


def test_parts_said_over_the_agent_matter() -> None:
    flow = call("phone")
    flow.heard("five five five")
    flow.silence(2500)
    assert flow.matters("one two three", asked=False)
    assert not flow.matters("nice weather", asked=False)


# --- reading back ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "keys", "said", "value"),
    [
        ("phone", None, ("555 0142", "999"), "5550142999"),
        ("phone", None, ("555 123 4567", "No, it ends in seven seven."), "5551234577"),
        ("phone", None, ("555 123 4567", "No, the last two are seven seven."), "5551234577"),
        ("phone", None, ("555 123 4567", "No, the area code is 556."), "5561234567"),
        ("phone", None, ("555 123 4567", "No, it's 555 123 9999"), "5551239999"),
        ("phone", None, ("555 123 4567", "extension twelve"), "5551234567x12"),
        ("digits", "[0-9]{4}", ("1234", "No, five at the end."), "1235"),
        ("digits", "[0-9]{4}", ("1234", "No, 9 9 9 9."), "9999"),
        ("digits", None, ("1234", "5678"), "12345678"),
        ("digits", None, ("1234", "1235"), "1235"),
        ("email", None, ("jane at example dot co", "dot uk"), "jane@example.co.uk"),
        ("email", None, ("jane at example dot com", "No, it's jan at example dot com"), "jan@example.com"),
        ("name", None, ("S M I T H",), "Smith"),
        ("name", None, ("Smith", "No, it's S-M-Y-T-H."), "Smyth"),
    ],
)
def test_what_was_read_back_is_gone_on_with_or_put_right(
    kind: str, keys: str | None, said: tuple[str, ...], value: str
) -> None:
    flow = call(kind, confirm=True, keys=keys)
    steps = [flow.heard(text) for text in said]
    assert all("Is that right?" in step.text for step in steps)
    assert flow.heard("Yes, that's right.").node_id == "bye"
    assert flow.variables["value"] == value


def test_an_extension_is_read_back() -> None:
    flow = call("phone", confirm=True)
    assert (
        flow.heard("555 0142 extension 12").text
        == "I have five five five, zero one four two, extension, one two. Is that right?"
    )


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
