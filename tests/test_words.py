"""Words by ear: signs and spelling do not count, lost and strange words do."""

from __future__ import annotations

import pytest

from tests.words import errors_at_end, errors_within


@pytest.mark.parametrize("heard", ['He said: "Good-bye."', "goodbye!", "well, goodbye", "GOODBYE"])
def test_signs_and_spelling_at_the_end_are_no_errors(heard: str) -> None:
    assert errors_at_end("Goodbye.", heard) == 0


@pytest.mark.parametrize("heard", ["", "Goodbye. And then?", "good morning"])
def test_another_end_is_an_error(heard: str) -> None:
    assert errors_at_end("and goodbye", heard) > 0


def test_a_sentence_is_found_anywhere_with_its_errors() -> None:
    heard = "Hello this is the willo clinic. Would you like to book a table for 2?"
    assert errors_within("would you like to book", heard) == 0
    assert errors_within("a table for two", heard) == 0
    assert errors_within("this is the Willow clinic", heard) == 1
    assert errors_within("we are open until six", heard) >= 4
    assert errors_within("hello", "") == 1
