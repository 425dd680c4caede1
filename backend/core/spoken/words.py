"""Streaming text → words, each as written and as said, with where sentences and clauses end.

A word comes as soon as no further text can change it; the same words come however the text is cut up.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from backend.core.speech import Word
from backend.core.spoken import elsewhere, english
from backend.core.spoken.addresses import EMAIL, URL
from backend.core.spoken.cleaning import bare, clean, tag_name
from backend.core.spoken.lexicon import (
    ABBREVIATIONS,
    BARE_ABBREVIATIONS,
    CALENDAR_WORDS,
    NAMED_AFTER,
    STARTERS,
)
from backend.core.spoken.tokens import breaks_line, token_end

_MOST_AHEAD = 6  # tokens looked at after a figure
_BLANKS = re.compile(r"\s+")
_LINE = re.compile(r"[\n\r\x85\u2028\u2029]")
_PLAIN = re.compile(r"([A-Za-z]+(?:['’][a-z]+)?)([,;:!?]?)(?=\s)")
_OPENERS = frozenset("*_~`\"'“‘«([¿¡")
_MOST_OPENERS = 8
_STOP = re.compile(r"(?P<stop>[.!?…؟۔।。！？｡]++)[\"'”’)\]»」』》）}]*\Z")
_BORDER = re.compile(r"(?:[,;:，、；：،؛—–][\"'”’)\]»」』》）]*|(?:\A|\s)--?)\Z")
_BULLET = re.compile(r"(?:[-*+•◦▪‣·–—>]|#{1,6}|>{1,3}|\|)\Z")
_ITEM = re.compile(r"(?P<n>\d{1,3})[.)]\Z")
_WIDE = re.compile(r"[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")
_FIGURE_CHARS = re.compile(r"[(\"'+$€£-]*[\d.,:/%+-]+[%€$)\"'.,!?;:]*\Z")
_MOST_LETTERS, _MOST_WIDE, _MOST_CODE, _MOST_DIGITS = 60, 20, 20, 12


@dataclass(frozen=True, slots=True)
class SaidWord:
    """A word and what it does to the text around it."""

    word: Word
    starts_line: bool  # a line break stands before it
    ends_sentence: bool
    ends_clause: bool


class WordStream:
    """The words of one text. `push` some of it, take `words`; at its end take `words(final=True)`."""

    def __init__(self, language: str = "en-US") -> None:
        self._language, _, region = language.partition("-")
        self._day_first = region not in ("", "US")
        self._text = ""
        self._at = 0
        self._line_begins = True
        self._line_broke = False
        self._before: deque[str] = deque(maxlen=4)
        self._previous = ""

    def push(self, text: str) -> None:
        """Some more of the text."""
        self._text = self._text[self._at :] + clean(text)
        self._at = 0

    def words(self, *, final: bool = False) -> Iterator[SaidWord]:
        """The words that are certain by now."""
        while (said := self._next(final)) is not None:
            yield from said

    @property
    def line_broke(self) -> bool:
        """Whether a line break stands after the last word."""
        return self._line_broke

    def _next(self, final: bool) -> list[SaidWord] | None:
        text = self._text
        blanks = _BLANKS.match(text, self._at)
        if blanks:
            self._at = blanks.end()
            if _LINE.search(blanks.group()):
                self._line_begins = self._line_broke = True
        if self._at == len(text):
            return None
        plain = _PLAIN.match(text, self._at)
        if plain and len(plain.group()) <= _MOST_LETTERS and self._is_plain(plain.group(1)):
            written, mark = plain.group(), plain.group(2)
            self._at = plain.end()
            return [self._said(written, written, written, mark in ("!", "?") and mark != "")]
        return self._hard(final)

    def _is_plain(self, core: str) -> bool:
        if self._language != "en":
            return True
        return (
            core not in BARE_ABBREVIATIONS
            and core not in CALENDAR_WORDS
            and not core[1:2].isupper()
            and (core.lower() not in ("ok", "vs", "etc", "approx"))
        )

    def _hard(self, final: bool) -> list[SaidWord] | None:
        text, start = self._text, self._at
        end = token_end(text, start, final=final)
        if end is None:
            return None
        raw = text[start:end]
        if name := raw[0] == "<" and raw[-1] == ">" and tag_name(raw):
            self._at = end
            if breaks_line(name):
                said = [self._said(_folded(raw), "", "", False)]
                self._line_begins = self._line_broke = True
                return said
        token = bare(raw)
        if chunk := _too_long(token):
            return self._chunks(raw, token, chunk, end, final)
        ahead = self._ahead(token, end, final)
        if ahead is None:
            return None
        taken, spoken = self._say(token, [item for item, _ in ahead])
        if taken > 1:
            token, end = ahead[taken - 2]
        follows = self._follows(end, final)
        if follows is None and _STOP.search(token):
            return None
        ends = self._ends(token, follows or "", [item for item, _ in ahead[taken - 1 :]])
        self._at = end
        written = _folded(text[start:end])
        if ends and spoken and spoken[-1].isalnum() and (stop := _STOP.search(token)):
            spoken += stop["stop"]
        return [self._said(written, spoken, token, ends)]

    def _said(self, written: str, spoken: str, token: str, ends: bool) -> SaidWord:
        said = SaidWord(Word(written, spoken), self._line_broke, ends, bool(_BORDER.search(token)))
        self._line_broke = False
        if token:
            self._line_begins = False
            self._previous = token
            if ends:
                self._before.clear()
            else:
                self._before.append(token.lower().rstrip(".,!?;:"))
        return said

    def _say(self, token: str, ahead: list[str]) -> tuple[int, str]:
        if self._line_begins:
            if _BULLET.match(token):
                return 1, ""
            if ahead and (item := _ITEM.match(token)):
                return 1, self._number_of_item(item["n"])
        if self._language != "en":
            return 1, elsewhere.say(token, self._previous, ahead[0] if ahead else "", self._language)
        if token == "|" and not ahead:
            return 1, ""
        if not token:
            return 1, ""
        return english.say([token, *ahead], tuple(self._before), day_first=self._day_first)

    def _number_of_item(self, figures: str) -> str:
        if self._language == "en":
            return english.say([figures], (), day_first=False)[1] + ","
        return elsewhere.say(figures, "", "", self._language) + ","

    def _ahead(self, token: str, end: int, final: bool) -> list[tuple[str, int]] | None:
        """The tokens that may belong to this one and where they end; None while more text must come."""
        if not self._looks_ahead(token):
            return []
        found: list[tuple[str, int]] = []
        text = self._text
        while len(found) < _MOST_AHEAD:
            blanks = _BLANKS.match(text, end)
            if blanks is None:
                if end < len(text) or final:
                    break  # a token ended without a blank: nothing is linked to it
                return None
            if _LINE.search(blanks.group()):
                break
            if blanks.end() == len(text):
                if final:
                    break
                return None
            stop = token_end(text, blanks.end(), final=final)
            if stop is None:
                return None
            end = stop
            item = bare(text[blanks.end() : stop])
            found.append((item, end))
            if not english.links(item):
                break
        return found

    def _looks_ahead(self, token: str) -> bool:
        if self._language != "en":
            return any(char.isdecimal() for char in token)
        if english.has_figure(token) or token == "|":
            return True
        core = token.rstrip("\"'”’)»,!?;:").lstrip("\"'“‘(«")
        return core.endswith(".") and core.lower().rstrip(".") in ABBREVIATIONS

    def _follows(self, end: int, final: bool) -> str | None:
        """The first telling sign after `end` on its line, "" at the line's end; None: it may yet come."""
        text = self._text
        blanks = _BLANKS.match(text, end)
        if blanks and _LINE.search(blanks.group()):
            return ""
        at = blanks.end() if blanks else end
        for char in text[at : at + _MOST_OPENERS]:
            if char not in _OPENERS:
                return "" if _LINE.match(char) else char
        if at + _MOST_OPENERS <= len(text):
            return text[at]
        return "" if final else None

    def _ends(self, token: str, follows: str, ahead: list[str]) -> bool:
        match = _STOP.search(token)
        if match is None:
            return False
        stop = match["stop"]
        if stop[0] not in ".…" or stop.strip(".…"):
            return True
        word = token[: match.start()].lstrip("\"'“‘(«").lower()
        if self._line_begins and _ITEM.match(token) and follows:
            return False
        if not follows:
            return True
        if word in ("a.m", "p.m", "am", "pm") or word.endswith((" a.m", " p.m")):
            return follows.isupper() and not (ahead and ahead[0].rstrip(".,") in CALENDAR_WORDS)
        if word in NAMED_AFTER or follows.islower():
            return False
        if word in ABBREVIATIONS and word != "no":
            return bool(ahead) and ahead[0].rstrip(",") in STARTERS
        if word == "no":
            return not follows.isdecimal()
        return word == "i" or not (len(word) == 1 and word.isalpha())

    def _chunks(self, raw: str, token: str, size: int, end: int, final: bool) -> list[SaidWord] | None:
        follows = self._follows(end, final)
        if follows is None and _STOP.search(token):
            return None
        parts = [token[at : at + size] for at in range(0, len(token), size)]
        said = []
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            _, spoken = self._say(part, [])
            said.append(self._said(part, spoken, part, last and self._ends(part, follows or "", [])))
        self._at = end
        return said


def _too_long(token: str) -> int:
    """The most signs a piece of an overlong token may have, 0 when it can be said whole."""
    if len(token) <= _MOST_DIGITS or " " in token:
        return 0
    if _WIDE.search(token):
        return _MOST_WIDE if len(token) > _MOST_WIDE + 5 else 0
    if not any(char.isdecimal() for char in token):
        return _MOST_LETTERS if len(token) > _MOST_LETTERS and not _is_address(token) else 0
    if token.strip("\"'.,!?;:()").isdecimal():
        return _MOST_DIGITS if len(token) > 16 else 0
    if len(token) <= _MOST_CODE or (_FIGURE_CHARS.match(token) and len(token) < 30) or _is_address(token):
        return 0
    return _MOST_CODE


def _is_address(token: str) -> bool:
    core = token.strip("\"'“”‘’().,!?;:<>«»")
    if EMAIL.fullmatch(core):
        return True
    match = URL.fullmatch(core)
    return match is not None and bool(match["scheme"] or match["www"] or match["path"])


def _folded(text: str) -> str:
    return " ".join(text.split())
