"""Text → pieces a voice can speak one after another: sentences, with abbreviations and numbers kept whole.

The text may come bit by bit, as from a language model: the same pieces come, each as soon as it is certain.
"""

from __future__ import annotations

from dataclasses import replace

from backend.core.speech import Piece
from backend.core.spoken.words import SaidWord, WordStream
from backend.core.spoken_text import is_speakable

MAX_CHARACTERS = 300
FIRST_CHARACTERS = 60
_LEAST_CHARACTERS = 12  # of a clause that is a piece of its own


def pieces(
    text: str,
    language: str = "en-US",
    *,
    first_chars: int = FIRST_CHARACTERS,
    most_chars: int = MAX_CHARACTERS,
) -> list[Piece]:
    """The pieces of a whole text: see PieceStream. None when there is nothing in it that can be said."""
    stream = PieceStream(language, first_chars=first_chars, most_chars=most_chars)
    return stream.push(text) + stream.finish()


class PieceStream:
    """The pieces of one utterance. `push` its text as it comes, then `finish`; both give pieces to speak now.

    A piece is a sentence, or a line. A first sentence of more than `first_chars` gives its first clause as
    a piece of its own, so that the voice can begin early; one of more than `most_chars` is cut at a clause,
    else at a word. Characters are counted as spoken. Words stay whole and in order; what has none that can be
    said is left out.
    """

    def __init__(
        self,
        language: str = "en-US",
        *,
        first_chars: int = FIRST_CHARACTERS,
        most_chars: int = MAX_CHARACTERS,
    ) -> None:
        self._stream = WordStream(language)
        self._first_chars = first_chars
        self._most_chars = most_chars
        self._words: list[SaidWord] = []
        self._size = 0  # characters of the words that wait
        self._clause: tuple[int, int] | None = None  # words and characters of their first clause
        self._begun = False  # the first piece is out

    def push(self, delta: str) -> list[Piece]:
        """More of the text: what is certain now."""
        self._stream.push(delta)
        return self._take(final=False)

    def finish(self) -> list[Piece]:
        """The text is over: the rest of it."""
        return self._take(final=True) + self._cut(len(self._words))

    def _take(self, *, final: bool) -> list[Piece]:
        out: list[Piece] = []
        for said in self._stream.words(final=final):
            if said.starts_line:
                out += self._end_line()
            self._words.append(said)
            self._size += _size(said)
            if said.ends_clause and self._clause is None and self._size >= _LEAST_CHARACTERS:
                self._clause = len(self._words), self._size
            out += self._shorten()
            if said.ends_sentence:
                out += self._cut(len(self._words))
        if self._stream.line_broke:
            out += self._end_line()
        return out

    def _shorten(self) -> list[Piece]:
        out: list[Piece] = []
        if not self._begun and self._clause and self._size > self._first_chars:
            words, size = self._clause
            if self._size - size >= _LEAST_CHARACTERS:
                out += self._cut(words)
        while self._size > self._most_chars and len(self._words) > 1:
            out += self._cut(self._last_clause())
        return out

    def _last_clause(self) -> int:
        size = self._size - _size(self._words[-1])
        for count in range(len(self._words) - 1, 0, -1):
            if size <= self._most_chars // 3:
                break
            if self._words[count - 1].ends_clause:
                return count
            size -= _size(self._words[count - 1])
        return len(self._words) - 1

    def _end_line(self) -> list[Piece]:
        """What stands on a line of its own sounds like a sentence: an item, a heading, a row of a table."""
        for at in range(len(self._words) - 1, -1, -1):
            word = self._words[at].word
            if word.spoken:
                if word.spoken[-1].isalnum() and word.spoken[-1] < _WIDE_FROM:
                    word = replace(word, spoken=word.spoken + ".")
                    self._words[at] = replace(self._words[at], word=word)
                break
        return self._cut(len(self._words))

    def _cut(self, count: int) -> list[Piece]:
        taken, self._words = self._words[:count], self._words[count:]
        self._size = sum(map(_size, self._words))
        self._clause = None
        if not any(is_speakable(said.word) for said in taken):
            return []
        self._begun = True
        return [Piece(tuple(said.word for said in taken))]


_WIDE_FROM = "\u0900"  # scripts from here on have full stops of their own


def _size(said: SaidWord) -> int:
    return len(said.word.spoken) + 1
