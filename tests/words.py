"""Texts as a recogniser heard them, compared by words and errors: never by letters, signs or spelling."""

from __future__ import annotations

from backend.simulator.spoken import spoken_words
from backend.simulator.wordcount import word_errors


def errors_within(said: str, heard: str) -> int:
    """The fewest word errors with which `said` stands anywhere in `heard`."""
    words, length = spoken_words(heard), len(spoken_words(said))
    pieces = (
        " ".join(words[at : at + count])
        for at in range(max(1, len(words)))
        for count in (length - 1, length, length + 1)
    )
    return min(word_errors(said, piece).errors for piece in pieces)


def errors_at_end(said: str, heard: str) -> int:
    """The fewest word errors with which `heard` ends in `said`."""
    words, length = spoken_words(heard), len(spoken_words(said))
    return min(
        word_errors(said, " ".join(words[-count:] if count else [])).errors
        for count in (length - 1, length, length + 1)
    )
