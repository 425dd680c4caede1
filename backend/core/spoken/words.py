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
from backend.core.spoken.cleaning import bare, clean, tag_name
from backend.core.spoken.endings import INITIALS, ITEM, ends_clause, ends_sentence, stop
from backend.core.spoken.lexicon import ABBREVIATIONS, BARE_ABBREVIATIONS, CALENDAR_WORDS
from backend.core.spoken.overlong import part_size, parts
from backend.core.spoken.tokens import breaks_line, token_end

_MOST_AHEAD = 4  # tokens looked at after a figure
_MOST_GROUPS = 6  # after the country code of a telephone number
_BLANKS = re.compile(r"\s+")
_LINE = re.compile(r"[\n\r\x85\u2028\u2029]")
_PLAIN = re.compile(r"([A-Za-z]{1,50}+(?:['’][a-z]{1,8}+)?)([,;:!?]?)(?=\s)")
_OPENERS = frozenset("*_~`\"'“‘«([¿¡")
_MOST_OPENERS = 8
_BULLET = re.compile(r"(?:[-*+•◦▪‣·–—>]|#{1,6}|>{1,3}|\|)\Z")


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
        self._base = 0  # how much of the text is gone
        self._tokens: dict[int, tuple[int, str]] = {}  # looked at already: start in all the text → end, bare
        self._seen = (0, 0)  # a token that has not ended: its start, how far it was looked at
        self._line_begins = True
        self._line_broke = False
        self._before: deque[str] = deque(maxlen=4)
        self._previous = ""

    def push(self, text: str) -> None:
        """Some more of the text."""
        self._text = self._text[self._at :] + clean(text)
        self._base += self._at
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
        if plain and self._is_plain(plain.group(1)):
            written, mark = plain.group(), plain.group(2)
            self._at = plain.end()
            return [self._said(written, written, written, mark in ("!", "?"))]
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
        first = self._token(start, final)
        if first is None:
            return None
        end, token = first
        raw = text[start:end]
        if name := raw[0] == "<" and raw[-1] == ">" and tag_name(raw):
            self._at = end
            if breaks_line(name):
                said = [self._said(_folded(raw), "", "", False)]
                self._line_begins = self._line_broke = True
                return said
        if chunk := part_size(token):
            return self._chunks(raw, token, chunk, end, final)
        ahead = self._ahead(token, end, final)
        if ahead is None:
            return None
        taken, spoken = self._say(token, [item for item, _ in ahead])
        if taken > 1:
            token, end = ahead[taken - 2]
        follows = self._follows(end, final)
        marks = stop(token)
        if follows is None and marks:
            return None
        left = [item for item, _ in ahead[taken - 1 :]]
        ends = ends_sentence(token, follows or "", left, begins_line=self._line_begins)
        self._at = end
        written = _folded(text[start:end])
        if ends and spoken and spoken[-1].isalnum():
            spoken += marks
        return [self._said(written, spoken, token, ends)]

    def _said(self, written: str, spoken: str, token: str, ends: bool) -> SaidWord:
        said = SaidWord(Word(written, _folded(spoken)), self._line_broke, ends, ends_clause(token))
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
            if ahead and (item := ITEM.match(token)):
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
        most = _MOST_GROUPS if "+" in token[:2] else _MOST_AHEAD
        while len(found) < most:
            blanks = _BLANKS.match(text, end)
            if blanks is None:
                if end < len(text) or final:
                    break  # a token ended without a blank: nothing is linked to it
                return None
            if blanks.group() != " " and _LINE.search(blanks.group()):
                break
            if blanks.end() == len(text):
                if final:
                    break
                return None
            token_ahead = self._token(blanks.end(), final)
            if token_ahead is None:
                return None
            end, item = token_ahead
            found.append((item, end))
            if not english.links(item):
                break
        return found

    def _token(self, start: int, final: bool) -> tuple[int, str] | None:
        """Where the token at `start` ends and what it is without markup; None while it has not ended."""
        base = self._base
        known = self._tokens.get(base + start)
        if known is None:
            seen = self._seen[1] - base if self._seen[0] == base + start else 0
            ended, at = token_end(self._text, start, final=final, seen=seen)
            if not ended:
                self._seen = (base + start, base + at)
                return None
            if len(self._tokens) > 4 * _MOST_GROUPS:
                self._tokens.clear()
            known = self._tokens[base + start] = (base + at, bare(self._text[start:at]))
        return known[0] - base, known[1]

    def _looks_ahead(self, token: str) -> bool:
        if self._language != "en":
            return any(char.isdecimal() for char in token)
        if english.has_figure(token) or token == "|":
            return True
        core = token.rstrip("\"'”’)»,!?;:").lstrip("\"'“‘(«")
        word = core.lower().rstrip(".")
        return core.endswith(".") and (word in ABBREVIATIONS or INITIALS.match(word) is not None)

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

    def _chunks(self, raw: str, token: str, size: int, end: int, final: bool) -> list[SaidWord] | None:
        follows = self._follows(end, final)
        if follows is None and stop(token):
            return None
        count = -(-len(token) // size)
        said: list[SaidWord] = []
        for written, part in zip(parts(raw, count), parts(token, count), strict=True):
            ends = len(said) == count - 1 and ends_sentence(part, follows or "", (), begins_line=False)
            said.append(self._said(written, self._say(part, [])[1], part, ends))
        self._at = end
        return said


def _folded(text: str) -> str:
    return " ".join(text.split())
