from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.said import (
    ending,
    said_by_duration,
    said_by_ear,
    said_by_marks,
    spoken_weight,
    tokens,
)
from backend.core.speech import CharMark, Piece, Word, plain_piece
from tests.cost import cpu_s

PIECE = plain_piece("Your appointment is on Tuesday, at half past nine.")
MONEY = Piece((Word("It", "It"), Word("costs", "costs"), Word("$25.", "twenty five dollars.")))


def marks(piece: Piece, ms_per_character: float = 60.0) -> list[CharMark]:
    return [CharMark(at, at * ms_per_character) for at in range(len(piece.spoken))]


def test_alignment_tells_whole_words_and_where_the_last_of_them_ends() -> None:
    # "Your " takes 5 characters of 60 ms; "appointment" begins at 300 ms and ends at 960.
    assert said_by_marks(PIECE, marks(PIECE), 500) == (1, 300)
    assert said_by_marks(PIECE, marks(PIECE), 959) == (1, 300)
    assert said_by_marks(PIECE, marks(PIECE), 1020)[0] == 2
    assert said_by_marks(PIECE, marks(PIECE), 100_000)[0] == len(PIECE.words)
    assert said_by_marks(PIECE, [], 500) == (0, 0)


@given(sound_ms=st.floats(0, 6000))
def test_more_sound_never_says_fewer_words(sound_ms: float) -> None:
    said, border_ms = said_by_marks(PIECE, marks(PIECE), sound_ms)
    more, _ = said_by_marks(PIECE, marks(PIECE), sound_ms + 50)
    assert said <= more
    assert border_ms <= sound_ms


def test_the_clock_counts_in_spoken_characters() -> None:
    whole_ms = spoken_weight(PIECE) * 60
    assert said_by_duration(PIECE, 0, 60) == 0
    assert said_by_duration(PIECE, whole_ms * 2, 60) == len(PIECE.words)
    assert 4 <= said_by_duration(PIECE, whole_ms / 2, 60) <= 5
    assert said_by_duration(MONEY, spoken_weight(MONEY) * 30, 60) > 2, "a long number is one word"


@given(st.floats(0, 10_000), st.floats(0, 10_000))
def test_the_clock_is_monotonic(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert said_by_duration(PIECE, low) <= said_by_duration(PIECE, high)


@pytest.mark.parametrize(
    ("recognised", "expected", "said"),
    [
        ("Your appointment is on Tuesday", 5.2, 5),
        ("your appointment is on two's day", 5.0, 4),  # misheard: rather said twice than not at all
        ("your appointment is on Tues day", 5.0, 5),
        ("Your appointment is on Tue", 4.5, 4),  # cut in the middle
        ("Your app", 1.2, 1),
        ("Your appointment is on Tuesday at half past nine", 9.0, 9),
        ("Your appointment is on Tuesday at half past nine", 6.0, 9),  # the clock is wrong
        ("The weather is fine and the birds sing loudly", 5.0, None),
        ("", 3.0, None),
    ],
)
def test_the_ear_says_how_far_it_came(recognised: str, expected: float, said: int | None) -> None:
    assert said_by_ear(PIECE, recognised, expected, from_start=True) == said


def test_only_the_end_was_listened_to() -> None:
    text = "We close at six on Monday and at six on Tuesday and at six on Friday, and never on Sunday."
    piece = plain_piece(text)
    assert said_by_ear(piece, "and at six on", 10.3, from_start=False) == 10, "the first of two"
    assert said_by_ear(piece, "and at six on", 14.6, from_start=False) == 15


def test_a_number_is_said_whole_or_not_at_all() -> None:
    assert said_by_ear(MONEY, "It costs twenty five", 2.6, from_start=True) == 2
    assert said_by_ear(MONEY, "It costs twenty five dollars", 3.0, from_start=True) == 3


@given(st.text(max_size=80), st.floats(0, 12), st.booleans())
def test_the_ear_is_never_out_of_range(recognised: str, expected: float, from_start: bool) -> None:
    said = said_by_ear(PIECE, recognised, expected, from_start=from_start)
    assert said is None or 0 <= said <= len(PIECE.words)


def test_tokens() -> None:
    assert tokens("It’s 9:30, Dr. Müller!") == ["it's", "9", "30", "dr", "müller"]


def _speech(*parts: tuple[float, float]) -> bytes:
    """(milliseconds, amplitude) one after another, at 8 kHz."""
    rng = np.random.default_rng(1)
    waves = [
        amplitude * np.sin(np.arange(int(ms * 8)) * 0.9) * rng.uniform(0.8, 1.0, int(ms * 8))
        for ms, amplitude in parts
    ]
    return np.concatenate(waves).astype("<i2").tobytes()


def test_speech_that_ends_in_silence_is_cut_there() -> None:
    end = ending(_speech((400, 8000), (200, 0)))
    assert (end.voiced_ms, end.border_ms) == (400, 400)


def test_speech_that_breaks_off_is_cut_at_its_last_pause() -> None:
    end = ending(_speech((400, 8000), (60, 0), (250, 7000)))
    assert end.voiced_ms == 710
    assert 400 < end.border_ms <= 460


def test_without_a_pause_nearby_it_is_cut_where_it_ends() -> None:
    end = ending(_speech((100, 0), (900, 8000)))
    assert end.voiced_ms == end.border_ms == 1000
    assert (end.begins_ms, end.speech_ms(), end.speech_ms(600)) == (100, 900, 500)


@pytest.mark.parametrize("pcm16", [b"", bytes(16), bytes(16_000), b"\x01"])
def test_silence_has_no_end(pcm16: bytes) -> None:
    assert ending(pcm16).voiced_ms == 0


def test_an_ear_that_makes_up_endless_words_is_not_believed_at_once() -> None:
    piece = plain_piece("We will call you back tomorrow. " * 8)
    heard = "you back tomorrow " * 700
    assert said_by_ear(piece, heard, 20, from_start=False) is None
    assert cpu_s(lambda: said_by_ear(piece, heard, 20, from_start=False)) < 0.2
