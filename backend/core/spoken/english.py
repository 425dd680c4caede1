"""English tokens in words: how many of a few tokens belong together, and how they are said."""

from __future__ import annotations

import re
from collections.abc import Sequence

from backend.core.spoken import addresses, dates
from backend.core.spoken.endings import INITIALS
from backend.core.spoken.figures import digits
from backend.core.spoken.lexicon import (
    ABBREVIATIONS,
    BARE_ABBREVIATIONS,
    CAPITALISED_ONLY,
    DAYS,
    EMOTICON,
    MEANT_BEFORE_A_FIGURE,
    READ_AS_WORDS,
    SPELLED,
    UNITS,
)
from backend.core.spoken.quantities import QUANTITIES, Say, digits_of_code

_LEAD = r"(?P<open>[\"'“‘«(¿¡]*)"
_TAIL = r"(?P<close>[.,!?;:…)\"”’'»]*)(?= |\Z)"
_LINKABLE = re.compile(
    r"[(+$€£¥₹~<>#]?[(]?[0-9][^\s]{0,30}\Z|[-–—x×*=%]\Z|[aApP]\.?[mM]\b\.?[.,!?;:)]*\Z|"
    rf"(?:{'|'.join(sorted((name for name in UNITS if name.isalpha()), key=len, reverse=True))}|°[CF]|km/h|"
    r"USD|EUR|GBP|of|ext\.?|extension|x[0-9]{1,6}|"
    r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}\.?)[.,!?;:)]*\Z"
)
_DIGIT = re.compile(r"[0-9]")
_CALENDAR = re.compile(r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}\.?\Z")
_EDGES = re.compile(r"(?P<open>[\"'“‘«(¿¡{]*)(?P<core>.*?)(?P<close>[.,!?;:…)\"”’'»}]*)\Z", re.DOTALL)
_ACRONYM = re.compile(r"(?P<caps>[A-Z]{2,5})(?P<tail>s|['’]s)?\Z")
_VOWEL = re.compile(r"[AEIOU]")
_ROMAN = {
    "II": "two", "III": "three", "IV": "four", "VI": "six", "VII": "seven", "VIII": "eight", "IX": "nine",
    "XI": "eleven", "XII": "twelve", "XIII": "thirteen", "XIV": "fourteen", "XV": "fifteen", "XVI": "sixteen",
}  # fmt: skip
_NUMBERED = frozenset("chapter part war type phase stage level section volume title act class tier".split())
_DAY_SPAN = re.compile(r"(?P<a>[A-Z][a-z]{2,8})[-–](?P<b>[A-Z][a-z]{2,8})\Z")
_MIXED = re.compile(r"[0-9]+|[^0-9&/+@%=²³._\-]+|.", re.DOTALL)
_SIGNS = re.compile(r"[0-9&/+]")
_UNSAYABLE = re.compile(r"[{}^=|<>~\\`*\[\]#_]+")
_ALONE = {"&": "and", "+": "plus", "=": "equals", "@": "at", "%": "percent", "×": "times", "÷": "divided by",
          "—": "—", "–": "–", "-": "-", "--": "—", "|": ",", "±": "plus or minus"}  # fmt: skip
_WITHIN = {"&": " and ", "/": " slash ", "+": " plus ", "@": " at ", "%": " percent ", ".": " dot ",
           "=": " equals ", "²": " squared ", "³": " cubed "}  # fmt: skip
_MARKS = "\"'“”‘’«»()¿¡.,!?;:… "
_BEFORE_US = frozenset("call text email contact help let tell give visit join with reach send about".split())
_KEYS = {"#": "pound", "*": "star"}
_BEFORE_KEYS = frozenset("press pressing hit push dial enter or the and by then a with".split())
_FIXED = re.compile("(?P<all>24/7|9/11|50/50)")
_STREET = re.compile(r"[0-9]")


