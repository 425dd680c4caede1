"""`{{variable}}` in an agent's texts: finding, checking and filling them in.

One pass only: what is filled in is never looked at again, so a caller's words cannot smuggle in a variable.
Refuses to know what the texts are for and what time it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime

BUILTIN_VARIABLES: Mapping[str, str] = {
    "agent_name": "the agent's `name`",
    "caller_number": "the telephone number of the other party, +15551234567",
    "called_number": "the number that was dialled, +15551234567",
    "call_direction": "`inbound` or `outbound`",
    "now_date": "today, as spoken: Tuesday, March 4",
    "now_weekday": "Tuesday",
    "now_time": "the time the call began, as spoken: 2:05 PM",
}
"""Variables every call has, and what they hold."""

FILTERS: Mapping[str, str] = {
    "digits": "spells digits one by one, so that a number is read as a telephone number",
}
"""What may follow a variable's name: `{{phone|digits}}`."""

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_SLOT = re.compile(rf"\{{\{{\s*({_NAME})\s*(?:\|\s*([A-Za-z_]+)\s*)?\}}\}}")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_DIGIT_WORDS = dict(
    zip("0123456789", "zero one two three four five six seven eight nine".split(), strict=True)
) | {"*": "star", "#": "pound", "+": "plus"}


def variable_names(template: str) -> tuple[str, ...]:
    """The variables a text asks for, in order, each once."""
    return tuple(dict.fromkeys(slot.group(1) for slot in _SLOT.finditer(template)))


def template_problem(template: str) -> str | None:
    """What is wrong with the text's braces or filters, as a sentence; None when nothing is."""
    for slot in _SLOT.finditer(template):
        if slot.group(2) and slot.group(2) not in FILTERS:
            return f"unknown filter {slot.group(2)!r} in {slot.group(0)}; known: {', '.join(FILTERS)}"
    rest = _SLOT.sub("", template)
    if "{{" in rest or "}}" in rest:
        return "a variable is written {{name}}, with letters, digits and _ only, and both pairs of braces"
    return None


def render(template: str, variables: Mapping[str, str]) -> str:
    """The text with its variables filled in, in one pass; an unknown one is left empty.

    White space is tidied, so that "Hello {{name}}, …" without a name reads "Hello, …".
    """

    def fill(slot: re.Match[str]) -> str:
        value = variables.get(slot.group(1), "")
        return spell_digits(value) if slot.group(2) == "digits" else value

    text = " ".join(_SLOT.sub(fill, template).split())
    return re.sub(r"\s+([,.!?;:])", r"\1", text)


def render_all(templates: Iterable[str], variables: Mapping[str, str]) -> tuple[str, ...]:
    """The texts with their variables filled in; those left without a letter or figure are none."""
    rendered = (render(template, variables) for template in templates)
    return tuple(text for text in rendered if any(char.isalnum() for char in text))


def spell_digits(value: str) -> str:
    """ "5550142" → "five five five, zero one four two": in groups of three, the last of three or four.

    What is not a digit, star, pound or plus only separates groups.
    """
    groups: list[str] = []
    for run in re.findall(r"[0-9*#+]+|(?<=[0-9])x(?=[0-9])", value):
        if run == "x":
            groups.append("extension")
            continue
        while run:
            size = len(run) if len(run) <= 4 else 3
            groups.append(" ".join(_DIGIT_WORDS[key] for key in run[:size]))
            run = run[size:]
    return ", ".join(groups)


def call_variables(
    *, agent_name: str, caller_number: str, called_number: str, direction: str, now: datetime
) -> dict[str, str]:
    """The built-in variables of one call. `now`: local time at the call's start."""
    weekday = _WEEKDAYS[now.weekday()]
    return {
        "agent_name": agent_name,
        "caller_number": caller_number,
        "called_number": called_number,
        "call_direction": direction,
        "now_date": f"{weekday}, {_MONTHS[now.month - 1]} {now.day}",
        "now_weekday": weekday,
        "now_time": f"{(now.hour - 1) % 12 + 1}:{now.minute:02d} {'AM' if now.hour < 12 else 'PM'}",
    }
