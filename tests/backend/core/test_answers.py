from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.answers import AnswerType, correction, is_bare, parse_answer, say_back, yes_or_no

SATURDAY = date(2026, 11, 21)


@pytest.mark.parametrize(
    ("kind", "said", "value"),
    [
        ("text", " The blue one. ", "The blue one"),
        ("name", "My name is Anna Smith.", "Anna Smith"),
        ("name", "Um, it's Bob, please", "Bob"),
        ("name", "No.", None),
        ("name", "What do you mean?", None),
        ("name", "Sorry, can you repeat that?", None),
        ("name", "Why do you need that", None),
        ("name", "I am not sure.", None),
        ("name", "I'd rather not say.", None),
        ("name", "Well, I want an appointment.", None),
        ("name", "I'm calling about my order", None),
        ("name", "That's private.", None),
        ("name", "I don't have one", None),
        ("name", "None of your business!", None),
        ("name", "I'm Will Wanting.", "Will Wanting"),
        ("name", "Private Ryan", "Private Ryan"),
        ("name", "Just call me Bob.", "Bob"),
        ("name", "Justine Notting", "Justine Notting"),
        ("name", "Pardon?", None),
        ("name", "I don't know.", None),
        ("name", "Will Smith", "Will Smith"),
        ("name", "How Chen", "How Chen"),
        ("name", "Joy Whatley", "Joy Whatley"),
        ("digits", "It's four, two, oh seven.", "4207"),
        ("phone", "It's 555, oh one four two.", "5550142"),
        ("phone", "five five five, oh one four two, thanks.", "5550142"),
        ("phone", "+1 (555) 123-4567", "+15551234567"),
        ("phone", "plus one 555 123 4567", "+15551234567"),
        ("phone", "one two three", None),
        ("number", "about twenty five people", "25"),
        ("number", "two thousand and six", "2006"),
        ("number", "1,250", "1250"),
        ("number", "3 thousand", "3000"),
        ("number", "minus two point five", "-2.5"),
        ("number", "many", None),
        ("number", "Two adults and three kids", None),
        ("number", "five or six", None),
        ("number", "one hundred and five", "105"),
        ("number", "four of us at 8 pm", "4"),
        ("email", "jane dot doe at example dot com", "jane.doe@example.com"),
        ("email", "J A N E @ example.com", "jane@example.com"),
        ("email", "it's Jane.Doe@Example.com.", "jane.doe@example.com"),
        ("email", "I have none", None),
        ("date", "today", "2026-11-21"),
        ("date", "tomorrow", "2026-11-22"),
        ("date", "the day after tomorrow", "2026-11-23"),
        ("date", "Friday", "2026-11-27"),
        ("date", "on Saturday", "2026-11-28"),
        ("date", "March the fourth", "2027-03-04"),
        ("date", "the twenty first of March 1985", "1985-03-21"),
        ("date", "March 4, nineteen eighty five", "1985-03-04"),
        ("date", "December the twenty-first", "2026-12-21"),
        ("date", "11/25", "2026-11-25"),
        ("date", "2027-01-02", "2027-01-02"),
        ("date", "February 30", None),
        ("date", "it may be", None),
        ("yes_no", "Yeah, that's right.", "yes"),
        ("yes_no", "No, that's not right.", "no"),
        ("yes_no", "no problem", "yes"),
        ("yes_no", "purple", None),
    ],
)
def test_values_in_what_was_said(kind: AnswerType, said: str, value: str | None) -> None:
    assert parse_answer(kind, said, SATURDAY) == value


def test_next_friday_early_in_the_week_is_the_one_after() -> None:
    assert parse_answer("date", "next Friday", date(2026, 11, 23)) == "2026-12-04"
    assert parse_answer("date", "Friday", date(2026, 11, 23)) == "2026-11-27"


@pytest.mark.parametrize(
    ("kind", "said", "bare"),
    [
        ("date", "On Friday, please.", True),
        ("date", "Are you open on Friday?", False),
        ("date", "My sister told me that Friday is quiet", False),
        ("phone", "My number is 555 0142.", True),
        ("yes_no", "Yes, please.", True),
        ("name", "Anna", False),
    ],
)
def test_an_answer_and_nothing_else(kind: AnswerType, said: str, bare: bool) -> None:
    assert is_bare(kind, said) is bare


@pytest.mark.parametrize(
    ("kind", "value", "spoken"),
    [
        ("phone", "5550142", "five five five, zero one four two"),
        ("date", "2026-11-27", "Friday, November 27, 2026"),
        ("date", "someday", "someday"),
        ("name", "Anna", "Anna"),
    ],
)
def test_reading_back(kind: AnswerType, value: str, spoken: str) -> None:
    assert say_back(kind, value) == spoken


@pytest.mark.parametrize(
    ("kind", "said", "value"),
    [
        ("name", "No, it's Anna.", "Anna"),
        ("name", "Nope, Anna Miller.", "Anna Miller"),
        ("name", "That's not right.", None),
        ("name", "No.", None),
        ("name", "Yes.", None),
        ("phone", "No, it's 555 0199.", "5550199"),
        ("phone", "No, that's wrong.", None),
        ("yes_no", "No.", None),
    ],
)
def test_corrections(kind: AnswerType, said: str, value: str | None) -> None:
    assert correction(kind, said, SATURDAY) == value


@given(
    st.sampled_from(["text", "digits", "name", "date", "phone", "number", "email", "yes_no"]),
    st.text(max_size=200),
)
def test_anything_may_be_said(kind: AnswerType, said: str) -> None:
    value = parse_answer(kind, said, SATURDAY)
    assert value is None or value
    is_bare(kind, said)
    correction(kind, said, SATURDAY)
    yes_or_no(said)


@given(st.dates(min_value=SATURDAY, max_value=date(2027, 11, 20)))
def test_a_day_read_back_is_that_day(day: date) -> None:
    assert parse_answer("date", say_back("date", day.isoformat()), SATURDAY) == day.isoformat()


@pytest.mark.parametrize(
    ("said", "day"),
    [
        ("the 3rd", "2026-12-03"),
        ("I may come on the third.", "2026-12-03"),
        ("Friday the 13th", "2026-12-13"),
        ("the twenty fifth", "2026-11-25"),
        ("the 3rd of next month", "2026-12-03"),
        ("in two weeks", "2026-12-05"),
        ("a week from Monday", "2026-11-30"),
        ("Not tomorrow, Friday.", "2026-11-27"),
        ("Why not Friday?", "2026-11-27"),
        ("February 30th", None),
        ("one second", None),
    ],
)
def test_days_as_people_name_them(said: str, day: str | None) -> None:
    assert parse_answer("date", said, date(2026, 11, 21)) == day


@pytest.mark.parametrize(
    ("kind", "said", "was", "mended"),
    [
        ("digits", "No, 4, not 5.", "1235", "1234"),
        ("phone", "No, it's four, not five.", "+1235000", "+1234000"),
        ("digits", "No, 4 not 5.", "5551235", None),
        ("number", "No, 4 not 5.", "5", "4"),
    ],
)
def test_one_figure_is_corrected(kind: AnswerType, said: str, was: str, mended: str | None) -> None:
    assert correction(kind, said, date(2026, 11, 21), was) == mended
