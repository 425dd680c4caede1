from __future__ import annotations

from runpod_server.api.patience import Patience


def test_a_message_waits_no_longer_than_the_deadline() -> None:
    assert Patience(30.0).left_s(0) == 30.0
    assert Patience(30.0).left_s(600_000) == 30.0


def test_a_client_that_plays_as_it_reads_is_waited_for_to_the_end() -> None:
    patience = Patience(30.0)
    for second in range(600):
        assert patience.left_s(second * 1000) > 1.0
        patience.waited_s += 1.0


def test_one_that_takes_a_second_of_sound_every_29_is_soon_gone() -> None:
    patience, seconds = Patience(30.0), 0
    while patience.left_s(seconds * 1000) >= 29.0:
        patience.waited_s += 29.0
        seconds += 1
    assert seconds <= 2
    patience.waited_s += 1000
    assert patience.left_s(seconds * 1000) == 0.0
