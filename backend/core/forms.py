"""A node that collects several values: which one it asks for now, and which of them an answer holds. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date

from backend.core.answers import AnswerType, correction, is_bare, is_correction, parse_answer
from backend.core.call_flow import Collect, Node
from backend.core.choices import named
from backend.core.matching import dictated_figures

Values = Mapping[str, str]
"""By the names of what is collected."""

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


def value_in(collect: Collect, said: str, today: date | None) -> str | None:
    """The value in what was said, typed or found by a model; None: there is none of its type.

    Without `today` nobody can tell which day "tomorrow" is: a date stays as it was said.
    """
    if collect.type == "date" and today is None:
        return said
    return parse_answer(collect.type, said, today or date.min, collect.options)


def given_along(
    fields: Sequence[Collect], said: str, today: date | None, *, answers: Collect | None
) -> Values:
    """Values of the `fields` in words that answer another question (`answers`; None: a question of another
    node): each name and value, of two of a type the first."""
    taken: set[AnswerType] = {answers.type} if answers else set()
    if taken.intersection(_FIGURES):
        taken.add("phone")
    if answers is not None and answers.type == "choice" and _is_chosen_by_place(answers, said):
        return {}  # "The second one." is no day of the month
    found: dict[str, str] = {}
    for collect in fields:
        if collect.type not in _TELLING or (collect.type in taken and collect.type != "choice"):
            continue
        if (value := _told(collect, said, today)) is not None:
            taken.add(collect.type)
            found[collect.name] = value
    return found


def put_right(node: Node, missing: Sequence[Collect], said: str, today: date | None) -> Values:
    """Values given before that the words change: "No, on Friday.", "Actually, make it four."

    What is known for what it is may be any of them; else it is the last one, where the words are no answer to
    the question that was asked after it.
    """
    there = [collect for collect in node.collect if collect not in missing]
    if not there or not is_correction(said):
        return {}
    wanted = missing[0] if missing else None
    if found := given_along(there, said, today, answers=wanted):
        return found
    last = there[-1]
    if wanted is None or last.type in _TELLING or last.type == wanted.type or _answers(wanted, said):
        return {}
    value = correction(last.type, said, today or date.min)
    return {last.name: value} if value else {}


def _answers(wanted: Collect, said: str) -> bool:
    """Whether words that begin as a correction are rather an answer to this."""
    if wanted.type in ("text", "name"):
        return True
    if wanted.type in ("digits", "phone"):
        return len(dictated_figures(said)) != 1
    return is_bare(wanted.type, said, wanted.options)


def _told(collect: Collect, said: str, today: date | None) -> str | None:
    if collect.type == "choice":
        return named(collect.options, said)
    return None if collect.type == "date" and today is None else value_in(collect, said, today)


def _is_chosen_by_place(collect: Collect, said: str) -> bool:
    chosen = parse_answer("choice", said, date.min, collect.options)
    return chosen is not None and named(collect.options, said) is None
