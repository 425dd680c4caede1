"""A node that collects several values: which one it asks for now, and which of them an answer holds. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import date

from backend.core.answers import AnswerType, is_correction, parse_answer
from backend.core.call_flow import Collect, Node

_TELLING: Collection[AnswerType] = ("date", "phone", "email", "choice")
"""Values that are known for what they are in any words: "A van for tomorrow, please."."""
_FIGURES: Collection[AnswerType] = ("digits", "phone", "number")


def asking_for(node: Node, fields: Sequence[Collect]) -> Node:
    """The node as it stands when these are yet to be collected, the first of them being asked for.

    Its actions are done; its `opening` is the question.
    """
    wanted = fields[0]
    is_first = wanted.name == node.collect[0].name
    say = node.say if is_first and not wanted.ask else ()
    reprompt = wanted.reprompt or (node.reprompt if is_first else None)
    return node.model_copy(update={"collect": tuple(fields), "say": say, "reprompt": reprompt, "actions": ()})


def others_in(
    node: Node, missing: Sequence[Collect], said: str, today: date | None
) -> Iterator[tuple[str, str]]:
    """Values in the words beside the one that is asked for, the first of the `missing`: each name and value.

    One that is there already is changed only by words that put something right: "No, on Friday.".
    """
    taken = {missing[0].type} if missing else set()
    if taken.intersection(_FIGURES):
        taken |= {"phone"}
    there = [collect for collect in node.collect if collect not in missing] if is_correction(said) else []
    for collect in (*missing[1:], *there):
        if collect.type not in _TELLING or (collect.type in taken and collect.type != "choice"):
            continue
        if collect.type == "date" and today is None:
            continue
        value = parse_answer(collect.type, said, today or date.min, collect.options)
        if value is not None:
            taken.add(collect.type)
            yield collect.name, value
