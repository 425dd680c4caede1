"""What a line typed in a chat means. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

HELP = "Type what you say. /press 12#  keys · /silence 5  seconds · /quit  hang up"
_MAX_SECONDS = 600.0
_MAX_CHARACTERS = 1_000


@dataclass(frozen=True, slots=True)
class Words:
    """Said."""

    text: str


@dataclass(frozen=True, slots=True)
class Keys:
    """Pressed."""

    digits: str


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing is said for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Quit:
    """The caller hangs up."""


@dataclass(frozen=True, slots=True)
class Told:
    """Nothing to do but to say this to who typed."""

    text: str


Typed = Words | Keys | Silence | Quit | Told


def read_typed(line: str) -> Typed | None:
    """What the line means; None: nothing."""
    text = " ".join(line.split())
    if not text:
        return None
    if not text.startswith("/"):
        return Words(text) if len(text) <= _MAX_CHARACTERS else Told(f"At most {_MAX_CHARACTERS} characters.")
    command, _, rest = text[1:].partition(" ")
    match command.lower():
        case "quit" | "q" | "exit" | "bye":
            return Quit()
        case "help" | "h" | "?":
            return Told(HELP)
        case "press" | "p":
            keys = rest.replace(" ", "").upper()
            if re.fullmatch(r"[0-9*#A-D]{1,64}", keys):
                return Keys(keys)
            return Told("Keys are 0-9, *, # and A-D: /press 12#")
        case "silence" | "s":
            try:
                seconds = float(rest)
            except ValueError:
                seconds = 0.0
            if 0 < seconds <= _MAX_SECONDS:
                return Silence(seconds)
            return Told(f"Give seconds, more than 0 and at most {_MAX_SECONDS:g}: /silence 5")
        case other:
            return Told(f"There is no /{other}. {HELP}")
