"""What a node collects: found in the caller's words, read back where the agent wants that, and kept. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date

from backend.core.answers import is_bare, parse_answer
from backend.core.call_flow import Collect, Transition
from backend.core.conditions import caught, fitting_keys
from backend.core.dictation import NOTHING
from backend.core.gathering import more_of, takes_parts
from backend.core.read_back import MAX_READ_BACK, Pending, Reply, question_for, weigh_reply
from backend.core.standing import Standing
from backend.core.steps import Step


@dataclass(frozen=True, slots=True)
class Way:
    """A transition that the caller's words or keys meet."""

    item: Transition
    captured: Mapping[str, str]  # what its pattern caught of them
    said: str


def take(here: Standing, way: Way, *, is_answer: bool = False) -> Step:
    """Go where it leads, keeping what the caller gave. `is_answer`: the words are what the node collects, and
    no model is to find it in them."""
    item, collect = way.item, here.node.collect
    if collect and item in here.node.transitions and not item.when.silence_ms:
        by_model = not is_answer and here.thinks and here.node.prompt and collect.type in ("text", "name")
        value = None if by_model else _value(here, collect, item, way.said)
        if value and collect.confirm:
            return read_back(here, Pending(value, item, way.captured, ""), collect)
        if value:
            here.keep(collect.name, value)
    for name, group in way.captured.items():
        here.keep(name, group)
    return here.follow(item)


def otherwise(here: Standing, said: str) -> Step | None:
    """The node's last resort, if it has one and has what it collects."""
    onward, collect = here.node.onward, here.node.collect
    if onward is None or (collect and not _value(here, collect, onward, said)):
        return None
    return take(here, Way(onward, {}, said), is_answer=True)


def is_plain(here: Standing, said: str) -> bool:
    """Whether it is what the node collects and no more, so that no model need look at it."""
    collect, onward = here.node.collect, here.node.onward
    if collect is None or onward is None or not is_bare(collect.type, said):
        return False
    return bool(_value(here, collect, onward, said))


def _value(here: Standing, collect: Collect, item: Transition, said: str) -> str | None:
    """What the node collects, in these words or keys; None: it is not there."""
    if collect.type == "text" or (collect.type == "date" and here.today is None):
        return said
    if collect.type == "digits":
        return fitting_keys(item, said) or None
    return parse_answer(collect.type, said, here.today or date.min)


# --- reading back ------------------------------------------------------------------------------------


def read_back(here: Standing, pending: Pending, collect: Collect) -> Step:
    """Ask whether the value is right; give up on a caller whose value never is."""
    if here.read_backs >= MAX_READ_BACK:
        return here.goodbye(here.agent.turns.give_up)
    question = question_for(collect, pending.value, here.variables)
    here.pending = replace(pending, question=question)
    here.read_backs += 1
    here.keys, here.parts = "", NOTHING
    return here.again((question,))


def heard_back(here: Standing, said: str, pending: Pending) -> Step:
    """The caller said this of the value that was read back."""
    node, collect = here.node, here.node.collect
    whole = more_of(node, pending.value, said) if takes_parts(node, thinks=False) else None
    for item in here.agent.call_flow.transitions:
        if whole is not None and item.when.digits:
            continue  # a "zero" that goes on with a number asks for nobody
        if (captured := caught(item, said)) is not None:
            return take(here, Way(item, captured, said))
    assert collect is not None
    if whole is not None:
        return read_back(here, replace(pending, value=whole), collect)
    reply = weigh_reply(node, collect, pending.value, said, here.today or date.min)
    if reply is Reply.RIGHT:
        return _confirmed(here, pending, collect, said)
    if not isinstance(reply, Reply):
        return read_back(here, replace(pending, value=reply), collect)
    if reply is Reply.WRONG:
        here.pending = None
        return (here.asking(said) if node.prompt else None) or here.reprompt()
    return here.reprompt()


def _confirmed(here: Standing, pending: Pending, collect: Collect, said: str) -> Step:
    here.pending = None
    here.keep(collect.name, pending.value)
    for name, value in pending.captured.items():
        here.keep(name, value)
    if pending.onward is not None:
        return here.follow(pending.onward)
    return here.asking(said) or here.reprompt()
