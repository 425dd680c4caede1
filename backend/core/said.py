"""Which words of a piece some sound says: by the vendor's alignment, by its length, or by ear. Pure.

All counts are of whole words of the piece, from its first.
"""

from __future__ import annotations

import audioop
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from backend.core.speech import CharMark, Piece

MS_PER_CHARACTER = 62.0  # English at a telephone agent's pace; what a voice really takes is learnt
_PAUSE_CHARACTERS = {",": 3.0, ";": 4.0, ":": 4.0, "–": 4.0, "—": 4.0, ".": 6.0, "!": 6.0, "?": 6.0}
_LAST_SOUND_MS = 60.0  # a character takes no less

_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SKIP, _EXTRA = 0.7, 0.7  # a word the ear missed, a word it made up
_FAR = 0.12  # for each word away from where the clock says
_SAME_WORD = 0.72
_MOST_HEARD = 60  # words: an ear that makes up more makes no sense


def said_by_marks(piece: Piece, marks: Sequence[CharMark], sound_ms: float) -> tuple[int, float]:
    """How many words are complete in `sound_ms` of sound, by the alignment of its characters; and when the
    last of them ends, in milliseconds."""
    begun = [mark for mark in marks if mark.at_ms + _LAST_SOUND_MS <= sound_ms]
    if not begun:
        return 0, 0.0
    last = max(mark.character for mark in begun)
    if last + 1 >= len(piece.spoken):
        return len(piece.words), sound_ms
    # A word is over when its last character has sounded: the one before a space.
    said = piece.word_at(last + 2)
    next_begins = [mark.at_ms for mark in marks if piece.word_at(mark.character) >= said]
    return said, min([*next_begins, sound_ms])


def said_by_duration(piece: Piece, voiced_ms: float, ms_per_character: float = MS_PER_CHARACTER) -> float:
    """How many words `voiced_ms` of speech take, with the part of the one that is being said."""
    budget = voiced_ms / ms_per_character
    for index, word in enumerate(piece.words):
        size = weight(word.spoken)
        if size > budget:
            return index + budget / size
        budget -= size
    return float(len(piece.words))


def weight(spoken: str) -> float:
    """Its share of time, in characters."""
    if not spoken:
        return 0.0
    return len(spoken) + 1 + sum(_PAUSE_CHARACTERS.get(sign, 0.0) for sign in spoken[-1:])


def spoken_weight(piece: Piece) -> float:
    """A piece's length in time, in characters: what a rate is learnt by."""
    last = piece.words[-1].spoken if piece.words else ""
    pause = _PAUSE_CHARACTERS.get(last[-1:], 0.0)  # nobody waits after the end
    return max(0.0, sum(weight(word.spoken) for word in piece.words) - pause - 1)


def said_by_ear(piece: Piece, recognised: str, expected: float, *, from_start: bool) -> int | None:
    """How many words are complete, by what was recognised of the sound; None when that makes no sense.

    `expected`: the clock's opinion, in words. `from_start`: the ear heard the sound from its beginning on,
    not only its end.
    """
    heard = tokens(recognised)
    script = [(token, index) for index, word in enumerate(piece.words) for token in tokens(word.spoken)]
    if not heard or not script or len(heard) > _MOST_HEARD:
        return None
    at = _tokens_before(piece, expected)
    row = _aligned(heard, [token for token, _ in script], from_start=from_start)
    best = min(range(len(script) + 1), key=lambda end: row[end] + _FAR * abs(end - at))
    if row[best] > 0.5 * len(heard):
        return None
    return _whole_words(piece, script, best, heard)


def tokens(text: str) -> list[str]:
    """Words as an ear compares them: lower case, no punctuation."""
    return [match.group().lower().replace("’", "'") for match in _TOKEN.finditer(text)]


def _tokens_before(piece: Piece, expected: float) -> float:
    at = 0.0
    for index, word in enumerate(piece.words):
        count = len(tokens(word.spoken))
        if expected < index + 1:
            return at + max(0.0, expected - index) * count
        at += count
    return at


