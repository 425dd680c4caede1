"""Names and words an agent's callers are likely to say, put right where they were nearly heard. Pure.

Only what sounds the same and differs by little is changed: a wrong name does less harm than a wrong sentence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

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


def correct(text: str, terms: Sequence[str]) -> str:
    """`text` with each near miss of a term replaced by the term as it is written in `terms`."""
    words = list(_WORD.finditer(text))
    out: list[str] = []
    copied = at = 0
    while at < len(words):
        found = _best(text, words, at, terms)
        if found is None:
            at += 1
            continue
        term, count = found
        start, end = words[at].start(), words[at + count - 1].end()
        out += (text[copied:start], term)
        copied, at = end, at + count
    return "".join((*out, text[copied:]))


def _best(text: str, words: list[re.Match[str]], at: int, terms: Sequence[str]) -> tuple[str, int] | None:
    """The term that the words from `at` on are nearest to, and how many words it takes the place of."""
    best: tuple[int, int, str, int] | None = None
    for term in terms:
        wanted, size = _folded(term), len(_WORD.findall(term))
        for count in range(max(1, size - 1), size + 2):
            last = at + count - 1
            if last >= len(words) or not _joined(text, words, at, last):
                break
            heard = _folded("".join(word.group() for word in words[at : last + 1]))
            distance = _distance_if_near(heard, wanted, same_words=count == size)
            if distance is not None and (best is None or (distance, -len(wanted)) < best[:2]):
                best = (distance, -len(wanted), term, count)
    return None if best is None else (best[2], best[3])


def _joined(text: str, words: list[re.Match[str]], first: int, last: int) -> bool:
    return all(
        _BETWEEN.fullmatch(text, words[at].end(), words[at + 1].start()) is not None
        for at in range(first, last)
    )


def _distance_if_near(heard: str, wanted: str, *, same_words: bool) -> int | None:
    if len(wanted) < _SHORTEST:
        return 0 if same_words and heard == wanted else None
    most = max(1, len(wanted) // 4)
    if abs(len(heard) - len(wanted)) > most:
        return None
    distance = _edits(heard, wanted)
    alike = distance == 0 or (distance <= most and _sound(heard) == _sound(wanted))
    return distance if alike or (distance == 1 and len(wanted) >= _LONG) else None


def _folded(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in plain if letter.isalnum())


def _sound(letters: str) -> str:
    """How a word's consonants sound, roughly, in English; of its vowels only that it begins with one."""
    for pattern, sound in _SOUNDS:
        letters = pattern.sub(sound, letters)
    begins = "a" if letters[:1] in "aeiouy" else ""
    return begins + re.sub(r"(.)\1+", r"\1", re.sub(r"[aeiouy]", "", letters))


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
