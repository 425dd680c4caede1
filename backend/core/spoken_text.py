"""Written text → words, each as it stands in the text and as a voice should say it."""

from __future__ import annotations

from backend.core.speech import Word
from backend.core.spoken.words import WordStream


def words_of(text: str, language: str = "en-US") -> list[Word]:
    """The words of a text in order; none when there is nothing in it that can be said.

    Written together they are the text, less hidden signs. No word takes more than some six seconds to say.
    `language` is an agent's ("en-US", "de"); English is put in words throughout, of other languages only
    plain figures are. Takes time in proportion to the text.
    """
    stream = WordStream(language)
    stream.push(text)
    words = [said.word for said in stream.words(final=True)]
    return words if any(map(is_speakable, words)) else []


def is_speakable(word: Word) -> bool:
    """Whether there is a letter or a figure in what is said."""
    return any(char.isalnum() for char in word.spoken)
