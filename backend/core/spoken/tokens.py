"""Finds where the token at a place of a growing text ends, without ever changing its mind.

A token is a run without blanks; tags and targets of links are never cut, signs that end a sentence in
scripts without blanks end a token, too. What is decided holds whatever text follows.
"""

from __future__ import annotations

import re

from backend.core.spoken.cleaning import is_inline, tag_name

MOST_CHARS = 600  # a longer run is cut here
_TAG_CHARS = 300
_LINK_CHARS = 950
WIDE_STOPS = "。！？｡"
_WIDE_PAUSES = "，、；："
_CLOSERS = "\"'”’)」』】》〉）"
_RUN = re.compile(rf"[^\s<\]{WIDE_STOPS}{_WIDE_PAUSES}]{{1,{MOST_CHARS}}}")
_TAG = re.compile(rf"<[/!?]?[A-Za-z][^<>]{{0,{_TAG_CHARS}}}>")
_TAG_BEGUN = re.compile(rf"<(?:[/!?]?(?:[A-Za-z][^<>]{{0,{_TAG_CHARS}}})?)?\Z")
_LINK = re.compile(r"\]\([^()\n]{0,500}(?:\([^()\n]{0,200}\)[^()\n]{0,200})?\)")
_LINK_BEGUN = re.compile(r"\](?:\([^()\n]{0,500}(?:\([^()\n]{0,200}(?:\)[^()\n]{0,200})?)?)?\Z")
_WIDE = re.compile(rf"[{WIDE_STOPS}{_WIDE_PAUSES}]")
_WIDE_END = re.compile(rf"[{WIDE_STOPS}{_WIDE_PAUSES}…!?]{{0,8}}[{_CLOSERS}]{{0,4}}")
_BREAKING_TAGS = frozenset("br p li ul ol div tr table h1 h2 h3 h4 h5 h6 s speak break hr td th".split())


def breaks_line(name: str) -> bool:
    """Whether a tag of that name ends what is said in one go."""
    return name in _BREAKING_TAGS and name != "td" and name != "th"


def token_end(text: str, start: int, *, final: bool, seen: int = 0) -> tuple[bool, int]:
    """Whether the token at `start` (no blank) has ended, and where; until then, how far it has been seen.

    `seen` is what an earlier call with less text gave: it need not be looked at again.
    """
    at, length = max(start, seen), len(text)
    while at < length:
        if at - start >= MOST_CHARS:
            return True, at
        char = text[at]
        if char == "<":
            end = _jump(text, at, _TAG, _TAG_BEGUN, final)
            if end is None:
                return False, at
            if end and not is_inline(tag_name(text[at:end]) or "") and not _is_link(text[at:end]):
                return True, at if at > start else end
            at = end or at + 1
        elif char == "]":
            end = _jump(text, at, _LINK, _LINK_BEGUN, final)
            if end is None:
                return False, at
            at = end or at + 1
        elif char.isspace():
            return True, at
        elif _WIDE.match(char):
            end_match = _WIDE_END.match(text, at)
            end = end_match.end() if end_match else at + 1
            return (True, end) if final or end < length else (False, at)
        else:
            run = _RUN.match(text, at, min(length, start + MOST_CHARS))
            at = run.end() if run else at + 1
    return final or at - start >= MOST_CHARS, at


def _jump(text: str, at: int, whole: re.Pattern[str], begun: re.Pattern[str], final: bool) -> int | None:
    """Where the construct at `at` ends, 0 when there is none, None when it may yet become one."""
    match = whole.match(text, at)
    if match:
        return match.end()
    if not final and begun.match(text, at):
        return None
    return 0


def _is_link(tag: str) -> bool:
    return "://" in tag or "@" in tag or tag.startswith("<mailto:")
