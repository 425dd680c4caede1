"""Strips from a written token what no voice should say: markdown, tags, emoji, hidden characters.

Knows single tokens only; every pattern is linear in the token's length.
"""

from __future__ import annotations

import html
import re
import unicodedata

_HIDDEN = {
    code: None
    for code in (
        *range(0x00, 0x09), *range(0x0E, 0x1C), *range(0x7F, 0x85), *range(0x86, 0xA0), 0xAD, 0x061C, 0x180E,
        0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x2070), *range(0xD800, 0xE000),
        0xFEFF, *range(0xFFF9, 0xFFFC), 0xFFFE, 0xFFFF,
    )
}  # fmt: skip

_SAID = {
    "°": "°", "©": " copyright ", "®": "", "™": "", "№": " number ", "℃": "°C", "℉": "°F", "→": " to ",
    "½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3", "\u2011": "-", "\u2212": "-",
    "\u02bc": "'", "\u200c": "\u200c", "\u200d": "\u200d", "₂": "2", "§": " section ", "\u2044": "/",
}  # fmt: skip
_MARKUP = frozenset("<>[]*_~`&|\\")
_TAG = re.compile(r"<[/!?]?[A-Za-z][^<>]*>")
_AUTOLINK = re.compile(r"<((?:https?://|mailto:)?[^\s<>]*[.@:][^\s<>]*)>")
_INLINE_TAGS = frozenset(
    "b i em strong u s a span code sub sup mark small big font q abbr kbd tt del ins "
    "emphasis prosody voice w phoneme say-as lang".split()
)
_TAG_NAME = re.compile(r"<[/!?]?([A-Za-z][A-Za-z0-9:-]*)")
_LINK_TARGET = re.compile(r"\]\([^()\n]{0,500}(?:\([^()\n]{0,200}\)[^()\n]{0,200})?\)")
_CITATION = re.compile(r"(?<=[\w.,!?;:])\[\d{1,3}\]")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,12});")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_KEY = re.compile(r"\*[0-9]{0,3}[.,!?;:]?\Z")  # of a telephone: "press *", "dial *69."
_TIMES = re.compile(r"(?<=[0-9])\*(?=[0-9])")
_EDGE_UNDERSCORE = re.compile(r"(?<![^\W_])_++|_++(?![^\W_])")
_STRAY_JOINER = re.compile(r"(?<![\u0600-\u06ff\u0700-\u0dff])[\u200c\u200d]")
_DROPPED = str.maketrans("", "", "*`[]")


class _Spoken(dict[int, str]):
    """For str.translate: symbols and emoji go, a few are named; decided once per character."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        gone = unicodedata.category(char) in ("So", "Sk", "Cf", "Cn", "Co", "Cs", "Me")
        if 0xFE00 <= code <= 0xFE0F:
            gone = True
        said = _SAID.get(char, "" if gone and code > 0x7F else char)
        self[code] = said
        return said


_SPOKEN = _Spoken()


def clean(text: str) -> str:
    """The text without characters that are neither seen nor heard: controls, marks of direction, halves."""
    return text if text.isascii() and text.isprintable() else text.translate(_HIDDEN)


def tag_name(token: str) -> str | None:
    """The name of the tag that stands at the token's start."""
    match = _TAG_NAME.match(token)
    return match.group(1).lower() if match else None


def is_inline(name: str) -> bool:
    """Whether a tag of that name may stand within a word."""
    return name in _INLINE_TAGS


def bare(token: str) -> str:
    """A token as one would read it aloud before figures are put in words; "" when nothing is left."""
    if token.isascii() and not _MARKUP.intersection(token):
        return token
    if _KEY.match(token):
        return token
    if token.startswith("```") or token in ("[x]", "[X]"):
        return ""
    text = _AUTOLINK.sub(r"\1", token) if "<" in token else token
    text = _TAG.sub("", text) if "<" in text else text
    text = _LINK_TARGET.sub("]", text) if "](" in text else text
    text = _CITATION.sub("", text) if "[" in text else text
    text = text.replace("![", "[")
    if "&" in text:
        text = _ENTITY.sub(lambda match: html.unescape(match.group()), text).translate(_HIDDEN)
    if "\\" in text:
        text = _ESCAPED.sub(r"\1", text)
    text = _TIMES.sub("×", text).translate(_DROPPED).replace("~~", "")
    if "_" in text:
        text = _EDGE_UNDERSCORE.sub("", text)
    if not text.isascii():
        text = _STRAY_JOINER.sub("", text.translate(_SPOKEN))
    return " ".join(text.split())
