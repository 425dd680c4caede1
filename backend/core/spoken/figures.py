"""Figures in words: cardinals, ordinals, years, decimals, digit by digit. Any language CLDR can spell.

English is put together from groups of three, so that a text full of figures takes no time.
"""

from __future__ import annotations

from functools import lru_cache

from unicode_rbnf import FormatPurpose, RbnfEngine
from unicode_rbnf.engine import RulesetNotFoundError

_SCALES = ("", " thousand", " million", " billion", " trillion", " quadrillion")
MOST_DIGITS = 15  # longer figures are read digit by digit
_DECIMAL_WORD = {
    "da": "komma", "de": "Komma", "es": "coma", "fi": "pilkku", "fr": "virgule", "hi": "दशमलव", "id": "koma",
    "it": "virgola", "nb": "komma", "nl": "komma", "no": "komma", "pl": "przecinek", "pt": "vírgula",
    "ro": "virgulă", "sv": "komma", "tr": "virgül", "uk": "кома", "vi": "phẩy",
}  # fmt: skip


@lru_cache(maxsize=16)
def _engine(language: str) -> RbnfEngine | None:
    try:
        return RbnfEngine.for_language(language)
    except ValueError:
        return None


def can_spell(language: str) -> bool:
    """Whether figures can be put in words of this language ("de", not "de-AT")."""
    return _engine(language) is not None


@lru_cache(maxsize=4096)
def _spelled(number: int, language: str) -> str:
    engine = _engine(language)
    assert engine is not None
    try:
        text = engine.format_number(number, ruleset_names=["spellout-numbering"]).text
    except RulesetNotFoundError:
        text = engine.format_number(number, FormatPurpose.CARDINAL).text
    return text.replace("\u00ad", "").replace("\u200b", "")


def cardinal(number: int, language: str = "en") -> str:
    """ "one thousand two hundred"; `language` must be one that `can_spell`."""
    if language != "en":
        return _spelled(number, language)
    if number < 1000:
        return _spelled(number, "en")
    groups: list[str] = []
    for scale in _SCALES:
        number, group = divmod(number, 1000)
        if group:
            groups.append(_spelled(group, "en") + scale)
    return " ".join(reversed(groups))


@lru_cache(maxsize=512)
def ordinal(number: int) -> str:
    """English: "twenty-first"."""
    head, tail = divmod(number, 100)
    engine = _engine("en")
    assert engine is not None
    if not tail and head:
        return cardinal(number) + "th"
    word = engine.format_number(tail, FormatPurpose.ORDINAL).text
    return f"{cardinal(head * 100)} {word}" if head else word


def year(number: int) -> str:
    """English, 1000 to 2999: "nineteen eighty-five", "two thousand six", "nineteen oh six"."""
    century, rest = divmod(number, 100)
    if century % 10 == 0 and rest < 10:
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def digits(text: str, language: str = "en") -> str:
    """Each digit of a text, the rest left out: "four eight two"."""
    return " ".join(_spelled(int(char), language) for char in text if char.isdecimal())


def grouped_digits(text: str) -> str:
    """Digit by digit with a pause after each group of three or four: how people read a code aloud."""
    only = "".join(char for char in text if char.isdecimal())
    sizes = {4: (4,), 5: (5,), 7: (3, 4), 8: (4, 4), 10: (3, 3, 4), 11: (1, 3, 3, 4), 12: (4, 4, 4)}.get(
        len(only)
    )
    groups, at = [], 0
    for size in sizes or (3,) * (len(only) // 3 + 1):
        groups.append(digits(only[at : at + size]))
        at += size
    return ", ".join(filter(None, groups))


def decimal(text: str, language: str = "en") -> str | None:
    """A figure with a "." for its decimals, no separators, perhaps a sign; None when it cannot be said."""
    sign, unsigned = ("minus ", text[1:]) if text[:1] in "-−" else ("", text)
    whole, _, fraction = unsigned.partition(".")
    if sign and language != "en":
        return None
    if len(whole) > MOST_DIGITS:
        said = digits(whole, language)
    else:
        said = cardinal(int(whole), language) if whole else ""
    if fraction:
        point = "point" if language == "en" else _DECIMAL_WORD.get(language)
        if point is None:
            return None
        said = f"{said} {point} {digits(fraction, language)}".strip()
    return sign + said


def plain_number(text: str) -> str:
    """English: "-1,250.5" → "minus one thousand two hundred fifty point five"."""
    return decimal(text.replace(",", "")) or ""
