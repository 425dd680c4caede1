from __future__ import annotations

import pytest

from backend.core.speech import CharMark, Piece, Sound, Word, plain_piece

PIECE = Piece((Word("It", "It"), Word("costs", "costs"), Word("**", ""), Word("$5.", "five dollars.")))


def test_written_and_spoken() -> None:
    assert PIECE.text == "It costs ** $5."
    assert PIECE.spoken == "It costs five dollars."


@pytest.mark.parametrize(("character", "word"), [(0, 0), (2, 0), (3, 1), (8, 1), (9, 3), (21, 3), (40, 4)])
def test_the_word_of_a_character(character: int, word: int) -> None:
    assert PIECE.word_at(character) == word


def test_what_was_said_and_what_remains_are_the_whole() -> None:
    for at in range(5):
        assert PIECE.until(at).words + PIECE.rest(at).words == PIECE.words


def test_plain_words_are_spoken_as_written() -> None:
    assert plain_piece(" Good  morning. ").spoken == plain_piece("Good morning.").text == "Good morning."


@pytest.mark.parametrize(
    ("sound", "ms"), [(Sound(bytes(960), "pcm16", 24_000), 20), (Sound(bytes(160), "ulaw", 8_000), 20)]
)
def test_how_long_it_plays(sound: Sound, ms: float) -> None:
    assert sound.duration_ms == ms


def test_sound_in_parts_is_the_same_sound() -> None:
    mark = CharMark(3, 20.0)
    sound = Sound(bytes(range(200)) * 5, "pcm16", 8_000, (mark,))
    parts = list(sound.in_parts(10))
    assert b"".join(part.data for part in parts) == sound.data
    assert [len(part.data) for part in parts] == [160] * 6 + [40]
    assert [tuple(part.marks) for part in parts] == [(mark,)] + [()] * 6
    assert list(sound.in_parts(1_000)) == [sound]


def test_sound_of_an_impossible_rate_cannot_be_played() -> None:
    assert Sound(b"", "pcm16", 24_000).problem() is None
    assert Sound(b"", "ulaw", 8_000).problem() is None
    assert "0 Hz" in (Sound(bytes(2), "pcm16", 0).problem() or "")
