from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_server.engine.slot_book import SlotBook


def test_a_conversation_finds_its_slot_again_and_strangers_take_others_first() -> None:
    book = SlotBook(3)
    slot, held = book.take(None)
    assert not held
    book.give_back(slot, "call")
    others = [book.take(None)[0] for _ in range(2)]
    assert slot not in others
    assert book.take("call") == (slot, True)
    with pytest.raises(LookupError):
        book.take(None)


def test_the_conversation_left_longest_gives_way() -> None:
    book = SlotBook(2)
    first, second = book.take(None)[0], book.take(None)[0]
    book.give_back(first, "old")
    book.give_back(second, "new")
    assert book.take(None) == (first, False)
    assert book.take("old") == (second, False), "the last one free, whatever it held"
    assert book.free == 0


def test_forgetting() -> None:
    book = SlotBook(1)
    slot, _ = book.take(None)
    book.give_back(slot, "call")
    assert book.held() == ("call",)
    book.forget("call")
    book.forget("call")
    assert book.held() == ()
    assert book.take("call") == (slot, False)


def test_giving_back_twice_is_a_fault() -> None:
    book = SlotBook(1)
    with pytest.raises(ValueError, match="free already"):
        book.give_back(0)


@given(st.integers(1, 4), st.lists(st.tuples(st.booleans(), st.integers(0, 3))))
def test_no_slot_is_lost_given_twice_or_wrongly_said_to_hold(
    slots: int, steps: list[tuple[bool, int]]
) -> None:
    book, taken, holds = SlotBook(slots), [], {}
    for takes, key in steps:
        if takes and len(taken) < slots:
            slot, held = book.take(key)
            assert slot not in taken
            assert not held or holds.get(slot) == key
            holds.pop(slot, None)
            taken.append(slot)
        elif not takes and taken:
            slot = taken.pop(0)
            holds = {other: kept for other, kept in holds.items() if kept != key} | {slot: key}
            book.give_back(slot, key)
        assert book.free == slots - len(taken)
