"""Text → pieces a voice can speak one after another: sentences, with abbreviations and numbers kept whole."""

from __future__ import annotations

import re

_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st ave rd blvd jr sr vs etc inc ltd co dept approx vol fig e.g i.e a.m p.m u.s u.k "
    "jan feb mar apr aug sept oct nov dec".split()
)
_CLOSING = "\"'”’)\\]»"
# Possessive, and only from the first mark of a row on: ten thousand dots must not cost their square.
_END = re.compile(
    rf"(?<![.!?…؟۔।])[.!?…؟۔।]++[{_CLOSING}]*+\s+|[。！？]++[{_CLOSING}」』]*+\s*|\n\s*",
)
_SPACES = re.compile(r"\s+")
_SPEAKABLE = re.compile(r"[^\W_]")
MAX_CHARACTERS = 300


def sentences(text: str) -> list[str]:
    """Non-empty, speakable sentences in order; their words together are the text's words.

    A sentence over 300 characters is cut at a comma, else at a space, so that its first sound need not wait.
    """
    pieces: list[str] = []
    start = 0
    for match in _END.finditer(text):
        if _ends_sentence(text, start, match):
            pieces.append(text[start : match.end()])
            start = match.end()
    pieces.append(text[start:])
    folded = (_SPACES.sub(" ", piece).strip() for piece in pieces)
    return [part for piece in folded for part in _shorten(piece) if _SPEAKABLE.search(part)]


def _ends_sentence(text: str, start: int, match: re.Match[str]) -> bool:
    if "\n" in match.group() or not match.group().startswith("."):
        return True
    before = text[start : match.start()].rsplit(None, 1)
    word = before[-1].lower().lstrip("(\"'“‘") if before else ""
    after = text[match.end() : match.end() + 1]
    if word in ("a.m", "p.m"):
        return after.isupper()
    if word in _ABBREVIATIONS or after.islower():
        return False
    if word == "no":
        return not after.isdecimal()  # "No. 5"
    if word.isdecimal() and len(before) == 1:
        return False  # the number of an item in a list
    return word == "i" or not (len(word) == 1 and word.isalpha())


def _shorten(piece: str) -> list[str]:
    parts = []
    while len(piece) > MAX_CHARACTERS:
        window = piece[: MAX_CHARACTERS + 1]
        cut = max(window.rfind(", "), window.rfind("; "), window.rfind(": "))
        cut = cut + 1 if cut > MAX_CHARACTERS // 3 else window.rfind(" ")
        cut = cut if cut > 0 else MAX_CHARACTERS
        parts.append(piece[:cut].strip())
        piece = piece[cut:].strip()
    return [*parts, piece] if piece else parts
