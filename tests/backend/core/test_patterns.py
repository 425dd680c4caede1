from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.patterns import named_groups, pattern_problem
from tests.cost import cpu_s

SLOW = [r"(a+)+$", r"(\w+\s?)+$", r"(x+x+)+y", r"(a|aa)+$", r"(.*a){12}$", r"^(([a-z])+.)+[A-Z]([a-z])+$"]
SOUND = [
    r"my name is (?P<name>.+)$",
    r"\b(?:book|appointment|see|visit)\b.*\b(?P<day>Monday|Tuesday|Wednesday|Thursday|Friday)\b",
    r"(?P<who>[a-z][\w'-]*(?:\s+[a-z][\w'-]*){0,3})$",
    r"(?i)yes|no",
    r"(?<!not )right",
    r"(\w)\1",
]


@pytest.mark.parametrize("pattern", SLOW)
def test_what_would_try_for_hours_is_refused(pattern: str) -> None:
    assert "takes too long" in (pattern_problem(pattern) or "")


@pytest.mark.parametrize("pattern", SOUND)
def test_what_is_sound_is_taken(pattern: str) -> None:
    assert pattern_problem(pattern) is None


@pytest.mark.parametrize("pattern", ["(a", "a(?i)b", "[z-a]", "(?P<1>x)", "*", "(?P<a>x)(?P<a>y)", "\\"])
def test_what_is_none_says_why(pattern: str) -> None:
    assert (pattern_problem(pattern) or "").startswith("is not a regular expression: ")


@pytest.mark.parametrize("pattern", SLOW)
def test_no_search_holds_up_a_call(pattern: str) -> None:
    text = "a" * 999 + "!"
    assert cpu_s(lambda: named_groups(pattern, text)) < 1.0  # the limit is a tenth of a second


def test_groups_that_hold_something() -> None:
    assert named_groups(r"(?P<a>x)|(?P<b>y)", "Y") == {"b": "Y"}
    assert named_groups("z", "Y") is None


@given(st.sampled_from(SOUND), st.text(max_size=60) | st.sampled_from(["My name is Ann", "right", "aa"]))
def test_it_finds_what_pythons_own_finds(pattern: str, text: str) -> None:
    found = re.search(pattern, text, re.IGNORECASE)
    expected = {name: value for name, value in found.groupdict().items() if value} if found else None
    assert named_groups(pattern, text) == expected
