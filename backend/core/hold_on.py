"""Does the caller only ask for time? "No, wait." is no "no". Pure; knows English."""

from __future__ import annotations

import re

_A_MOMENT = r"(?:moment|second|sec|minute)"
_HOLD_ON = re.compile(
    r"(?:(?:no|yes|yeah|oh|um|uh|er|well|okay|ok|sorry|actually|please)\b[\s,.!…-]*)*"
    rf"((?:wait|hold on|hang on|(?:just |give me )?(?:a|one) {_A_MOMENT}|let me (?:think|check))"
    rf"(?:[\s,.!]+(?:wait|please|(?:just )?(?:a|one) {_A_MOMENT}))*)[\s.!…]*",
    re.IGNORECASE,
)


def is_hold_on(said: str) -> bool:
    """Whether these words ask to wait, and nothing else."""
    return _HOLD_ON.fullmatch(said) is not None


def bare_hold_on(said: str) -> str:
    """The asking alone, without the "no" or "well" before it."""
    found = _HOLD_ON.fullmatch(said)
    return found.group(1) if found else said
