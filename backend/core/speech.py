"""What is to be spoken and the sound that comes back, as every speech route and the router see them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

RouteName = Literal[
    "sesame_ws", "sesame_rest", "sesame_hosted", "sesame_fallback", "elevenlabs", "elevenlabs_rest", "telnyx"
]
"""Speech routes as records, health page and metrics name them."""
ROUTE_NAMES: tuple[RouteName, ...] = get_args(RouteName)

_LEAST_HZ, _MOST_HZ = 1_000, 384_000

Encoding = Literal["pcm16", "ulaw"]
"""int16 little-endian mono, or G.711 μ-law mono at 8 kHz."""


@dataclass(frozen=True, slots=True)
class Word:
    """Something that is spoken whole: as it was written, and as a voice should say it.

    "$1,250," is one word, spoken "one thousand two hundred fifty dollars,"; a markdown star is spoken "".
    """

    text: str
    spoken: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A sentence or clause, spoken in one request."""

    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """As it was written: what stands in the transcript."""
        return " ".join(word.text for word in self.words if word.text)

    @property
    def spoken(self) -> str:
        """As the voice is given it."""
        return " ".join(word.spoken for word in self.words if word.spoken)

    def word_at(self, character: int) -> int:
        """Index of the word in which that character of `spoken` stands; beyond the end: len(words)."""
        at = 0
        for index, word in enumerate(self.words):
            if word.spoken:
                at += len(word.spoken) + 1
                if character < at:
                    return index
        return len(self.words)

    def rest(self, first_word: int) -> Piece:
        """What follows: the words from `first_word` on."""
        return Piece(self.words[first_word:])

    def until(self, first_word: int) -> Piece:
        """What comes before `first_word`."""
        return Piece(self.words[:first_word])


def plain_piece(text: str) -> Piece:
    """A piece whose words are spoken as they are written."""
    return Piece(tuple(Word(word, word) for word in text.split()))


@dataclass(frozen=True, slots=True)
class CharMark:
    """A vendor's alignment: this character of the request's text begins to sound at this time."""

    character: int
    at_ms: float  # since the first sample of the request


@dataclass(frozen=True, slots=True)
class Sound:
    """Some sound of one request, as it came. Chunks of a request follow each other without a gap."""

    data: bytes
    encoding: Encoding
    rate_hz: int
    marks: Sequence[CharMark] = ()  # of this chunk's characters, where the vendor tells them

    @property
    def duration_ms(self) -> float:
        """How long it plays."""
        return len(self.data) * 1000 / self._bytes_per_s

    @property
    def _bytes_per_s(self) -> int:
        return self.rate_hz * (2 if self.encoding == "pcm16" else 1)

    def problem(self) -> str | None:
        """Why it cannot be played, in words, if so."""
        if not _LEAST_HZ <= self.rate_hz <= _MOST_HZ:
            return f"tells of a sample rate of {self.rate_hz} Hz"
        return None

    def in_parts(self, most_ms: int) -> Iterator[Sound]:
        """The same sound, no part of it longer than that. Only for what can be played."""
        size = self._bytes_per_s * most_ms // 1000
        if len(self.data) <= size:
            yield self
            return
        for at in range(0, len(self.data), size):
            marks = self.marks if at == 0 else ()
            yield Sound(self.data[at : at + size], self.encoding, self.rate_hz, marks)
