"""Does a sentence or a clause end with this token? Knows the token, what follows on its line, no more."""

from __future__ import annotations

import re
from collections.abc import Sequence

from backend.core.spoken.lexicon import ABBREVIATIONS, CALENDAR_WORDS, NAMED_AFTER, STARTERS

_STOP = re.compile(r"(?P<stop>[.!?…؟۔।。！？｡]++)[\"'”’)\]»」』》）}]*\Z")
_BORDER = re.compile(r"(?:[,;:，、；：،؛—–][\"'”’)\]»」』》）]*|\A--?)\Z")
_OPENING = "\"'“‘«("
INITIALS = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]\Z")
"""As "P.O" before its last stop."""
ITEM = re.compile(r"(?P<n>\d{1,3})[.)]\Z")
"""The number of an item in a list."""


def stop(token: str) -> str:
    """The full stops, question or exclamation marks at a token's end."""
    match = _STOP.search(token) if token else None
    return match["stop"] if match else ""


def ends_clause(token: str) -> bool:
    """Whether one may pause after the token."""
    return bool(token) and _BORDER.search(token) is not None


def ends_sentence(token: str, follows: str, ahead: Sequence[str], *, begins_line: bool) -> bool:
    """Whether the sentence is over. `follows` is the next telling sign, "" at the end of the line or text;
    `ahead` holds the next token where the token is an abbreviation or has figures.
    """
    marks = stop(token)
    if not marks or marks[0] not in ".…" or marks.strip(".…"):
        return bool(marks)
    if not follows:
        return True
    if begins_line and ITEM.match(token):
        return False
    word = token[: token.rindex(marks)].lstrip(_OPENING).lower()
    if word in ("am", "pm") or word.endswith(("a.m", "p.m")):
        return follows.isupper() and not (ahead and ahead[0].rstrip(".,!?") in CALENDAR_WORDS)
    if word in NAMED_AFTER or follows.islower():
        return False
    if word == "no":
        return not follows.isdecimal()
    if word in ABBREVIATIONS or INITIALS.match(word):
        return bool(ahead) and ahead[0].rstrip(",") in STARTERS
    return word == "i" or not (len(word) == 1 and word.isalpha())
