"""Echo: by its loudness, learnt as the line shows it, and by its words."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.echo import SILENCE_DBFS, EchoGuard, PlayedLoudness, are_our_words, dbfs

WINDOW_MS = 32.0


def sound(ms: int, amplitude: int) -> bytes:
    return struct.pack("<2h", amplitude, -amplitude) * (4 * ms)


def test_loudness_is_that_of_what_is_played_then() -> None:
    played = PlayedLoudness()
    played.played(sound(200, 3277), 1_000.0)
    played.played(sound(200, 328), 1_200.0)
    assert played.loudest_dbfs(0, 1_000) == SILENCE_DBFS
    assert played.loudest_dbfs(900, 1_100) == pytest.approx(-20, abs=0.1)
    assert played.loudest_dbfs(1_230, 1_300) == pytest.approx(-40, abs=0.1)
    assert played.loudest_dbfs(1_100, 1_400) == pytest.approx(-20, abs=0.1)
    assert played.loudest_dbfs(1_420, 1_500) == SILENCE_DBFS


def test_what_was_cut_is_not_played() -> None:
    played = PlayedLoudness()
    played.played(sound(400, 3277), 0.0)
    played.cut(200.0)
    assert played.loudest_dbfs(220, 400) == SILENCE_DBFS
    assert played.loudest_dbfs(100, 400) > -21


def test_only_the_last_seconds_are_kept() -> None:
    played = PlayedLoudness()
    for second in range(100):
        played.played(sound(1_000, 3277), second * 1_000.0)
    assert len(played._steps) <= 5_000 / 20 + 1


def heard(guard: EchoGuard, inbound_dbfs: float, windows: int, played_dbfs: float = -20.0) -> list[bool]:
    return [guard.explains(inbound_dbfs, played_dbfs, WINDOW_MS) for _ in range(windows)]


@pytest.mark.parametrize("coupling_db", [-20.0, -25.0, -30.0])
def test_an_echo_is_explained_from_the_first_window_on(coupling_db: float) -> None:
    guard = EchoGuard()
    for _ in range(20):  # words and gaps between them
        assert all(heard(guard, -20.0 + coupling_db, 10))
        assert all(heard(guard, -70.0, 4))


@pytest.mark.parametrize("inbound_dbfs", [-15.0, -25.0, -34.0])
def test_a_caller_is_not_even_at_once(inbound_dbfs: float) -> None:
    assert not any(heard(EchoGuard(), inbound_dbfs, 4))


def test_on_a_line_without_echo_a_soft_caller_is_heard_soon() -> None:
    guard = EchoGuard()
    assert heard(guard, -40.0, 1) == [True]
    heard(guard, -70.0, 95)  # three seconds of our voice alone
    assert not any(heard(guard, -40.0, 4))


def test_nothing_is_echo_while_we_are_silent() -> None:
    assert not any(heard(EchoGuard(), -60.0, 10, played_dbfs=SILENCE_DBFS))


def test_a_louder_echo_is_learnt_from_its_words() -> None:
    guard = EchoGuard()
    assert not any(heard(guard, -32.0, 10))
    assert guard.doubtful
    guard.was_echo()
    assert all(heard(guard, -32.0, 10))
    assert not any(heard(guard, -20.0, 4)), "the caller is still heard"


def test_a_caller_as_loud_as_we_are_is_no_doubt() -> None:
    guard = EchoGuard()
    heard(guard, -40.0, 3)
    heard(guard, -22.0, 10)
    assert not guard.doubtful
    guard.new_turn()
    assert not guard.doubtful


_level = st.floats(-96.0, 0.0)


@given(st.lists(st.tuples(_level, _level, st.booleans()), max_size=100), _level)
def test_a_louder_sound_is_never_more_of_an_echo(
    before: list[tuple[float, float, bool]], played_dbfs: float
) -> None:
    def explained(inbound_dbfs: float) -> bool:
        guard = EchoGuard()
        for inbound, played, told in before:
            guard.explains(inbound, played, WINDOW_MS)
            if told:
                guard.was_echo()
        return guard.explains(inbound_dbfs, played_dbfs, WINDOW_MS)

    answers = [explained(level) for level in (-90.0, -50.0, -30.0, -10.0, 0.0)]
    assert answers == sorted(answers, reverse=True)
    assert not explained(played_dbfs), "as loud as we are: somebody speaks"


def test_dbfs() -> None:
    assert dbfs(32768) == 0 and dbfs(0) == SILENCE_DBFS and dbfs(3276.8) == pytest.approx(-20)


SAID = "Thank you for calling Harbor Dental. Would you like Tuesday at ten or Thursday at three?"


@pytest.mark.parametrize(
    "text",
    [
        "Tuesday at ten or Thursday at three?",
        "thank you for calling harbor",
        "you like Tuesday at then or Thursday",
    ],
)
def test_our_words_are_known(text: str) -> None:
    assert are_our_words(text, SAID)


@pytest.mark.parametrize(
    "text", ["", "Tuesday.", "At ten.", "No, I would like to cancel my booking.", "you at or calling three"]
)
def test_the_callers_words_are_not_ours(text: str) -> None:
    assert not are_our_words(text, SAID)


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_words_are_judged(heard_text: str, said: str) -> None:
    are_our_words(heard_text, said)
