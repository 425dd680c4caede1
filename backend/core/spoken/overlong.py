"""How many signs of a token without blanks can be said in a few seconds."""

from __future__ import annotations

import re

from backend.core.spoken.addresses import EMAIL, URL

_WIDE = re.compile(r"[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")
_FIGURE = re.compile(r"[(\"'+$€£-]{0,4}[\d.,:/%+-]+[%€$)\"'.,!?;:]*\Z")
_LETTERS, _WIDE_SIGNS, _CODE, _DIGITS = 60, 20, 20, 12
_MARKS = "\"'“”‘’().,!?;:<>«»"


def part_size(token: str) -> int:
    """The most signs a part of an overlong token may have, 0 when it can be said whole."""
    if len(token) <= _DIGITS or " " in token:
        return 0
    if _WIDE.search(token):
        return _WIDE_SIGNS if len(token) > _WIDE_SIGNS + 5 else 0
    figures = any(char.isdecimal() for char in token)
    if len(token) <= (_CODE if figures else _LETTERS) and not token.isdecimal():
        return 0
    if token.strip(_MARKS).isdecimal():
        return _DIGITS if len(token) > 16 else 0
    if (_FIGURE.match(token) and len(token) < 30) or _is_address(token):
        return 0
    return _CODE if figures else _LETTERS


def parts(text: str, count: int) -> list[str]:
    """The text in that many parts of about the same length, none empty where it has signs enough."""
    return [text[len(text) * at // count : len(text) * (at + 1) // count] for at in range(count)]


def _is_address(token: str) -> bool:
    core = token.strip(_MARKS)
    if EMAIL.fullmatch(core):
        return True
    match = URL.fullmatch(core)
    return match is not None and bool(match["scheme"] or match["www"] or match["path"])
