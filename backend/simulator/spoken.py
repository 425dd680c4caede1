"""Written text → the words one hears: lower case, no punctuation, every number digit by digit.

"555-1234" and "five five five one two three four" both become 5 5 5 1 2 3 4; "2 p.m." and "two PM" both
2 pm; "I'm" and "I am" both i am. English only. Knows nothing of errors or alignment.
"""

from __future__ import annotations

import re

_UNITS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15,
    "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80,
    "ninety": 90,
}  # fmt: skip
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
_ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12,
    **{f"{word}th": value for word, value in _UNITS.items() if value not in (0, 1, 2, 3, 5, 8, 9, 12)},
    **{f"{word[:-1]}ieth": value for word, value in _TENS.items()},
}  # fmt: skip
_REPEATS = {"double": 2, "triple": 3}

_CONTRACTIONS = (
    (r"\bwon't\b", "will not"),
    (r"\bcan't\b|\bcannot\b", "can not"),
    (r"\bshan't\b", "shall not"),
    (r"\blet's\b", "let us"),
    (r"n't\b", " not"),
    (r"'re\b", " are"),
    (r"'ve\b", " have"),
    (r"'ll\b", " will"),
    (r"\bi'm\b", "i am"),
    (r"'d\b", " would"),
    (r"\b(it|that|what|who|where|there|here|how|he|she|when)'s\b", r"\1 is"),
)
_WORDS = {"okay": "ok", "mister": "mr", "doctor": "dr", "ma'am": "madam", "hmm": "hm"}
_SYMBOLS = (("&", " and "), ("%", " percent "), ("+", " plus "), ("@", " at "))


def spoken_words(text: str) -> list[str]:
    """The words of `text` as one would hear them; equal lists sound alike."""
    words = _split(text)
    out: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        if word in _REPEATS and at + 1 < len(words) and _UNITS.get(words[at + 1], 10) < 10:
            out += [str(_UNITS[words[at + 1]])] * _REPEATS[word]
            at += 2
        elif word == "oh" and _follows_digit(out) and at + 1 < len(words) and _is_number(words[at + 1]):
            out.append("0")
            at += 1
        elif word.isdecimal():
            out += list(word)
            at += 1
        elif _is_number(word):
            value, ordinal, at = _number(words, at)
            out += [_ordinal(value)] if ordinal else list(str(value))
        else:
            out.append(_WORDS.get(word, word))
            at += 1
    return out


def _split(text: str) -> list[str]:
    text = text.lower().replace("’", "'").replace("‘", "'")
    for pattern, plain in _CONTRACTIONS:
        text = re.sub(pattern, plain, text)
    text = re.sub(r"\b([ap])\.?\s?m\b\.?", r" \1m ", text)
    text = re.sub(r"\b(\d{1,2}):00\b", r"\1", text)
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(r"\$\s?(\d+)", r"\1 dollars", text)
    text = re.sub(r"(?<=\d)\.(?=\d)", " point ", text)
    for symbol, spoken in _SYMBOLS:
        text = text.replace(symbol, spoken)
    text = re.sub(r"(\d)(am|pm)\b", r"\1 \2", text.replace("'", ""))
    return re.findall(r"\d+(?:st|nd|rd|th)\b|\d+|[^\W\d_]+", text)


def _follows_digit(out: list[str]) -> bool:
    return bool(out) and out[-1].isdecimal()


def _is_number(word: str) -> bool:
    return word in _UNITS or word in _TENS or word in _ORDINALS or word.isdecimal()


def _number(words: list[str], at: int) -> tuple[int, bool, int]:
    """The number whose words start at `at`: value, whether it is an ordinal, and where it ends."""
    total, value, at, ordinal = 0, *_below_hundred(words, at)
    while not ordinal and at < len(words) and words[at] in _SCALES:
        scale = _SCALES[words[at]]
        at += 1
        if scale == 100:
            value *= scale
        else:
            total, value = total + value * scale, 0
        rest = at + 1 if words[at : at + 1] == ["and"] else at
        if rest < len(words) and _is_number(words[rest]) and not words[rest].isdecimal():
            more, at, ordinal = _below_hundred(words, rest)
            value += more
    return total + value, ordinal, at


def _below_hundred(words: list[str], at: int) -> tuple[int, int, bool]:
    word = words[at]
    if word in _ORDINALS:
        return _ORDINALS[word], at + 1, True
    if word in _UNITS:
        return _UNITS[word], at + 1, False
    following = words[at + 1] if at + 1 < len(words) else ""
    if 1 <= _UNITS.get(following, 0) <= 9:
        return _TENS[word] + _UNITS[following], at + 2, False
    if 1 <= _ORDINALS.get(following, 0) <= 9:
        return _TENS[word] + _ORDINALS[following], at + 2, True
    return _TENS[word], at + 1, False


def _ordinal(value: int) -> str:
    suffix = "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
    return f"{value}{suffix}"
