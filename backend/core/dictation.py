"""A number or an address given in parts, over several turns, with slips put right on the way. Pure.

Knows English. Refuses to know about flows: whether a number is complete it is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from backend.core.answers import AnswerType, parse_answer
from backend.core.matching import KeyMatch, dictated_figures, words
from backend.core.spelling import plain_letters, spelled

MAX_PARTS = 12  # turns that one value may take
_MAX_TEXT = 200
_SLIP = re.compile(
    r"\b(?:no|nope|sorry|i mean|i meant|rather|correction|scratch that|make that|oops|my mistake"
    r"|excuse me)\b",
    re.IGNORECASE,
)
_ANEW = re.compile(
    r"\b(?:(?:start|begin|try|do (?:it|that))(?:ing)? (?:all )?(?:over|again|anew|afresh)"
    r"|from the (?:start|top|beginning))\b",
    re.IGNORECASE,
)
_FRONT = re.compile(r"\b(?:first|begins?|starts?|area code)\b", re.IGNORECASE)
_COUNTED = re.compile(
    r"\b(first|last|next) (?:one|two|three|four|five|six|\d)(?: (?:digits|figures|numbers|ones))?"
    r"(?= (?:are|is|should|were|was)\b)",
    re.IGNORECASE,
)
_EXTENSION = re.compile(r"\b(?:extension|ext)\b\.?", re.IGNORECASE)
_PLUS = re.compile(r"(?:\bplus\b|\+)", re.IGNORECASE)
# Words beside figures that tell of nothing else.
_BESIDE = frozenset(
    "my number is phone telephone cell mobile the a its it thats that this on at and please thanks thank "
    "you i im yes no well um uh er oh o so sure okay ok sorry said dot dash star pound plus minus double "
    "triple hundred thousand extension ext area code country first last next then followed by digits "
    "figures numbers are were should be ends end begins starts in with not reach me call hello hi now "
    "again yeah right let see".split()
)
_FILLERS = frozenset(
    "um uh er hmm hm mm mhm okay ok so and then well let me see look yeah yes right the next is it its "
    "please just almost there more to go wait no sorry".split()
)
_NO_ADDRESS = frozenset(
    "i im ive you your have havent dont do does what why how who when where can cannot cant will is not no "
    "none nothing never want need please hello thanks".split()
)
_JOINTS = frozenset("at dot underscore dash hyphen".split())
_LEAD_IN = re.compile(
    r"^(?:(?:yes|yeah|sure|okay|ok|um|uh|so|well|and|then)\b[\s,.]*)*"
    r"(?:(?:(?:my|the) (?:e-?mail|address|e-?mail address)(?: is|'s)?|it's|it is|that's|that is)\b[\s,:]*)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Parts:
    """What there is so far. `text`: figures (of a telephone number also "+", and "x" for an extension),
    letters, or the words of an address."""

    text: str = ""
    last: int = 0  # characters the last part added
    turns: int = 0
    wrong: bool = False  # the caller called the last part wrong: the next one stands in its place
    prompted: bool = False  # the caller was asked to go on


NOTHING = Parts()


def gathers(kind: AnswerType) -> bool:
    """Whether such a value may come in parts."""
    return kind in ("digits", "phone", "email", "name")


def add(
    kind: AnswerType, parts: Parts, said: str, how_far: Callable[[str], KeyMatch]
) -> tuple[Parts, KeyMatch] | None:
    """The parts with what was just said, and how far that goes; None: these words are no part of it.

    `how_far`: whether a text is the start of such a value (PARTIAL), one that may go on (FULL_SO_FAR), a
    whole one (FULL), or none.
    """
    if parts.turns >= MAX_PARTS:
        return None
    if kind in ("digits", "phone"):
        return _add_figures(kind, parts, said, how_far)
    if kind == "email":
        return _add_address(parts, said, how_far)
    return _add_letters(parts, said) if kind == "name" else None


def is_filler(said: str) -> bool:
    """Whether the words only fill the time until the next part."""
    return all(word in _FILLERS for word in words(said))


def is_dictation(said: str) -> bool:
    """Whether it is figures, with no story around them."""
    plain = _ANEW.sub(" ", _SLIP.sub(" ", said))
    others = [word for word in words(plain) if not word.isdecimal() and word not in _BESIDE]
    return "?" not in plain and len(others) <= (1 if dictated_figures(plain) else 0)


def phone_so_far(text: str) -> KeyMatch:
    """How far figures make a telephone number, its extension ("x12") included."""
    found = re.fullmatch(r"(\+?)(\d*)(x?)(\d*)", text)
    if found is None:
        return KeyMatch.NO
    plus, figures, x, extension = found.groups()
    count = len(figures)
    if x:
        if count < 7 or len(extension) > 6:
            return KeyMatch.NO
        return KeyMatch.FULL_SO_FAR if extension else KeyMatch.PARTIAL
    least, whole, most = 7, 15, 15
    if plus and figures.startswith("1"):
        least, whole, most = 11, 11, 11  # North America
    elif not plus and figures.startswith("1"):
        whole = 11
    elif not plus and not figures.startswith("0"):
        whole = 10
    if count > most:
        return KeyMatch.NO
    if count < least:
        return KeyMatch.PARTIAL
    return KeyMatch.FULL if count >= whole else KeyMatch.FULL_SO_FAR


def mended(text: str, said: str, last: int = 0) -> str | None:
    """The figures with those just said in place of the ones they correct; None: no figures were said.

    "seven, not five" changes that figure; "the first three are …" the front; else the end is replaced: the
    last part as a whole where it was no longer.
    """
    right, _, wrong = _COUNTED.sub(r"\1 ", said).partition(" not ")
    figures, instead_of = dictated_figures(right), dictated_figures(wrong)
    if not figures:
        return None
    if instead_of and instead_of in text:
        at = text.rindex(instead_of)
        return text[:at] + figures + text[at + len(instead_of) :]
    plus = "+" if text.startswith("+") else ""
    body = text.removeprefix("+")
    if len(figures) > len(body):
        return plus + figures
    if _FRONT.search(said):
        return plus + figures + body[len(figures) :]
    kept = len(body) - (len(figures) if not last or len(figures) <= last else last)
    return plus + body[:kept] + figures


# --- figures -------------------------------------------------------------------------------------------


def _add_figures(
    kind: AnswerType, parts: Parts, said: str, how_far: Callable[[str], KeyMatch]
) -> tuple[Parts, KeyMatch] | None:
    if not is_dictation(said):
        return None
    text, last = parts.text, parts.last
    if begins := list(_ANEW.finditer(said)):
        text, last, said = "", 0, said[begins[-1].end() :]
    correcting, alone = parts.wrong and bool(text), ""
    for number, segment in enumerate(_SLIP.split(said)):
        correcting = bool(text) and (correcting or number > 0)
        given = _figures_of(kind, segment, inside=bool(text) and not correcting)
        if not given:
            continue
        text = _mended_on(text, segment, last) if correcting or " not " in segment else text + given
        last, alone, correcting = len(given), given, False
    if text == parts.text and not (correcting or begins):
        return None
    far = how_far(text)
    if alone != text and how_far(alone) in (KeyMatch.FULL, KeyMatch.FULL_SO_FAR):
        # The number from its start again, rather than more of it.
        if far is KeyMatch.NO or (_SLIP.search(said) is not None and parts.text):
            text, last, far = alone, len(alone), how_far(alone)
    elif far is KeyMatch.NO and alone and how_far(alone) is KeyMatch.PARTIAL and alone != text:
        text, last, far = alone, len(alone), KeyMatch.PARTIAL
    return Parts(text, last, parts.turns + 1, wrong=correcting), far


def _mended_on(text: str, said: str, last: int) -> str:
    """The figures mended; what is more than the correction goes on from there: "no, one three, four five"."""
    first, *rest = said.strip(" ,.").split(",")
    if rest and len(dictated_figures(said)) > last >= len(dictated_figures(first)) > 0:
        return (mended(text, first, last) or text) + dictated_figures(" ".join(rest))
    better = mended(text, said, last)
    return text + dictated_figures(said) if better is None else better


def _figures_of(kind: AnswerType, segment: str, *, inside: bool) -> str:
    if kind != "phone":
        return dictated_figures(segment, inside=inside)
    main, *extensions = _EXTENSION.split(segment, maxsplit=1)
    plus = "+" if not inside and _PLUS.search(main) else ""
    figures = plus + re.sub(r"\D", "", dictated_figures(main, inside=inside))
    return figures + "".join("x" + re.sub(r"\D", "", dictated_figures(item)) for item in extensions)


# --- letters and words -----------------------------------------------------------------------------------


def _add_letters(parts: Parts, said: str) -> tuple[Parts, KeyMatch] | None:
    """Letters of a name; words after them are the rest of it."""
    letters = spelled(said, least=1 if parts.text else 2)
    if not letters and (not parts.text or parse_answer("name", said, date.min) is None):
        return None
    added = " ".join(letters) if letters else said
    text = f"{parts.text} {added}".strip()[:_MAX_TEXT]
    return Parts(text, len(added), parts.turns + 1), KeyMatch.FULL_SO_FAR


def _add_address(
    parts: Parts, said: str, how_far: Callable[[str], KeyMatch]
) -> tuple[Parts, KeyMatch] | None:
    text = parts.text
    if _ANEW.search(said):
        text, said = "", _ANEW.sub(" ", said)
    elif text and _SLIP.match(said):
        said = _SLIP.sub(" ", said).strip(" ,.")
        joint = re.match(r"(?:at|dot)\b", said, re.IGNORECASE)
        at = f" {text} ".casefold().rfind(f" {joint.group().casefold()} ") if joint else -1
        text = text[: at if at >= 0 else len(text) - parts.last].strip()
    said = plain_letters(_LEAD_IN.sub("", " ".join(said.split())).strip(" ,."))
    heard = re.findall(r"[\w'@.+-]+", said.casefold().replace("'", ""))
    likely = _JOINTS.intersection(heard) or "@" in said or spelled(said) or (text and len(heard) <= 6)
    if not heard or not likely or len(heard) > 30 or (_NO_ADDRESS.intersection(heard) and "@" not in said):
        return None
    text = f"{text} {said}".strip()[:_MAX_TEXT]
    return Parts(text, len(said), parts.turns + 1), how_far(text)
