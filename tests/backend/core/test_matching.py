from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.matching import KeyMatch, KeyPattern, has_keyword, search, spoken_keys, tidy, words


@pytest.mark.parametrize(
    ("heard", "keyword"),
    [
        ("Tuesday.", "tuesday"),
        ("2 p.m.", "2pm"),
        ("2PM, please", "two p.m."),
        ("At two o'clock.", "2 o’clock"),
        ("I'd like to book an appointment, please.", "book an appointment"),
        ("Well, yes. That's right!", "thats right"),
        ("It's at 2:30.", "two thirty"),
        ("twenty-five", "25"),
        ("Thirty two", "32"),
        ("Über alles", "über"),
    ],
)
def test_keywords_fit_however_they_are_written(heard: str, keyword: str) -> None:
    assert has_keyword(words(heard), (keyword,))
    assert has_keyword(words(keyword), (keyword,))


@pytest.mark.parametrize(
    ("heard", "keyword"),
    [
        ("I know", "no"),
        ("yesterday", "yes"),
        ("that's not right", "that's right"),
        ("", "yes"),
        ("often", "ten"),
        ("a long appointment", "an appointment"),
        ("yes", "…"),
    ],
)
def test_keywords_are_whole_words_in_a_row(heard: str, keyword: str) -> None:
    assert not has_keyword(words(heard), (keyword,))


@given(st.text(max_size=200))
def test_any_text_is_tidied_to_one_printable_line_and_stays_so(text: str) -> None:
    once = tidy(text)
    assert once.isprintable()
    words(text)
    spoken_keys(text)


def test_search_gives_named_groups_without_the_marks_around() -> None:
    found = search(r"my name is (?P<name>.+)", "Hello, my name is Sarah Miller.")
    assert found == {"name": "Sarah Miller"}
    assert search(r"yes that's right", "Yes, that's right.") == {}
    assert search(r"^no$", "Yes.") is None


@pytest.mark.parametrize(
    ("heard", "runs"),
    [
        ("It's 555, oh one four two.", ("5550142",)),
        ("My number is 212-555-0142.", ("2125550142",)),
        ("555. 010. 0142", ("555", "010", "0142")),
        ("five five five zero one double two", ("5550122",)),
        ("triple five, and then nine", ("555",)),
        ("One.", ("1",)),
        ("Press one, please.", ("1",)),
        ("I'd like that one", ()),
        ("star seven two", ("*72",)),
        ("no digits here", ()),
    ],
)
def test_spoken_keys(heard: str, runs: tuple[str, ...]) -> None:
    assert spoken_keys(heard) == runs


@pytest.mark.parametrize(
    ("pattern", "keys", "expected"),
    [
        ("1", "", KeyMatch.PARTIAL),
        ("1", "1", KeyMatch.FULL),
        ("1", "2", KeyMatch.NO),
        ("1", "12", KeyMatch.NO),
        ("[0-9]{4}", "123", KeyMatch.PARTIAL),
        ("[0-9]{4}", "1234", KeyMatch.FULL),
        ("[2-9][0-9]{6,9}", "5550142", KeyMatch.FULL_SO_FAR),
        ("[2-9][0-9]{6,9}", "5550142000", KeyMatch.FULL),
        ("[0-9]{0,2}#", "#", KeyMatch.FULL),
        ("[0-9]{0,2}#", "12#", KeyMatch.FULL),
        ("[0-9]{0,2}#", "123", KeyMatch.NO),
        ("*72", "*7", KeyMatch.PARTIAL),
        ("[*#]", "#", KeyMatch.FULL),
    ],
)
def test_key_patterns(pattern: str, keys: str, expected: KeyMatch) -> None:
    assert KeyPattern.parse(pattern).match(keys) is expected


@pytest.mark.parametrize(
    "pattern", ["", "x", "[]", "[a]", "1{2", "1{0}", "1{3,2}", "[0-9]{40}", "1+", "1{0,2}", "(1)"]
)
def test_patterns_that_cannot_be_read_say_so(pattern: str) -> None:
    with pytest.raises(ValueError, match="key"):
        KeyPattern.parse(pattern)


_items = st.tuples(
    st.sampled_from(["0", "1", "*", "#", "[0-9]", "[2-4]", "[*1]"]),
    st.sampled_from(["", "{2}", "{1,3}", "{0,2}"]),
)


@given(st.lists(_items, min_size=1, max_size=4), st.text("0123*#", max_size=8))
def test_key_patterns_agree_with_regular_expressions(items: list[tuple[str, str]], keys: str) -> None:
    pattern = "1" + "".join(key + count for key, count in items)
    regex = "1" + "".join((re.escape(key) if key in "*#" else key) + count for key, count in items)
    full = KeyPattern.parse(pattern).match(keys) in (KeyMatch.FULL, KeyMatch.FULL_SO_FAR)
    assert full == bool(re.fullmatch(regex, keys))


@given(st.lists(_items, min_size=1, max_size=4), st.text("0123*#", max_size=8), st.sampled_from("0123*#"))
def test_no_is_final_and_full_allows_no_more(items: list[tuple[str, str]], keys: str, more: str) -> None:
    pattern = KeyPattern.parse("1" + "".join(key + count for key, count in items))
    if pattern.match(keys) in (KeyMatch.NO, KeyMatch.FULL):
        assert pattern.match(keys + more) is KeyMatch.NO


def test_a_text_asked_of_many_transitions_is_taken_apart_once(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    def counted(text: str) -> str:
        taken.append(text)
        return tidy(text)

    monkeypatch.setattr("backend.core.matching.tidy", counted)
    words.cache_clear()
    said = "Well, I would rather have a table by the window than one in the garden."
    for _ in range(200):
        assert has_keyword(words(said), ["terrace", "by the window"])
    assert len(taken) == 3
