"""Whether a voice that says it is done can have said its text, by how little sound there is. Pure.

No voice of ours, asked to hurry, takes less than 85 ms for a word and 24 ms for a letter on average of a
sentence (67 and 19 at twice the pace, which no agent can ask for), nor less than six tenths of what it takes
on average. What is judged lies far below that: a sentence that is said twice is as bad as one that is lost.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from backend.core.said import spoken_weight, tokens
from backend.core.speech import Piece

Verdict = Literal["whole", "doubtful", "cut"]
"""doubtful: an ear, or the vendor's alignment, should say which words there are."""

_FEW_WORDS, _FEW_LETTERS = 4, 20  # shorter texts are mostly pauses, and their words may be very quick ones
_LEAST_MS_PER_WORD, _LEAST_MS_PER_LETTER = 60.0, 17.0
_CUT_BELOW, _DOUBTFUL_BELOW = 0.35, 0.65  # of what this voice takes as a rule
_MOST_MS_PER_CHARACTER = 62.0  # of that rule: were it learnt of a drawl, every other voice would seem cut
_FEWER_WORDS = 3  # so many missing at the end are more than a word that the ear did not catch
_LETTER = re.compile(r"[^\W\d_]")


def verdict(
    piece: Piece, speech_ms: float, *, ms_per_character: float | None = None, speed: float = 1.0
) -> Verdict:
    """`ms_per_character`: as learnt of this voice, at this `speed`; None: nothing is known of it yet."""
    words = tokens(piece.spoken)
    letters = sum(map(len, words))
    if len(words) < _FEW_WORDS or letters < _FEW_LETTERS or not _is_latin(piece.spoken):
        return "whole"
    least_ms = min(_LEAST_MS_PER_WORD * len(words), _LEAST_MS_PER_LETTER * letters) / max(1.0, speed)
    if speech_ms < least_ms:
        return "cut"
    if ms_per_character is None:
        return "whole"
    expected_ms = spoken_weight(piece) * min(ms_per_character, _MOST_MS_PER_CHARACTER)
    if speech_ms < _CUT_BELOW * expected_ms:
        return "cut"
    return "doubtful" if speech_ms < _DOUBTFUL_BELOW * expected_ms else "whole"


def is_missing_words(piece: Piece, said: int | None) -> bool:
    """Whether so many words, of those that were found in doubtful sound, are too few. None: none was sure."""
    return said is not None and len(piece.words) - said >= _FEWER_WORDS


def _is_latin(text: str) -> bool:
    """A voice may leave out, in good faith, what is written in letters it does not know."""
    return all("LATIN" in unicodedata.name(letter, "") for letter in _LETTER.findall(text))
