"""English: money, percentages, measures, ranges, versions, codes and plain figures in words.

Each pattern matches at the start of a line of a few tokens; its function says it, or None to pass it on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from backend.core.spoken.dates import fraction
from backend.core.spoken.figures import (
    MOST_DIGITS,
    cardinal,
    decimal,
    digits,
    grouped_digits,
    ordinal,
    plain_number,
    year,
)
from backend.core.spoken.lexicon import ATTACHED_ONLY, CODE_WORDS, CURRENCIES, UNITS, plural, unit

_NUM = r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,5}|[0-9]{1,15})(?:\.[0-9]{1,12})?|\.[0-9]{1,12}"
_SYMBOL = r"US\$|A\$|C\$|[$€£¥₹]"
_SCALE = r"(?: ?(?P<scale>million|billion|trillion|thousand|bn|[mM]illion|[kKmMB])\b)?"
_TO = r" ?[-–—] ?"
_NAMES = "|".join(sorted(map(re.escape, UNITS), key=len, reverse=True))

Say = Callable[[re.Match[str], Sequence[str]], str | None]


def _money(match: re.Match[str], before: Sequence[str]) -> str:
    per = f" per {_PER.get(match['per'], match['per'])}" if match["per"] else ""
    return _amount(match) + per


_PER = {"mo": "month", "yr": "year", "hr": "hour", "h": "hour", "wk": "week"}


def _amount(match: re.Match[str]) -> str:
    symbol = match["symbol"] or match["after"]
    scale, sign = match["scale"], "minus " if match["sign"] else ""
    one, cents = CURRENCIES[symbol]
    if match["to"]:
        said = f"{plain_number(match['amount'])} to {plain_number(match['to'])}"
        return f"{said}{_scale(scale)} {plural(one)}"
    amount = match["amount"].replace(",", "")
    whole, _, part = amount.partition(".")
    if scale or len(part) not in (0, 2) or not (cents or not part) or len(whole) > MOST_DIGITS:
        return f"{sign}{decimal(amount)}{_scale(scale)} {plural(one)}"
    if len(part) == 2 and not int(part):
        part = ""
    said = f"{cardinal(int(whole or 0))} {one if int(whole or 0) == 1 else plural(one)}"
    if not part:
        return sign + said
    small = f"{cardinal(int(part))} {cents if int(part) == 1 else plural(cents)}"
    return sign + (f"{said} and {small}" if int(whole or 0) else small)


def _scale(scale: str | None) -> str:
    if not scale:
        return ""
    return " " + {"m": "million"}.get(scale, UNITS.get(scale, scale.lower()))


def _percent(match: re.Match[str], before: Sequence[str]) -> str:
    to = f" to {plain_number(match['to'])}" if match["to"] else ""
    return f"{_signed(match)}{to} percent"


def _measure(match: re.Match[str], before: Sequence[str]) -> str | None:
    name, spaced = match["unit"], match["gap"]
    if spaced and name in ATTACHED_ONLY:
        return None
    if name in ("M", "B") and match.string[match.end() :].lstrip()[:1].isupper():
        return None  # "221B Baker Street"
    if match["num"] + name in ("4K", "8K"):  # screens
        return None
    to = f" to {plain_number(match['to'])}" if match["to"] else ""
    power = match["power"] and {"²": "square ", "³": "cubic "}[match["power"]]
    words = unit(name, one=match["num"] == "1" and not to)
    return f"{_signed(match)}{to} {power or ''}{words}"


def _signed(match: re.Match[str]) -> str:
    return ("minus " if match["sign"] else "") + plain_number(match["num"])


def _size(match: re.Match[str], before: Sequence[str]) -> str:
    sides = re.split(r" ?[x×] ?", match["sides"])
    word = " times " if "×" in match["sides"] else " by "
    return word.join(plain_number(side) for side in sides)


def _over(match: re.Match[str], before: Sequence[str]) -> str:
    a, b = int(match["a"]), int(match["b"])
    whole = int(match["whole"]) if match["whole"] else 0
    said = fraction(a, b) or f"{cardinal(a)} over {cardinal(b)}"
    if not whole:
        return said
    return f"{cardinal(whole)} and {'a half' if said == 'one half' else said}"


def _ordinal(match: re.Match[str], before: Sequence[str]) -> str:
    return ordinal(int(match["n"].replace(",", "")))


def _decade(match: re.Match[str], before: Sequence[str]) -> str:
    n = int(match["n"])
    said = cardinal(n) if n < 100 else year(n)
    return said[:-1] + "ies" if said.endswith("y") else said + "s"


def _version(match: re.Match[str], before: Sequence[str]) -> str | None:
    groups = match["groups"].split(".")
    if len(groups) == 1 and not match["v"]:
        return None
    word = "version " if match["v"] and "version" not in before[-1:] else ""
    if len(groups) == 4 and not match["v"]:
        return " dot ".join(digits(group) for group in groups)
    if sum(map(len, groups)) >= 10:
        return ", ".join(digits(group) for group in groups)
    return word + " point ".join(cardinal(int(group)) for group in groups)


def _span(match: re.Match[str], before: Sequence[str]) -> str:
    a, b = match["a"], match["b"]
    if len(a) == len(b) == 4 and 1100 <= int(a) <= int(b) < 2100:
        return f"{year(int(a))} to {year(int(b))}"
    small = len(a) <= 2 and len(b) <= 2 and a[0] != "0"
    if small or (int(a) < int(b) and a[0] != "0" and len(b) <= 4):
        return f"{cardinal(int(a))} to {cardinal(int(b))}"
    return f"{digits(a)}, {digits(b)}"


def _digit_groups(match: re.Match[str], before: Sequence[str]) -> str:
    return ", ".join(digits(group) for group in match["groups"].split("-"))


def _ratio(match: re.Match[str], before: Sequence[str]) -> str:
    return f"{cardinal(int(match['a']))} to {cardinal(int(match['b']))}"


_LEADS = {
    "~": "about ", "≈": "about ", "<": "less than ", ">": "more than ", "#": "number ", "≥": "at least ",
    "≤": "at most ", "×": "times ", "±": "plus or minus ", "+": "plus ",
}  # fmt: skip


def _figure(match: re.Match[str], before: Sequence[str]) -> str:
    """A lone figure: a code, a year, or a number."""
    text, plus = match["num"], " plus" if match["plus"] else ""
    lead = _LEADS.get(match["lead"] or "", "")
    if text.isdigit() and not match["sign"]:
        coded = any(word in CODE_WORDS for word in before[-3:]) or lead == "number "
        return lead + _integer(text, coded=coded) + plus
    return lead + _signed(match) + plus


def _integer(text: str, *, coded: bool) -> str:
    size = len(text)
    if text == "911":
        return digits(text)
    if size > 1 and text[0] == "0":
        return grouped_digits(text)
    round_number = text.endswith("000") and not coded
    if (size >= 5 or (coded and size >= 3)) and not round_number:
        return grouped_digits(text)
    if size == 4 and 1100 <= int(text) < 2100:
        return year(int(text))
    return cardinal(int(text))


def digits_of_code(text: str) -> str:
    """Figures within a name or a code, as "747" in "B747": short ones as numbers, long ones by digit."""
    return cardinal(int(text)) if len(text) <= 2 and text[0] != "0" else digits(text)


_SIGN = r"(?P<sign>[-−–])?"
_UNIT_SIGNS = frozenset("".join(UNITS))
QUANTITIES: tuple[tuple[re.Pattern[str], Say, frozenset[str] | None], ...] = (
    (
        re.compile(
            rf"{_SIGN}(?P<symbol>{_SYMBOL}) ?(?P<amount>{_NUM})(?:{_TO}(?:{_SYMBOL})?(?P<to>{_NUM}))?{_SCALE}"
            r"(?P<after>)(?: USD)?(?:/(?P<per>[a-z]{1,10}))?"
        ),
        _money,
        frozenset("$€£¥₹"),
    ),
    (
        re.compile(
            rf"{_SIGN}(?P<amount>{_NUM})(?:{_TO}(?P<to>{_NUM}))?{_SCALE} ?"
            r"(?P<after>[$€£₹]|USD|EUR|GBP)(?P<symbol>)(?:/(?P<per>[a-z]{1,10}))?"
        ),
        _money,
        frozenset("$€£₹UEG"),
    ),
    (re.compile(rf"{_SIGN}(?P<num>{_NUM})(?:%?{_TO}(?P<to>{_NUM}))? ?%"), _percent, frozenset("%")),
    (re.compile(r"['’]?(?P<n>[1-9]0|1[0-9][0-9]0|20[0-9]0)['’]?s"), _decade, frozenset("s")),
    (re.compile(r"(?P<sides>[0-9]{1,5}(?: ?[x×] ?[0-9]{1,5}){1,2})"), _size, frozenset("x×")),
    (
        re.compile(
            rf"{_SIGN}(?P<num>{_NUM})(?:{_TO}(?P<to>{_NUM}))?(?P<gap>[ -]?)"
            rf"(?P<unit>{_NAMES})(?P<power>[²³])?(?![A-Za-z])"
        ),
        _measure,
        _UNIT_SIGNS,
    ),
    (re.compile(r"(?:(?P<whole>[0-9]{1,4}) )?(?P<a>[0-9]{1,4})/(?P<b>[0-9]{1,4})"), _over, frozenset("/")),
    (
        re.compile(r"(?P<n>[0-9]{1,3}(?:,?[0-9]{3}){0,2})(?:st|nd|rd|th|ST|ND|RD|TH)"),
        _ordinal,
        frozenset("hdtHDT"),
    ),
    (re.compile(r"(?P<v>[vV]\.? ?)?(?P<groups>[0-9]{1,5}(?:\.[0-9]{1,5}){2,4})"), _version, frozenset(".")),
    (re.compile(r"(?P<v>[vV])(?P<groups>[0-9]{1,3}(?:\.[0-9]{1,3})?)"), _version, frozenset("vV")),
    (re.compile(r"(?P<a>[0-9]{1,8}) ?[-–—] ?(?P<b>[0-9]{1,8})"), _span, frozenset("-–—")),
    (re.compile(r"(?P<groups>[0-9]{1,6}(?:-[0-9]{1,6}){2,5})"), _digit_groups, frozenset("-")),
    (re.compile(r"(?P<a>[0-9]{1,4}):(?P<b>[0-9]{1,4})"), _ratio, frozenset(":")),
    (re.compile(rf"(?P<lead>[~≈<>≤≥#×±+])? ?{_SIGN}(?P<num>{_NUM})(?P<plus>\+)?"), _figure, None),
)
"""In the order in which they are tried, each with the signs of which a text must have one."""