def has_figure(token: str) -> bool:
    """Whether a token can only be said when what follows is known: "10" may go on ":30" or "km"."""
    return bool(_DIGIT.search(token) or _CALENDAR.match(token))


def links(token: str) -> bool:
    """Whether a token may belong to the figure before it."""
    return bool(_LINKABLE.match(token))


def say(tokens: Sequence[str], before: Sequence[str], *, day_first: bool) -> tuple[int, str]:
    """How many of the tokens belong together, and what they are in words.

    `tokens` is not empty; `before` are the last few tokens in lower case.
    """
    if has_figure(tokens[0]):
        found = _figures(tokens, before, day_first)
        if found:
            return found
    return 1, say_one(tokens[0], before, tokens[1] if len(tokens) > 1 else "")


def _compiled(pattern: re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(f"{_LEAD}(?:{pattern.pattern}){_TAIL}")


def _figures(tokens: Sequence[str], before: Sequence[str], day_first: bool) -> tuple[int, str] | None:
    line = " ".join(tokens)
    signs = frozenset(line)
    for pattern, function, needs in _TABLE:
        match = pattern.match(line) if needs is None or not needs.isdisjoint(signs) else None
        if match:
            said = _slashed(match, day_first) if function is None else function(match, before)
            if said is not None:
                return _taken(tokens, match.end()), _marked(match["open"], said, match["close"])
    return None


def _taken(tokens: Sequence[str], end: int) -> int:
    """How many tokens lie before a place in their line; a token may have a blank of its own."""
    count = size = 0
    while size < end:
        size += len(tokens[count]) + 1
        count += 1
    return count


def _marked(opened: str, said: str, closed: str) -> str:
    """Marks around a figure stay, but halves of brackets and the apostrophe of "'90s"."""
    if ")" not in closed:
        opened = opened.replace("(", "")
    if "(" not in opened:
        closed = closed.replace(")", "")
    if "'" not in closed and "’" not in closed:
        opened = opened.strip("'’‘")
    return f"{opened}{said}{closed}"


def _slashed(match: re.Match[str], day_first: bool) -> str | None:
    return dates.slashed(match, day_first=day_first)


_MONTH_LETTERS = frozenset("JFMASOND")  # what months begin with
_TABLE: tuple[tuple[re.Pattern[str], Say | None, frozenset[str] | None], ...] = (
    (_compiled(addresses.PHONE), lambda match, before: addresses.phone(match), frozenset("-+(. ")),
    (_compiled(addresses.EMAIL), lambda match, before: addresses.email(match), frozenset("@")),
    (_compiled(dates.MONTH_DAY), lambda match, before: dates.month_day(match), _MONTH_LETTERS),
    (_compiled(dates.MONTH_YEAR), lambda match, before: dates.month_year(match), _MONTH_LETTERS),
    (_compiled(dates.DAY_MONTH), lambda match, before: dates.day_month(match), _MONTH_LETTERS),
    (_compiled(dates.ISO), lambda match, before: dates.iso(match), frozenset("-")),
    (_compiled(_FIXED), lambda match, before: BARE_ABBREVIATIONS[match["all"]], frozenset("/")),
    (_compiled(dates.SLASHED), None, frozenset("/")),
    (_compiled(dates.TIMES), lambda match, before: dates.times(match), frozenset(":mM")),
    *((_compiled(pattern), function, needs) for pattern, function, needs in QUANTITIES),
    (_compiled(addresses.URL), lambda match, before: addresses.url(match), frozenset("./")),
)
"""In the order in which they are tried, each with the signs of which a line must have one."""


def say_one(token: str, before: Sequence[str], after: str) -> str:
    """A single token in words; marks around it stay, but the full stop of an abbreviation.

    `after` is the next token, "" at the end of a line.
    """
    if not any(char.isalnum() for char in token):
        return _key(token, before) or _ALONE.get(token, "")
    if token[0] == "*":
        return f"star {digits(token)}{token.lstrip('*0123456789')}"
    if EMOTICON.match(token):
        return ""
    edges = _EDGES.match(token)
    assert edges is not None
    opened, core, closed = edges.groups()
    if closed.startswith(".") and (word := _abbreviated(core, before, after)):
        return f"{opened}{word}{closed[1:]}"
    return f"{opened}{_core(core, before)}{closed}"


def _key(token: str, before: Sequence[str]) -> str:
    """A key of the telephone, where one is spoken of: "press #." """
    name = _KEYS.get(token.rstrip(".,!?;:"))
    if token[0] == "*" and before and before[-1][-1:].isdigit():
        return "times"
    return name + token[1:] if name and before and before[-1] in _BEFORE_KEYS else ""


def _abbreviated(core: str, before: Sequence[str], after: str) -> str | None:
    key = core.lower()
    word = ABBREVIATIONS.get(key)
    if word is None and INITIALS.match(core):
        return core.replace(".", " ").upper()
    if word is None or (key in CAPITALISED_ONLY and not core[:1].isupper()):
        return None
    if key in MEANT_BEFORE_A_FIGURE and not _DIGIT.match(after):
        return None
    if key in ("st", "dr"):
        address = any(_STREET.match(item) for item in before) and not _STREET.match(before[-1])
        if address or (key == "st" and not after[:1].isupper()):
            return "Street" if key == "st" else "Drive"
    return word


def _core(core: str, before: Sequence[str]) -> str:
    if core.isalpha() and core.isascii() and not core[1:2].isupper():
        return BARE_ABBREVIATIONS.get(core, core)
    known = BARE_ABBREVIATIONS.get(core.lower()) if not core.isalpha() or core.lower() == "ok" else None
    if known:
        return known
    if "@" in core and (match := addresses.EMAIL.fullmatch(core)):
        return addresses.email(match)
    if ("." in core or "/" in core) and (match := addresses.URL.fullmatch(core)):
        said = addresses.url(match)
        if said:
            return said
    if core.isascii() and core.isalpha():
        return _capitals(core, before)
    return _assembled(core, before)


def _capitals(core: str, before: Sequence[str]) -> str:
    roman = _ROMAN.get(core)
    if roman and before and before[-1] in _NUMBERED:
        return roman
    match = _ACRONYM.match(core)
    if not match:
        return core
    caps, tail = match.groups()
    if caps == "US" and before and before[-1] in _BEFORE_US:
        return core
    if caps not in SPELLED and (_VOWEL.search(caps) or caps in READ_AS_WORDS):
        return core
    return " ".join(caps) + ("'s" if tail else "")


def _assembled(core: str, before: Sequence[str]) -> str:
    """A core of letters, figures and signs: "COVID-19", "AT&T", "#sale", "read_me", "pickup/delivery"."""
    days = _DAY_SPAN.match(core)
    if days and days["a"] in DAYS and days["b"] in DAYS:
        return f"{DAYS[days['a']]} to {DAYS[days['b']]}"
    if core.startswith("#"):
        core = "hashtag " + core.lstrip("#")
    elif core.startswith("@"):
        core = "at " + core.lstrip("@")
    if not _SIGNS.search(core):
        if "'" in core or "’" in core or "-" in core:
            return "-".join(_possessive(part, before) for part in _UNSAYABLE.sub(" ", core).split("-"))
        return " ".join(_UNSAYABLE.sub(" ", core).split())
    parts = [_part(part, before) for part in _MIXED.findall(core)]
    return " ".join(" ".join(parts).split())


def _possessive(part: str, before: Sequence[str]) -> str:
    return _capitals(part, before) if _ACRONYM.match(part) else part


def _part(part: str, before: Sequence[str]) -> str:
    if part.isascii() and part.isdigit():
        return digits_of_code(part)
    if part.isascii() and part.isalpha():
        return " ".join(part) if len(part) <= 3 and part.isupper() else _capitals(part, before)
    return _WITHIN.get(part) or _UNSAYABLE.sub(" ", part).replace("-", " ")
