"""Which entry the key belongs to that ends one."""

from __future__ import annotations

import pytest

from backend.core.keypad import KEY_GAP_MS, KeyEntry, without_end


def after(keys: str) -> KeyEntry:
    """Pressed one every 200 ms, the last at 0, and acted upon."""
    entry = KeyEntry()
    for number, key in enumerate(keys):
        assert not entry.is_ended_by(key, 200.0 * (number + 1 - len(keys)), asked_for=True)
    entry.acted_upon(keys)
    return entry


def test_a_pound_alone_is_a_key() -> None:
    assert [without_end(keys) for keys in ("12#", "#", "12", "", "1*")] == ["12", "#", "12", "", "1*"]


@pytest.mark.parametrize("key", ["#", "*"])
def test_an_end_key_in_time_belongs_to_what_it_ends(key: str) -> None:
    assert after("5550142").is_ended_by(key, KEY_GAP_MS, asked_for=False)
    assert not after("5550142").is_ended_by(key, KEY_GAP_MS + 1, asked_for=False)
    assert not KeyEntry().is_ended_by(key, 0.0, asked_for=False)


def test_a_pound_ends_an_entry_where_it_is_asked_for_next_and_the_second_one_answers() -> None:
    entry = after("12")
    assert entry.is_ended_by("#", 200.0, asked_for=True)
    assert not entry.is_ended_by("#", 400.0, asked_for=True)


def test_a_star_that_is_asked_for_next_answers() -> None:
    assert not after("12").is_ended_by("*", 200.0, asked_for=True)


def test_an_impatient_second_pound_is_no_mistake() -> None:
    entry = after("12")
    assert entry.is_ended_by("#", 200.0, asked_for=False)
    assert entry.is_ended_by("#", 400.0, asked_for=False)


def test_an_entry_that_has_its_end_leaves_the_next_pound_to_whoever_asks_for_it() -> None:
    assert not after("12#").is_ended_by("#", 200.0, asked_for=True)
    assert after("12#").is_ended_by("#", 200.0, asked_for=False)


def test_keys_typed_ahead_begin_an_entry_of_their_own() -> None:
    entry = after("1")
    assert not entry.is_ended_by("4", 200.0, asked_for=True)
    assert not entry.is_ended_by("#", 400.0, asked_for=False)


@pytest.mark.parametrize("keys", ["#", "*", "**#"])
def test_end_keys_alone_are_nothing_to_end(keys: str) -> None:
    entry = KeyEntry()
    entry.acted_upon(keys)
    assert not entry.is_ended_by("#", 0.0, asked_for=False)