def _aligned(heard: Sequence[str], script: Sequence[str], *, from_start: bool) -> list[float]:
    """The least cost of having heard all of `heard` by the time each number of script tokens was said."""
    row = [_SKIP * end if from_start else 0.0 for end in range(len(script) + 1)]
    # One for each token: what it has reckoned of that is kept for every word it is compared with.
    matchers = {token: SequenceMatcher(None, "", token, autojunk=False) for token in script}
    for word in heard:
        letters = set(word)
        alike = {
            token: 0.0 if letters.isdisjoint(token) else _likeness(word, token, matcher)
            for token, matcher in matchers.items()
        }
        following = [row[0] + _EXTRA]
        for end, token in enumerate(script, start=1):
            following.append(min(row[end - 1] + 1.0 - alike[token], row[end] + _EXTRA, following[-1] + _SKIP))
        row = following
    return row


def likeness(a: str, b: str) -> float:
    """0 – 1."""
    return _likeness(a, b, SequenceMatcher(None, "", b, autojunk=False))


def _likeness(a: str, b: str, matcher: SequenceMatcher[str]) -> float:
    """`matcher`: of `b`."""
    if a == b:
        return 1.0
    matcher.set_seq1(a)
    return matcher.ratio()


def _whole_words(piece: Piece, script: Sequence[tuple[str, int]], end: int, heard: Sequence[str]) -> int:
    """Words of which every token lies before `end`; the last one must have been heard whole."""
    if end:
        last = script[end - 1][0]
        as_heard = (heard[-1], "".join(heard[-2:]))  # an ear may hear two words in one: "two's day"
        if max(likeness(each, last) for each in as_heard) < _SAME_WORD:
            end -= 1
    if end == len(script):
        return len(piece.words)
    return script[end][1]


@dataclass(frozen=True, slots=True)
class Ending:
    """How a stretch of speech breaks off, in milliseconds from its start."""

    begins_ms: float  # its first sound
    voiced_ms: float  # its last sound
    border_ms: float  # its last pause: before it, no word is cut

    def speech_ms(self, until_ms: float = math.inf) -> float:
        """From the first sound to the last, as far as that is kept."""
        return max(0.0, min(self.voiced_ms, until_ms) - self.begins_ms)


_STEP_MS = 10
_PAUSE_STEPS = 3  # a pause is at least as long
_LOOK_BACK_MS = 700.0
_QUIETER = 0.06  # than the loudest: −24 dB
_SILENT_BELOW = 60  # of 32768


def ending(pcm16_8k: bytes) -> Ending:
    """Where speech that was broken off can be cut without cutting a word, at most 700 ms before its end."""
    step = 8 * _STEP_MS * 2
    loudness = [audioop.rms(pcm16_8k[at : at + step], 2) for at in range(0, len(pcm16_8k) - step + 1, step)]
    limit = max(_SILENT_BELOW, _QUIETER * max(loudness, default=0))
    voiced = next((at + 1 for at in range(len(loudness) - 1, -1, -1) if loudness[at] > limit), 0)
    begins = next((at for at, each in enumerate(loudness) if each > limit), 0)
    begins_ms, voiced_ms = float(begins * _STEP_MS), float(voiced * _STEP_MS)
    if len(loudness) - voiced >= _PAUSE_STEPS:
        return Ending(begins_ms, voiced_ms, voiced_ms)
    quiet = 0
    for at in range(voiced - 1, max(0, voiced - int(_LOOK_BACK_MS / _STEP_MS)) - 1, -1):
        quiet = quiet + 1 if loudness[at] <= limit else 0
        if quiet == _PAUSE_STEPS:
            return Ending(begins_ms, voiced_ms, float((at + 1) * _STEP_MS))
    return Ending(begins_ms, voiced_ms, voiced_ms)
