"""Near misses of an agent's names are put right; ordinary words stay as they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.key_terms import correct
from tests.cost import cpu_s

TERMS = ("Bluebird Dental", "Dr. Nguyen", "Kowalski", "Sephora", "Ana", "iPhone", "Brightwater")


@pytest.mark.parametrize(
    ("heard", "meant"),
    [
        ("I'd like Blue bird dental, please.", "I'd like Bluebird Dental, please."),
        ("is this bluebird dental?", "is this Bluebird Dental?"),
        ("Blue-bird Dental", "Bluebird Dental"),
        ("is this Blubird Dentel?", "is this Bluebird Dental?"),
        ("with mister Kovalski", "with mister Kowalski"),
        ("with Kowalsky tomorrow", "with Kowalski tomorrow"),
        ("a Cephora card", "a Sephora card"),
        ("an i phone", "an iPhone"),
        ("bright water and Kowalski", "Brightwater and Kowalski"),
    ],
)
def test_near_miss_is_put_right(heard: str, meant: str) -> None:
    assert correct(heard, TERMS) == meant


@pytest.mark.parametrize(
    "said",
    [
        "I saw a blue bird in the dental office.",
        "blue bird. Dental care is dear.",  # a sentence ends in between
        "the dentist said so",
        "an a or a b",
        "Annie and Anna",
        "bright weather",
        "a blue bed rental",
        "",
        "…",
    ],
)
def test_other_words_stay(said: str) -> None:
    assert correct(said, TERMS) == said


def test_nearest_term_wins_and_each_stretch_is_used_once() -> None:
    assert correct("Marten Martin", ("Martin", "Marten")) == "Marten Martin"
    assert correct("blue bird dental blue bird dental", TERMS) == "Bluebird Dental Bluebird Dental"


def test_accents_and_other_scripts() -> None:
    assert correct("chez Café Müller", ("Cafe Mueller", "Café Müller")) == "chez Café Müller"
    assert correct("это Москва", ("Москва",)) == "это Москва"


@given(st.text(max_size=80))
def test_nothing_changes_without_terms_and_correcting_twice_is_correcting_once(text: str) -> None:
    assert correct(text, ()) == text
    once = correct(text, TERMS)
    assert correct(once, TERMS) == once


def test_a_hundred_terms_in_a_long_story_are_looked_for_while_others_wait() -> None:
    names = [f"{first}{middle} {last}{end}"
             for first in ("Bridge", "Maple", "Silver", "North", "Golden")
             for middle in ("water", "field", "brook", "stone", "wood")
             for last in ("Dental", "Optical")
             for end in ("", "s")]  # fmt: skip
    assert len(names) == 100
    story = "we went over the bridge and met a silverbrok dentel whom nobody knew " * 8
    assert correct(story, names).count("Silverbrook Dental") == 8
    assert cpu_s(lambda: correct(story, names)) < 0.2, "the whole process stands still meanwhile"
