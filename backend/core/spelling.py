"""Names and addresses spelled letter by letter: "J-O-H-N", "B as in boy", "double L". Pure; for English."""

from __future__ import annotations

import difflib
import re

_AS_IN = re.compile(r"\b([a-z])[\s,]+(?:as in|like in)\s+[a-z]+\b,?", re.IGNORECASE)
_TWICE = re.compile(r"\bdouble[\s-]+([a-z])\b", re.IGNORECASE)
_BESIDE = frozenset("and then thats its it is capital spelled spelt letter with".split())
_LEAST = 3  # letters in a row that are a word: "J R Smith" has initials
_SAME_WORD = 0.6


def plain_letters(text: str) -> str:
    """The text with each letter named once: "b as in boy, double l" → "b, l l"."""
    return _TWICE.sub(r"\1 \1", _AS_IN.sub(r"\1", text))


def spelled(said: str, least: int = 2) -> tuple[str, ...]:
    """The letters, where little else is said; () where there are words, or fewer letters than `least`."""
    heard = re.findall(r"[^\W\d_]+", plain_letters(said).replace("'", ""))
    letters = tuple(word for word in heard if len(word) == 1)
    others = [word for word in heard if len(word) > 1 and word.casefold() not in _BESIDE]
    return letters if len(letters) >= least and not others else ()


def words_of_letters(name: str) -> str:
    """The name with what is spelled in it put together: "Smith, S-M-Y-T-H" → "Smyth"."""
    out: list[str] = []
    letters: list[str] = []
    for token in [*re.split(r"[\s,]+|(?<=\b\w)-(?=\w\b)", plain_letters(name)), ""]:
        letter = token.strip(".")
        if len(letter) == 1 and letter.isalpha():
            letters.append(token)
            continue
        if len(letters) < _LEAST:
            out += letters
        else:
            word = "".join(item.strip(".") for item in letters).capitalize()
            while out and _beside(out[-1]):
                out.pop()
            if out and _alike(out[-1], word):
                out.pop()  # said first, then spelled
            out.append(word)
        letters = []
        if token:
            out.append(token)
    return " ".join(out)


def _beside(word: str) -> bool:
    return word.casefold().replace("'", "") in _BESIDE


def _alike(one: str, other: str) -> bool:
    return difflib.SequenceMatcher(None, one.casefold(), other.casefold()).ratio() >= _SAME_WORD
