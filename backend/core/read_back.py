"""A value is read back, and the caller says whether it is right, or what is. Pure; knows English."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import Enum

from backend.core.answers import correction, say_back, yes_or_no
from backend.core.call_flow import Collect, Node, Transition
from backend.core.dictation import is_dictation, mended
from backend.core.gathering import COMPLETE, how_far
from backend.core.templates import render

MAX_READ_BACK = 4  # times a value is read back at one node


@dataclass(frozen=True, slots=True)
class Pending:
    """A value that was read back, and where to go once the caller says that it is right."""

    value: str
    onward: Transition | None  # None: stay
    captured: Mapping[str, str]
    question: str


class Reply(Enum):
    """What a caller says of a value that was read back, unless they give a better one."""

    RIGHT = "right"
    WRONG = "wrong"
    UNCLEAR = "unclear"


def question_for(collect: Collect, value: str, variables: Mapping[str, str]) -> str:
    """The value in the question whether it is right, in the agent's own words if it has some."""
    if not isinstance(collect.confirm, str):
        return f"I have {say_back(collect.type, value)}. Is that right?"
    shown = value if collect.type in ("digits", "phone") else say_back(collect.type, value)
    return render(collect.confirm, dict(variables) | {collect.name: shown})


def weigh_reply(node: Node, collect: Collect, value: str, said: str, today: date) -> Reply | str:
    """What the caller says of the value read back at the node; a text: the value that it is instead."""
    answer = yes_or_no(said)
    better = correction(collect.type, said, today, value, collect.options)
    if collect.type in ("digits", "phone") and (better is None or how_far(node, better) not in COMPLETE):
        better = _mended(node, value, said)
    if answer == "yes" and better in (None, value):
        return Reply.RIGHT
    if better is not None and better != value:
        return better
    return Reply.WRONG if answer == "no" else Reply.UNCLEAR


def _mended(node: Node, value: str, said: str) -> str | None:
    """The value with a few figures put right: "No, it ends in seven seven." """
    if " not " in said or not is_dictation(said):
        return None
    better = mended(value, said)
    return better if better is not None and how_far(node, better) in COMPLETE else None
