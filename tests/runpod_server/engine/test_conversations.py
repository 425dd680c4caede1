from __future__ import annotations

from runpod_server.engine.conversations import Conversations


def test_the_oldest_turns_go_first() -> None:
    kept: Conversations[str] = Conversations(max_positions=100)
    for turn, positions in [("a", 40), ("b", 40), ("c", 30)]:
        kept.add("call", turn, positions, 0.0)
    assert kept.turns("call", 0.0)[0] == ("b", "c")
    kept.add("call", "huge", 500, 0.0)
    assert kept.turns("call", 0.0)[0] == ()


def test_every_turn_is_a_new_version_that_never_comes_back() -> None:
    kept: Conversations[str] = Conversations(max_positions=100)
    assert kept.turns("call", 0.0) == ((), 0)
    first = kept.add("call", "a", 1, 0.0)
    second = kept.add("call", "b", 1, 0.0)
    kept.forget("call")
    third = kept.add("call", "a", 1, 0.0)
    assert len({0, first, second, third}) == 4
    assert kept.turns("call", 0.0) == (("a",), third)


def test_conversations_expire_unless_they_are_used() -> None:
    kept: Conversations[str] = Conversations(max_positions=100, keep_s=10.0)
    kept.add("quiet", "a", 1, 0.0)
    kept.add("busy", "a", 1, 0.0)
    kept.turns("busy", 6.0)
    assert kept.turns("quiet", 10.0)[0] == ()
    assert kept.turns("busy", 15.0)[0] == ("a",)
    assert len(kept) == 1


def test_their_number_is_bounded() -> None:
    kept: Conversations[str] = Conversations(max_positions=100, max_conversations=2)
    for name in "abc":
        kept.add(name, "x", 1, 0.0)
    assert len(kept) == 2
    assert kept.turns("a", 0.0)[0] == ()
