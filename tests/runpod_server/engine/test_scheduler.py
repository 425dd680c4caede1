from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_server.engine.scheduler import Slots
from runpod_server.errors import Busy


def test_first_come_first_served() -> None:
    slots: Slots[str] = Slots(1, 2)
    assert slots.enter("a") is True
    assert slots.enter("b") is False
    assert slots.enter("c") is False
    with pytest.raises(Busy, match="all 1 streams .* 2 requests wait"):
        slots.enter("d")
    assert slots.leave("b") is None
    assert slots.leave("a") == "c"
    assert slots.leave("a") is None
    assert (slots.active, slots.waiting) == (1, 0)


@given(st.integers(1, 4), st.integers(0, 4), st.lists(st.tuples(st.booleans(), st.integers(0, 9))))
def test_no_slot_is_lost_or_given_twice(capacity: int, room: int, steps: list[tuple[bool, int]]) -> None:
    slots: Slots[int] = Slots(capacity, room)
    holding: list[int] = []
    waiting: list[int] = []
    for comes, key in steps:
        if comes and key not in holding + waiting:
            try:
                (holding if slots.enter(key) else waiting).append(key)
            except Busy:
                assert (len(holding), len(waiting)) == (capacity, room)
        elif not comes:
            following = slots.leave(key)
            if key in holding:
                holding.remove(key)
                assert following == (waiting[0] if waiting else None)
                if following is not None:
                    holding.append(waiting.pop(0))
            elif key in waiting:
                waiting.remove(key)
        assert (slots.active, slots.waiting) == (len(holding), len(waiting))
        assert not waiting or len(holding) == capacity


def test_who_made_way_is_never_refused_and_goes_last_until_it_is_in_a_hurry() -> None:
    slots: Slots[str] = Slots(1, 1)
    slots.enter("a")
    assert slots.make_way("a") is None  # nobody waits: it keeps its slot
    slots.enter("b")
    assert slots.make_way("a") == "b"
    slots.enter("c")
    assert slots.come_back("a") is False
    assert (slots.active, slots.waiting) == (1, 1)
    assert slots.make_way("b") == "c"
    assert slots.come_back("b") is False
    assert slots.make_way("c") is None  # those who only came back need it no more than c does
    slots.enter("d")
    slots.hurry("b")
    assert [slots.leave(each) for each in "cbda"] == ["b", "d", "a", None]
    assert slots.come_back("a") is True
