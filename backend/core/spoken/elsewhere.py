"""Languages other than English: plain figures in words where CLDR knows how; all else is left to the voice.

A figure that stands with others, a unit or a currency is left as it is: half of it in words would be worse.
"""

from __future__ import annotations

import re

from backend.core.spoken.figures import can_spell, cardinal, decimal, digits

_EDGES = re.compile(r"(?P<open>[\"'“‘«(¿¡„]*)(?P<core>[^\s]*?)(?P<close>[.,!?;:…)\"”’'»،؛؟।。！？、，]*)\Z")
_WHOLE = re.compile(r"-?\d{1,15}\Z")
_LONG = re.compile(r"\+?\d[\d-]{4,20}\Z")
_POINT = re.compile(r"(?P<whole>\d{1,3}(?:[.’]\d{3})+|\d{1,12}),(?P<part>\d{1,6})\Z")
_THOUSANDS = re.compile(r"\d{1,3}(?:\.\d{3})+\Z")
_ANY_FIGURE = re.compile(r"\d")
_UNSAYABLE = re.compile(r"[{}^=|<>~\\`*\[\]#_]+")
_LEFT_ALONE = frozenset("— – - % & + = / € $ £ ¥ ₹ ° °C".split())
_COMMA_DECIMALS = frozenset("da de es fi fr id it nb nl no pl pt ro sv tr uk vi".split())


def say(token: str, previous: str, following: str, language: str) -> str:
    """A token in words; `language` is the bare code ("de"), the neighbours are those of its line or ""."""
    if not any(char.isalnum() for char in token):
        return token if token.strip(".,!?;:") in _LEFT_ALONE else ""
    if not _ANY_FIGURE.search(token):
        return (
            " ".join(_UNSAYABLE.sub(" ", token).split()) if "@" not in token and "/" not in token else token
        )
    edges = _EDGES.match(token)
    if edges is None or not can_spell(language):
        return token
    opened, core, closed = edges.groups()
    alone = not (_ANY_FIGURE.search(previous) or _ANY_FIGURE.search(following) or _symbol(following))
    said = _figure(core, language) if alone else None
    return token if said is None else f"{opened}{said}{closed}"


def _symbol(token: str) -> bool:
    return token[:1] in ("%", "€", "$", "£", "°", "¥", "₹")


def _figure(core: str, language: str) -> str | None:
    if _WHOLE.match(core) and len(core) < 5 and not (len(core) > 1 and core[0] == "0"):
        return decimal(core, language) if core[0] == "-" else cardinal(int(core), language)
    if _LONG.match(core):
        return digits(core, language) if core[0] != "-" else None
    if language in _COMMA_DECIMALS:
        if _THOUSANDS.match(core):
            return cardinal(int(core.replace(".", "")), language)
        if match := _POINT.match(core):
            return decimal(f"{re.sub(r'[.’]', '', match['whole'])}.{match['part']}", language)
    return None
