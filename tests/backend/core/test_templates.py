from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.templates import (
    BUILTIN_VARIABLES,
    call_variables,
    render,
    spell_digits,
    template_problem,
    variable_names,
)


def test_fills_in_and_tidies() -> None:
    assert render("Hello {{ name }}, it is {{day}}.", {"name": "Ann", "day": "Monday"}) == (
        "Hello Ann, it is Monday."
    )
    assert render("Hello {{name}}, welcome {{name}}!", {}) == "Hello, welcome!"


def test_what_is_filled_in_is_not_filled_in_again() -> None:
    assert render("{{a}}", {"a": "{{b}}", "b": "secret"}) == "{{b}}"
    assert render("{{a}}{{b}}", {"a": "{{", "b": "c}}", "c": "secret"}) == "{{c}}"


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text(max_size=20)))
def test_a_value_appears_as_it_is_whatever_it_holds(variables: dict[str, str]) -> None:
    expected = " ".join(f"<{variables.get('a', '')}|{variables.get('b', '')}>".split())
    assert render("<{{a}}|{{b}}>", variables).replace(" ", "") == expected.replace(" ", "")


@pytest.mark.parametrize(
    ("value", "spoken"),
    [
        ("5550142", "five five five, zero one four two"),
        ("2125550142", "two one two, five five five, zero one four two"),
        ("+15550100001", "plus one five, five five zero, one zero zero, zero zero one"),
        ("42", "four two"),
        ("555-0142", "five five five, zero one four two"),
        ("none", ""),
    ],
)
def test_digits_are_spelled_in_groups(value: str, spoken: str) -> None:
    assert spell_digits(value) == spoken
    assert render("{{n|digits}}", {"n": value}) == spoken


def test_names_in_order_each_once() -> None:
    assert variable_names("{{b}} {{ a|digits }} {{b}}") == ("b", "a")


@pytest.mark.parametrize("text", ["{{a", "a}}", "{{a b}}", "{{1a}}", "{{}}", "{{a|shout}}"])
def test_malformed_templates_are_told(text: str) -> None:
    assert template_problem(text)


def test_sound_templates_pass() -> None:
    assert template_problem("Hello {{name}}, {single} braces are fine, {{n | digits}}") is None


@pytest.mark.parametrize(
    ("hour", "minute", "spoken"),
    [(0, 5, "12:05 AM"), (9, 0, "9:00 AM"), (12, 30, "12:30 PM"), (23, 59, "11:59 PM")],
)
def test_the_calls_own_variables(hour: int, minute: int, spoken: str) -> None:
    variables = call_variables(
        agent_name="Desk",
        caller_number="+15550100002",
        called_number="+15550100001",
        direction="inbound",
        now=datetime(2025, 3, 4, hour, minute),
    )
    assert variables.keys() == BUILTIN_VARIABLES.keys()
    assert variables["now_date"] == "Tuesday, March 4"
    assert variables["now_time"] == spoken
