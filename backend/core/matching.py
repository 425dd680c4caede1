"""Does what the caller said or pressed meet a transition's condition?

Speech recognisers write "2 p.m.", "555-1234", "Tuesday."; people write "2pm", "two o'clock". Both sides
are brought to the same plain words before they are compared. Refuses to know about nodes and calls.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from backend.core.patterns import named_groups

_MAX_TEXT = 1000  # characters looked at; an utterance is far shorter
_UNITS = {
    word: number
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen seventeen eighteen nineteen".split()
    )
}
_TENS = {
    word: 10 * number
    for number, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
}
_HALF_DAY = re.compile(r"\b([ap])\.\s?m\b\.?", re.IGNORECASE)
# Words that may stand beside a single spoken key without changing what is meant: "press one, please".
_BESIDE_KEY = frozenset(
    "press pressing number option choose the um uh er please its it is i ill key digit okay ok".split()
)
_KEYS = "0123456789*#ABCD"
_REPEATS = {"double": 2, "triple": 3}
_ZEROS = {"hundred": "00", "thousand": "000"}  # "one eight hundred"
_MAX_PATTERN_KEYS = 32


def tidy(text: str) -> str:
    """One line, plain apostrophes, "p.m." as "PM", no mark at the end: fit to be stored or searched."""
    text = text[:_MAX_TEXT].replace("\u2019", "'").replace("\u2018", "'")
    text = "".join(char if char.isprintable() else " " for char in text)
    text = _HALF_DAY.sub(lambda match: match.group(1).upper() + "M", text)
    return " ".join(text.split()).strip(" .,!?;:…-")


@lru_cache(
    maxsize=4_096
)  # the keywords of many agents, and what callers say just now: asked of each transition
def words(text: str) -> tuple[str, ...]:
    """Lower-case words without punctuation, numbers as figures: "Two o'clock, P.M." → 2 oclock pm."""
    plain = tidy(text).casefold().replace("'", "")
    tokens = re.findall(r"[^\W\d_]+|\d+", plain)
    return tuple(_figures(tokens))


def _figures(tokens: Sequence[str]) -> list[str]:
    out: list[str] = []
    tens_open = False
    for token in tokens:
        unit = _UNITS.get(token)
        if tens_open and unit is not None and 1 <= unit <= 9:
            out[-1] = str(int(out[-1]) + unit)
            tens_open = False
            continue
        tens_open = token in _TENS
        if tens_open:
            token = str(_TENS[token])
        elif unit is not None:
            token = str(unit)
        out.append(token)
    return out


def has_keyword(heard: Sequence[str], keywords: Sequence[str]) -> bool:
    """Whether any keyword (a word or a phrase) stands whole within the heard `words`."""
    for keyword in keywords:
        wanted = words(keyword)
        if wanted and any(
            tuple(heard[at : at + len(wanted)]) == wanted for at in range(len(heard) - len(wanted) + 1)
        ):
            return True
    return False


def search(pattern: str, heard: str) -> dict[str, str] | None:
    """The pattern's named groups where it is found in the text, None where it is not.

    Case does not matter. The text is tried as recognised (tidied), then without punctuation marks.
    """
    text = tidy(heard)
    bare = " ".join(re.sub(r"[^\w\s'-]", " ", text).split())
    for candidate in (text, bare):
        found = named_groups(pattern, candidate)
        if found is not None:
            return {name: tidy(value) for name, value in found.items()}
    return None


class KeyMatch(Enum):
    """How far pressed keys meet a pattern."""

    NO = "no"  # and no further key can help
    PARTIAL = "partial"  # further keys may complete it
    FULL = "full"  # complete; no further key fits
    FULL_SO_FAR = "full so far"  # complete, yet further keys fit too


@dataclass(frozen=True, slots=True)
class KeyPattern:
    """Keys of a telephone: `1`, `[0-9]{4}`, `[2-9][0-9]{6,9}`, `*72`. `*` and `#` are always the keys.

    `positions` holds, per position, the keys that fit; the last `optional` of each repeat may be left out.
    """

    text: str
    positions: tuple[tuple[frozenset[str], bool], ...]  # (keys, may be skipped)

    @classmethod
    def parse(cls, text: str) -> KeyPattern:
        """Raises ValueError with a sentence when the pattern cannot be read."""
        positions: list[tuple[frozenset[str], bool]] = []
        at = 0
        item = re.compile(r"(\[[^\]]*\]|[0-9*#A-D])(?:\{(\d+)(?:,(\d+))?\})?")
        while at < len(text):
            match = item.match(text, at)
            if not match:
                raise ValueError(
                    f"cannot read {text[at:]!r} in the key pattern {text!r}; "
                    'write keys, sets and counts, such as "1", "[0-9]{4}" or "[2-9][0-9]{6,9}"'
                )
            keys = _key_set(match.group(1), text)
            least = int(match.group(2)) if match.group(2) else 1
            most = int(match.group(3)) if match.group(3) else least
            if most < least or most == 0:
                raise ValueError(f"the count {{{least},{most}}} in the key pattern {text!r} is not possible")
            if len(positions) + most > _MAX_PATTERN_KEYS:
                raise ValueError(f"the key pattern {text!r} is longer than {_MAX_PATTERN_KEYS} keys")
            positions += [(keys, False)] * least + [(keys, True)] * (most - least)
            at = match.end()
        if not any(not skippable for _, skippable in positions):
            raise ValueError("a key pattern needs at least one key")
        return cls(text, tuple(positions))

    @property
    def max_keys(self) -> int:
        return len(self.positions)

    @property
    def min_keys(self) -> int:
        return sum(not skippable for _, skippable in self.positions)

    def match(self, keys: str) -> KeyMatch:
        """How far all the keys pressed so far meet the pattern."""
        states = self._skip({0})
        for key in keys:
            states = self._skip(
                {at + 1 for at in states if at < self.max_keys and key in self.positions[at][0]}
            )
            if not states:
                return KeyMatch.NO
        more = any(at < self.max_keys for at in states)
        if self.max_keys in states:
            return KeyMatch.FULL_SO_FAR if more else KeyMatch.FULL
        return KeyMatch.PARTIAL

    def _skip(self, states: set[int]) -> set[int]:
        reached = set(states)
        for at in range(self.max_keys):
            if at in reached and self.positions[at][1]:
                reached.add(at + 1)
        return reached


def _key_set(item: str, pattern: str) -> frozenset[str]:
    if not item.startswith("["):
        return frozenset(item)
    inner = item[1:-1]
    keys: set[str] = set()
    for match in re.finditer(r"(\d)-(\d)|(.)", inner):
        low, high, single = match.groups()
        if single is None:
            keys |= {str(digit) for digit in range(int(low), int(high) + 1)}
        elif single in _KEYS:
            keys.add(single)
        else:
            raise ValueError(f"{single!r} in the key pattern {pattern!r} is not a telephone key")
    if not keys:
        raise ValueError(f"the set {item} in the key pattern {pattern!r} holds no key")
    return frozenset(keys)


def spoken_keys(heard: str) -> tuple[str, ...]:
    """Runs of digits within what was said: "It's 555, oh one four two." → ("5550142",).

    "oh", "double" and "triple" count inside a number. A single digit counts only when said by itself or
    with words such as "press … please": the "one" of "that one" is not a key.
    """
    tokens = _key_tokens(heard)
    bare = all(_spoken_figure(token, inside=True) or token in _BESIDE_KEY for token in tokens if token != "|")
    return tuple(run for run in _runs(tokens, inside=False) if len(run) > 1 or bare)


def dictated_figures(heard: str, *, inside: bool = False) -> str:
    """All figures in what was said, one after another, single ones too. `inside`: in the middle of a number,
    where "oh five" begins with a zero."""
    return "".join(_runs(_key_tokens(heard), inside=inside))


def _key_tokens(heard: str) -> list[str]:
    # A full stop between words parts two numbers; "p.m." and "555.0142" have none between words.
    text = re.sub(r"[.!?]+\s", " | ", tidy(heard).casefold().replace("'", ""))
    return re.findall(r"[^\W\d_]+|\d+|[*#|]", text)


def _runs(tokens: Sequence[str], *, inside: bool) -> list[str]:
    runs: list[str] = []
    run, repeat, tens_open = "", 1, False
    for at, token in enumerate([*tokens, ""]):
        if token in _REPEATS:
            repeat = _REPEATS[token]
            continue
        following = tokens[at + 1] if at + 1 < len(tokens) else ""
        zero = bool(run) or repeat > 1 or (inside and at == 0 and _is_figure_or_end(following))
        figure = _spoken_figure(token, inside=zero)
        if tens_open and len(figure) == 1 and figure in "123456789":
            run = run[:-1] + figure  # "twenty one"
        elif figure:
            run += figure * repeat
        elif token in _ZEROS and run[-1:] not in ("", "0"):
            run += _ZEROS[token]
        elif run and token not in ("and", "dash", "uh", "um"):
            runs.append(run)
            run = ""
        repeat, tens_open = 1, token in _TENS
    return [*runs, run] if run else runs


def _is_figure_or_end(token: str) -> bool:
    return not token or bool(_spoken_figure(token, inside=True))


def _spoken_figure(token: str, *, inside: bool) -> str:
    if token.isdecimal() and token.isascii():
        return token
    if token in _UNITS or token in _TENS:
        return str(_UNITS.get(token, _TENS.get(token)))
    if inside and token in ("oh", "o"):
        return "0"
    return {"star": "*", "pound": "#", "hash": "#", "*": "*", "#": "#"}.get(token, "")
