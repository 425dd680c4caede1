"""Names and words an agent's callers are likely to say, put right where they were nearly heard. Pure.

Only what sounds the same and differs by little is changed: a wrong name does less harm than a wrong sentence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_BETWEEN = re.compile(r"[ \t\-]*")  # what may stand between words of one name
_LONG = 8  # letters, from which one wrong letter is forgiven whatever it sounds like
_SHORTEST = 4  # shorter names are only recognised as they are
_SOUNDS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), sound)
    for pattern, sound in (
        (r"^(kn|gn|pn)", "n"),
        (r"^wr", "r"),
        (r"^x", "s"),
        (r"tch", "C"),
        (r"sch", "sk"),
        (r"ch", "C"),
        (r"sh|ti(?=[ao])|ci(?=a)", "S"),
        (r"ph", "f"),
        (r"gh(?=[^aeiouy]|$)", ""),
        (r"th", "T"),
        (r"ck|q", "k"),
        (r"c(?=[eiy])", "s"),
        (r"c", "k"),
        (r"dg(?=[eiy])|g(?=[eiy])", "j"),
        (r"x", "ks"),
        (r"z", "s"),
        (r"wh", "w"),
        (r"mb$", "m"),
        (r"(?<=[aeiouy])[hw]|h(?=[^aeiouy]|$)", ""),
    )
)


@dataclass(frozen=True, slots=True)
class _Term:
    """A term, and what it is compared by."""

    order: int
    text: str
    folded: str
    words: int
    sound: str

    @property
    def most_edits(self) -> int:
        return max(1, len(self.folded) // 4)


def correct(text: str, terms: Sequence[str]) -> str:
    """`text` with each near miss of a term replaced by the term as it is written in `terms`."""
    index = _index(tuple(terms))
    most_words = max((count for count, _ in index), default=0)
    words = list(_WORD.finditer(text))
    folded = [_folded(word.group()) for word in words]
    joined = [_joined(text, words, at, at + 1) for at in range(len(words) - 1)]
    out: list[str] = []
    copied = at = 0
    while at < len(words):
        found = _best(folded, joined, at, index, most_words)
        if found is None:
            at += 1
            continue
        term, count = found
        start, end = words[at].start(), words[at + count - 1].end()
        out += (text[copied:start], term)
        copied, at = end, at + count
    return "".join((*out, text[copied:]))


_Index = Mapping[tuple[int, int], Sequence[_Term]]
"""By how many words, of how many letters together, may be which terms."""


@lru_cache(maxsize=256)
def _index(terms: tuple[str, ...]) -> _Index:
    index: dict[tuple[int, int], list[_Term]] = {}
    for order, text in enumerate(dict.fromkeys(terms)):
        folded, size = _folded(text), len(_WORD.findall(text))
        term = _Term(order, text, folded, size, _sound(folded))
        slack = term.most_edits if len(folded) >= _SHORTEST else 0
        for count in range(max(1, size - 1), size + 2):
            for letters in range(len(folded) - slack, len(folded) + slack + 1):
                index.setdefault((count, letters), []).append(term)
    return index


def _best(
    folded: Sequence[str], joined: Sequence[bool], at: int, index: _Index, most_words: int
) -> tuple[str, int] | None:
    """The term that the words from `at` on are nearest to, and how many words it takes the place of."""
    best: tuple[int, int, int, int, str] | None = None
    heard = ""
    for count in range(1, most_words + 1):
        last = at + count - 1
        if last >= len(folded) or (count > 1 and not joined[last - 1]):
            break
        heard += folded[last]
        near = index.get((count, len(heard)))
        sound = _sound(heard) if near else ""
        for term in near or ():
            distance = _distance_if_near(heard, sound, term, same_words=count == term.words)
            if distance is None:
                continue
            found = distance, -len(term.folded), term.order, count, term.text
            best = found if best is None else min(best, found)
    return None if best is None else (best[4], best[3])


def _joined(text: str, words: list[re.Match[str]], first: int, last: int) -> bool:
    return all(
        _BETWEEN.fullmatch(text, words[at].end(), words[at + 1].start()) is not None
        for at in range(first, last)
    )


def _distance_if_near(heard: str, sound: str, term: _Term, *, same_words: bool) -> int | None:
    wanted = term.folded
    if heard == wanted:
        return 0 if same_words or len(wanted) >= _SHORTEST else None
    if len(wanted) < _SHORTEST:
        return None
    if sound == term.sound:
        distance = _edits(heard, wanted)
        if distance <= term.most_edits:
            return distance
    return 1 if len(wanted) >= _LONG and _one_edit(heard, wanted) else None


def _folded(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in plain if letter.isalnum())


def _sound(letters: str) -> str:
    """How a word's consonants sound, roughly, in English; of its vowels only that it begins with one."""
    for pattern, sound in _SOUNDS:
        letters = pattern.sub(sound, letters)
    begins = "a" if letters[:1] in "aeiouy" else ""
    return begins + re.sub(r"(.)\1+", r"\1", re.sub(r"[aeiouy]", "", letters))


def _one_edit(one: str, other: str) -> bool:
    """Whether one insertion, deletion, replacement or swap of neighbours is all; both are long."""
    if one[:3] != other[:3] and one[-3:] != other[-3:]:
        return False  # most are told apart here: one edit cannot be at both ends
    shorter = min(len(one), len(other))
    begin = next((at for at in range(shorter) if one[at] != other[at]), shorter)
    end = 0
    while end < shorter - begin and one[-1 - end] == other[-1 - end]:
        end += 1
    left, right = one[begin : len(one) - end], other[begin : len(other) - end]
    return max(len(left), len(right)) == 1 or (len(left) == 2 and left == right[::-1])


def _edits(one: str, other: str) -> int:
    """Letters to insert, delete, replace or swap with their neighbour."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        older, before, row = before, row, [i]
        for j, b in enumerate(other, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                best = min(best, older[j - 2] + 1)
            row.append(best)
    return row[-1]
