"""English dates and times of day in words. Patterns match at the start of a line of a few tokens."""

from __future__ import annotations

import re

from backend.core.spoken.figures import cardinal, ordinal, year
from backend.core.spoken.lexicon import MONTHS

_MONTH = (
    r"(?P<month>Jan(?:uary|\.)?|Feb(?:ruary|\.)?|Mar(?:ch|\.)?|Apr(?:il|\.)?|May|Jun(?:e|\.)?|Jul(?:y|\.)?|"
    r"Aug(?:ust|\.)?|Sept?(?:ember|\.)?|Oct(?:ober|\.)?|Nov(?:ember|\.)?|Dec(?:ember|\.)?)"
)
_DAY = r"(?P<day>[0-3]?[0-9])(?:st|nd|rd|th)?(?:[-–](?P<to>[0-3]?[0-9])(?:st|nd|rd|th)?)?"
_YEAR = r"(?:,? (?P<year>[12][0-9]{3}))?"
_CLOCK = r"(?:[01]?[0-9]|2[0-4])"
_HALF = r"(?: ?(?:[aApP]\.[mM]\b\.?|[aApP][mM]\b))"
_TIME = rf"{_CLOCK}:[0-5][0-9](?::[0-5][0-9])?{_HALF}?|{_CLOCK}{_HALF}"

MONTH_DAY = re.compile(rf"{_MONTH} {_DAY}{_YEAR}")
MONTH_YEAR = re.compile(rf"{_MONTH},? (?P<year>[12][0-9]{{3}})")
DAY_MONTH = re.compile(rf"{_DAY}(?: of)? {_MONTH}{_YEAR}")
ISO = re.compile(
    r"(?P<year>[12][0-9]{3})-(?P<m>[01][0-9])-(?P<day>[0-3][0-9])"
    r"(?:T(?P<time>[0-2][0-9]:[0-5][0-9])(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
SLASHED = re.compile(r"(?P<a>[0-3]?[0-9])/(?P<b>[0-3]?[0-9])(?:/(?P<year>[12][0-9]{3}|[0-9]{2}))?")
TIMES = re.compile(rf"(?P<from>{_TIME}|{_CLOCK}) ?[-–] ?(?P<to>{_TIME})|(?P<at>{_TIME})")
_TIME_PARTS = re.compile(r"([0-9]{1,2})(?::([0-9]{2}))?(?::([0-9]{2}))? ?(?:([aApP])\.?[mM])?")
_FRACTIONS = {2: "half", 3: "third", 4: "quarter", 5: "fifth", 8: "eighth", 10: "tenth"}


def month_day(match: re.Match[str]) -> str | None:
    """ "Nov 21, 2026", "Nov 21–23" """
    day, to = int(match["day"]), match["to"]
    if not 1 <= day <= 31:
        return None
    said = f"{_month(match['month'])} {ordinal(day)}"
    return said + (f" to {ordinal(int(to))}" if to else "") + _in_year(match["year"])


def month_year(match: re.Match[str]) -> str:
    """ "Nov 2026" """
    return f"{_month(match['month'])} {year(int(match['year']))}"


def day_month(match: re.Match[str]) -> str | None:
    """ "21st of November", "21 Nov 2026" """
    day, to = int(match["day"]), match["to"]
    if not 1 <= day <= 31:
        return None
    days = ordinal(day) + (f" to {ordinal(int(to))}" if to else "")
    return f"{days} of {_month(match['month'])}{_in_year(match['year'])}"


def iso(match: re.Match[str]) -> str | None:
    """ "2026-11-21", with or without a time"""
    said = _date(int(match["m"]), int(match["day"]), match["year"])
    return f"{said}, {time_of_day(match['time'])}" if said and match["time"] else said


def slashed(match: re.Match[str], *, day_first: bool) -> str | None:
    """ "11/21", "11/21/2026", in the order of the country; "3/4" is three quarters."""
    a, b = int(match["a"]), int(match["b"])
    if not match["year"] and (said := fraction(a, b)):
        return said
    months, days = (b, a) if day_first else (a, b)
    if months > 12:
        months, days = days, months
    return _date(months, days, match["year"])


def fraction(a: int, b: int) -> str | None:
    """ "three quarters", when the figures are those of a usual fraction."""
    if not (0 < a < b and b in _FRACTIONS) or (b, a) == (10, 2):
        return None
    if b == 2:
        return "one half"
    return f"{cardinal(a)} {_FRACTIONS[b]}{'s' if a > 1 else ''}"


def times(match: re.Match[str]) -> str:
    """ "10:30 am", "9–5pm" """
    if match["at"]:
        return time_of_day(match["at"])
    return f"{time_of_day(match['from'])} to {time_of_day(match['to'])}"


def time_of_day(text: str) -> str:
    """ "ten thirty a m", "fourteen oh five", "nine" """
    match = _TIME_PARTS.match(text)
    if not match:
        return text
    hour, minute, second, half = match.groups()
    said = cardinal(int(hour))
    if minute and (minute != "00" or second):
        said += f" {'oh ' if '00' < minute < '10' else ''}{cardinal(int(minute))}"
    elif minute and not half:
        said += " o'clock" if 0 < int(hour) <= 12 else " hundred"
    if second:
        said += f" and {cardinal(int(second))} seconds"
    return f"{said} {half.upper()} M" if half else said


def _date(month: int, day: int, in_year: str | None) -> str | None:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    return f"{MONTHS[month - 1]} {ordinal(day)}{_in_year(in_year)}"


def _in_year(text: str | None) -> str:
    if not text:
        return ""
    return f", {year(int(text) if len(text) == 4 else 2000 + int(text))}"


def _month(name: str) -> str:
    return next(month for month in MONTHS if month.startswith(name[:3]))
