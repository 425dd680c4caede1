"""A caller's answer → the value that was asked for: a date, a telephone number, an option, yes or no.

Deterministic, for English; a value is the same however it was said. Refuses to know about flows and models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Literal

from backend.core.choices import Option, beside, chosen
from backend.core.matching import spoken_keys, tidy, words
from backend.core.spelling import plain_letters, words_of_letters
from backend.core.templates import spell_digits

AnswerType = Literal["text", "digits", "name", "date", "phone", "number", "email", "yes_no", "choice"]

_YES = frozenset(
    "yes yeah yep yup yah sure ok okay correct right absolutely definitely exactly indeed".split()
)
_NO = frozenset("no nope nah not wrong incorrect never dont isnt wasnt".split())
_MONTHS = {
    name: number
    for number, names in enumerate(
        "january jan|february feb|march mar|april apr|may|june jun|july jul|august aug|"
        "september sept sep|october oct|november nov|december dec".split("|"),
        start=1,
    )
    for name in names.split()
}
_MONTH_NAMES = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
_ORDINALS = {
    word: number
    for number, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
        "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth".split(),
        start=1,
    )
} | {"thirtieth": 30}
_LEAD_IN = re.compile(
    r"^(?:(?:no|nope|sorry|well|um|uh|er|oh|so|yes|yeah|hi|hello|sure|okay|ok|actually|wait)\b[\s,.!-]*)*"
    r"(?:(?:i said|it's|its|it is|that's|that is|this is|my name is|my name's|the name is|the name's|name's|"
    r"i'm|i am|we're|we are|(?:just )?call me|make it|it should be)\b[\s,:]*)?",
    re.IGNORECASE,
)
_PUTS_RIGHT = re.compile(
    r"(?:no|sorry|actually|wait|i mean|i meant|rather|make (?:it|that)|oops)\b", re.IGNORECASE
)
_NOT = re.compile(r"(?:no\b[\s,.]*)?(?:it's |it is |that's )?(.*?\w)[\s,.]+not (.+)", re.IGNORECASE)
_POLITE_END = re.compile(r"[\s,.!]*\b(?:please|thanks|thank you)[\s.!]*$", re.IGNORECASE)
_EXTENSION = re.compile(r"\b(?:extension|ext)\b\.?|(?<=\d)\s?x(?=\s?\d)", re.IGNORECASE)
_EMAIL = re.compile(r"[a-z0-9][a-z0-9._%+-]*@[a-z0-9][a-z0-9-]*(?:\.[a-z0-9-]+)*\.[a-z]{2,}")
_MOST = {"name": 80, "email": 120}
# Asked back instead of a name: "What was that?", "Why do you need it?", "Say that again, please."; or told
# instead of one: "I'd rather not say.", "I'm calling about my order."
_NO_NAME = re.compile(
    r"(?:(?:sorry|excuse me|well|but|wait|oh|um|uh|no|yes|hi|hello|actually)[\s,.]+)*(?:"
    r"(?:what|why|who|how|where|when|which|can|could|would|do|does|did|are|is)(?:'s)?\s"
    r"(?:you|i|we|that|this|it|is|was|were|are|do|does|did|should|would|about|for)\b.*"
    r"|what|why|who|huh|whatever|pardon(?: me)?|excuse me|come again|(?:say|repeat) (?:that|it|this)\b.*"
    r"|(?:i )?(?:do not|don't) \w.*"
    r"|(?:(?:i|we)(?:'d|'ll|'ve| would| will| want| wanted| need| have| had| think| thought| was| were| just"
    r"| can't| cannot| prefer)|not|rather not|none of|(?:it's|that's) (?:private|personal|a secret|none of)"
    r"|(?:i'm|i am|we're|we are) (?:not|just|only|here|afraid|calling|looking|trying|going|having)"
    r")\b.*)[\s?.!]*",
    re.IGNORECASE,
)
# Not heard, rather than answered: "Sorry?", "What was that?", "Could you say that again?".
_ASKS_AGAIN = re.compile(
    r"(?:(?:oh|um|uh|er|wait|well|no)[\s,.]+)*(?:"
    r"sorry|pardon(?: me)?|excuse me|what|huh|come again|(?:i'm |i am )?sorry,? what(?: was that)?"
    r"|(?:sorry,? )?what (?:was (?:that|the question|it)|did you (?:say|ask)|do you mean)"
    r"|(?:sorry,? )?(?:(?:can|could|would) you (?:please )?|please )?(?:say|repeat)"
    r"(?: that| it| the question)?(?: again| once more| one more time)?(?: for me)?"
    r"|(?:sorry,? )?(?:i )?(?:did not|didn't|do not|don't|could not|couldn't) "
    r"(?:hear|catch|understand|get)(?: you| that| it)?"
    r")(?:[\s,.]+please)?[\s?.!]*",
    re.IGNORECASE,
)
# Words beside a value that say nothing of their own: with only such, an answer is nothing but the answer.
_BESIDE = frozenset(
    "its it is that thats my number phone date email address the a on of at and please thanks thank you i im "
    "am yes no well um uh er oh so sure okay ok sorry actually said would like want want to be for make in "
    "under dot star pound minus double triple next this coming day days people persons guests".split()
)


def parse_answer(kind: AnswerType, said: str, today: date, options: Sequence[Option] = ()) -> str | None:
    """The value in what was said or typed; None when there is none of that kind.

    `digits`: figures; `phone`: figures, "+" kept, an extension as "x12"; `number`: "3", "-2.5"; `date`:
    ISO 8601, a day without a year is the next one from `today` on; `email`: lower case; `yes_no`: "yes" or
    "no"; `choice`: the value of one of the `options`; `name` and `text`: the words.
    """
    match kind:
        case "text":
            return None if _ASKS_AGAIN.fullmatch(tidy(said)) else tidy(said) or None
        case "name":
            return _name(said)
        case "digits":
            return "".join(spoken_keys(said)) or None
        case "phone":
            return _phone(said)
        case "number":
            return _number(said)
        case "date":
            return _date(said, today)
        case "email":
            return _email(said)
        case "yes_no":
            return yes_or_no(said)
        case "choice":
            return chosen(options, said)


def is_bare(kind: AnswerType, said: str, options: Sequence[Option] = ()) -> bool:
    """Whether the words are little more than such an answer: no question, no story around it."""
    if kind in ("text", "name") or "?" in said:
        return False
    if kind == "email":
        return len(words(said)) <= 14
    meant = _YES | _NO | _BESIDE | _MONTHS.keys() | set(_WEEKDAYS) | _ORDINALS.keys() | beside(options)
    others = [word for word in words(said) if not word[0].isdecimal() and word not in meant]
    return len([word for word in others if word not in ("today", "tomorrow", "th", "st", "nd", "rd")]) <= 1


def say_back(kind: AnswerType, value: str) -> str:
    """The value as it is read back to the caller."""
    if kind in ("digits", "phone"):
        return spell_digits(value)
    if kind == "date":
        try:
            day = date.fromisoformat(value)
        except ValueError:
            return value
        return f"{_WEEKDAYS[day.weekday()].capitalize()}, {_MONTH_NAMES[day.month - 1]} {day.day}, {day.year}"
    return value


def yes_or_no(said: str) -> str | None:
    """ "yes", "no", or None for neither: "Yeah, that's right.", "No, it isn't." """
    heard = words(said)
    if heard[:2] == ("no", "problem"):
        heard = heard[2:] or ("yes",)
    if any(word in _NO for word in heard):
        return "no"
    return "yes" if any(word in _YES for word in heard) else None


def is_correction(said: str) -> bool:
    """Whether the words begin as those do which put something right: "No, on Friday.", "Actually, two."."""
    return _PUTS_RIGHT.match(tidy(said)) is not None


def correction(
    kind: AnswerType, said: str, today: date, was: str = "", options: Sequence[Option] = ()
) -> str | None:
    """The value that stands in for one read back wrongly, `was`: "No, it's Anna." → "Anna"; "four, not five"
    mends that figure, where it stands in `was` once."""
    if kind in ("digits", "phone", "number") and (halves := _NOT.fullmatch(tidy(said))):
        right, wrong = ("".join(spoken_keys(half)) for half in halves.groups())
        if kind != "number" and right and wrong and len(wrong) < len(was.lstrip("+")):
            return was.replace(wrong, right) if was.count(wrong) == 1 else None
        said = halves.group(1)
    rest = _LEAD_IN.sub("", tidy(said)).strip(" ,.")
    if not rest or kind == "yes_no":
        return None
    if kind in ("text", "name"):
        heard = words(rest)
        # "That's not right" names nothing.
        named = not (_NO | _YES).intersection(heard) and len(heard) <= 6
        return parse_answer(kind, rest, today) if named else None
    return parse_answer(kind, rest, today, options)


def _name(said: str) -> str | None:
    if _NO_NAME.fullmatch(tidy(said)):
        return None
    name = words_of_letters(_POLITE_END.sub("", _LEAD_IN.sub("", tidy(said))).strip(" ,."))
    letters = sum(char.isalpha() for char in name)
    return name if letters >= 2 and len(name) <= _MOST["name"] and len(name.split()) <= 6 else None


def _phone(said: str) -> str | None:
    plus = "+" if re.search(r"\+\s?\d", said) or re.search(r"\bplus\b", said, re.IGNORECASE) else ""
    main, *extensions = _EXTENSION.split(said, maxsplit=1)
    figures = _figures_of_phone(main)
    extension = "".join(_figures_of_phone(item) for item in extensions)[:6]
    number = plus + figures + ("x" + extension if extension else "")
    return number if 7 <= len(figures) <= 15 else None


def _figures_of_phone(said: str) -> str:
    text = re.sub(r"\bplus\b|\+", " ", said, flags=re.IGNORECASE)
    return re.sub(r"\D", "", "".join(spoken_keys(re.sub(r"(?<=\d)[\s().-]+(?=\d)", "", text))))


_SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000}


def _number(said: str) -> str | None:
    plain = tidy(said).casefold()
    plain = re.sub(r"(?<=\d),(?=\d{3}\b)", "", plain)
    plain = re.sub(r"\b\d{1,2}(?::\d\d)? ?(?:am|pm|o'clock)\b", " ", plain)  # an hour beside it
    if _tells_several(words(plain)):
        return None  # "Two adults and three kids.", "five or six"
    if found := re.search(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.]*\d)", plain):
        following = words(plain[found.end() :])[:1]
        scale = _SCALES.get(following[0], 1) if following else 1
        value = float(found.group()) * scale
        return str(int(value)) if value.is_integer() else str(value)
    whole, _, decimals = plain.partition(" point ")
    fraction = "".join(word for word in words(decimals)[:4] if word.isdecimal())
    counted = _counted(words(whole))
    return f"{counted}.{fraction}" if counted is not None and fraction else counted


_BETWEEN_PARTS = frozenset(("and", "point")) | _SCALES.keys()


def _tells_several(heard: Sequence[str]) -> bool:
    """Whether there are several numbers, none of them the one that is meant: "three, no, four" is four."""
    numbers, inside = 0, False
    for at, word in enumerate(heard):
        if word.isdecimal():
            if heard[at + 1 : at + 2] in (("th",), ("st",), ("nd",), ("rd",)):
                continue
            numbers += not inside
            inside = True
        elif not (inside and word in _BETWEEN_PARTS):
            inside = False
    return numbers > 1


def _counted(heard: tuple[str, ...]) -> str | None:
    """ "2 thousand and 6", as `words` gives it → "2006"."""
    total: int | None = None
    part = 0
    negative = False
    for word in heard:
        if word.isdecimal():
            total, part = total or 0, part + int(word)
        elif word in _SCALES and total is not None:
            part = max(part, 1) * _SCALES[word]
            if _SCALES[word] >= 1000:
                total, part = total + part, 0
        elif word in ("minus", "negative") and total is None:
            negative = True
        elif total is not None and word != "and":
            break
    if total is None:
        return None
    return str(-(total + part) if negative else total + part)


def _email(said: str) -> str | None:
    text = plain_letters(tidy(said).casefold())
    text = re.sub(r"\s+(?:at|@)\s+(?!at\b)", "@", text, count=1)
    text = re.sub(r"\s+(?:dot|period|point)\s+", ".", text)
    text = re.sub(r"\s+underscore\s+", "_", text)
    text = re.sub(r"\s+(?:dash|hyphen|minus)\s+", "-", text)
    # "j a n e @ example.com": letters and figures spelled one by one belong together.
    text = re.sub(r"\b(\w) (?=\w\b)", r"\1", text)
    found = _EMAIL.search(text)
    return found.group()[: _MOST["email"]] if found else None


def _date(said: str, today: date) -> str | None:
    text = tidy(said).casefold()
    if iso := re.search(r"\b(\d{4})-(\d{1,2})-(\d{1,2})\b", text):
        return _day(int(iso[1]), int(iso[2]), int(iso[3]))
    if slashed := re.search(r"\b(\d{1,2})/(\d{1,2})(?:/(\d{4}|\d{2}))?\b", text):
        return _dated(int(slashed[1]), int(slashed[2]), _year(slashed[3]), today)
    text = re.sub(r"(?<!why )\bnot (?:on |the )*\w+", " ", text)  # "not tomorrow, Friday"
    if ahead := re.search(r"\bin (a|\d+) (day|week)s?\b", " ".join(words(text))):
        count = 1 if ahead[1] == "a" else min(int(ahead[1]), 1_000)
        return (today + timedelta(days=count * (7 if ahead[2] == "week" else 1))).isoformat()
    heard = _joined_ordinals(words(text))
    if "after" in heard and "tomorrow" in heard:
        return (today + timedelta(days=2)).isoformat()
    for word, days in (("today", 0), ("tonight", 0), ("tomorrow", 1)):
        if word in heard:
            return (today + timedelta(days=days)).isoformat()
    for at, word in enumerate(heard):
        if (month := _MONTHS.get(word)) and (found := _beside_month(heard, at, month, today)):
            return found
    if found := _day_of_month(words(text), today):
        return found
    for at, word in enumerate(heard):
        if word in _WEEKDAYS:
            days = (_WEEKDAYS.index(word) - today.weekday()) % 7 or 7
            if at and heard[at - 1] == "next" and today.weekday() + days <= 6:
                days += 7  # "next Friday" on a Monday is not this week's
            if heard[max(0, at - 2) : at] == ["week", "from"]:
                days += 7
            return (today + timedelta(days=days)).isoformat()
    return None


def _day_of_month(heard: tuple[str, ...], today: date) -> str | None:
    """ "the 3rd", "Friday the thirteenth", "on the 3rd of next month": the next such day."""
    if any(word in _MONTHS and word != "may" for word in heard):
        return None  # a day that its month does not have
    for at, word in enumerate(heard):
        after = heard[at + 1] if at + 1 < len(heard) else ""
        number = _ORDINALS.get(word)
        if number is not None and number < 10 and at and heard[at - 1] in ("20", "30"):
            number, at = number + int(heard[at - 1]), at - 1
        elif number is not None and at and heard[at - 1] != "the" and heard[at - 1] not in _WEEKDAYS:
            number = None  # "one second"
        if number is None and word.isdecimal() and after in ("th", "st", "nd", "rd"):
            number = int(word)
        if number is None or after in _WEEKDAYS:
            continue
        first = today.replace(day=1)
        if "next" in heard and "month" in heard:
            first = (first + timedelta(days=32)).replace(day=1)
        for _ in range(3):
            day = _day(first.year, first.month, number)
            if day is not None and day >= today.isoformat():
                return day
            first = (first + timedelta(days=32)).replace(day=1)
    return None


def _joined_ordinals(heard: tuple[str, ...]) -> list[str]:
    """ "march 20 first" → march 21; "4 th" → 4."""
    out: list[str] = []
    for word in heard:
        number = _ORDINALS.get(word)
        if number is not None:
            if out and out[-1] in ("20", "30") and number < 10:
                out[-1] = str(int(out[-1]) + number)
            else:
                out.append(str(number))
        elif not (word in ("th", "st", "nd", "rd") and out and out[-1].isdecimal()):
            out.append(word)
    return out


def _beside_month(heard: list[str], at: int, month: int, today: date) -> str | None:
    """ "march 4", "march the 4 2027", "the 4 of march"."""
    after = [word for word in heard[at + 1 : at + 5] if word not in ("the", "of", "in")]
    before = [word for word in heard[max(0, at - 2) : at] if word not in ("the", "of")]
    if after and after[0].isdecimal() and int(after[0]) <= 31:
        return _dated(month, int(after[0]), _year("".join(_figures(after[1:]))), today)
    if before and before[-1].isdecimal():
        return _dated(month, int(before[-1]), _year("".join(_figures(after))), today)
    return None


def _figures(heard: list[str]) -> list[str]:
    """The figures it begins with: "19 85", "2026"."""
    out: list[str] = []
    for word in heard[:2]:
        if not word.isdecimal():
            break
        out.append(word)
    return out


def _year(figures: str | None) -> int | None:
    if not figures or len(figures) not in (2, 4):
        return None
    return int(figures) + (2000 if len(figures) == 2 else 0)


def _dated(month: int, day: int, year: int | None, today: date) -> str | None:
    if year is not None:
        return _day(year, month, day)
    this = _day(today.year, month, day)
    if this is not None and this >= today.isoformat():
        return this
    return _day(today.year + 1, month, day) or this


def _day(year: int, month: int, day: int) -> str | None:
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None
