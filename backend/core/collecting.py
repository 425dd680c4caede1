"""What a node collects: found in the caller's words, read back where the agent wants that, and kept. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from backend.core.answers import is_bare
from backend.core.call_flow import Collect, Transition
from backend.core.conditions import caught, fitting_keys
from backend.core.dictation import NOTHING
from backend.core.forms import given_along, put_right, value_in
from backend.core.gathering import how_far, more_of, takes_parts
from backend.core.matching import KeyMatch, spoken_keys, words
from backend.core.read_back import MAX_READ_BACK, Pending, Reply, question_for, weigh_reply
from backend.core.standing import Standing, node_of
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
    item, collects = way.item, here.node.collect
    if collects and item in here.node.transitions and not item.when.silence_ms:
        found = _values(here, item, way.said)
        if not is_answer and here.thinks and here.node.prompt and collects[0].type in ("text", "name"):
            found.pop(collects[0].name, None)
        here.found = {**here.found, **found}
        return _settle(here, item, way.captured) or _go(here, item, way.captured, way.said)
    return _go(here, item, way.captured, way.said)


def _go(here: Standing, item: Transition, captured: Mapping[str, str], said: str) -> Step:
    for name, group in captured.items():
        here.keep(name, group)
    return _with_what_was_said(here, here.follow(item), said)


def _with_what_was_said(here: Standing, entered: Step, said: str) -> Step:
    """A node that collects several values is entered: those given on the way there are not asked for.

    Where the language model opens the node, it is the one to find them.
    """
    node = here.node
    if len(node.collect) < 2 or not node.listens or entered.ask is not None or here.ended:
        return entered
    here.found = given_along(node.collect, said, here.today, answers=None)
    if not here.found:
        return entered
    first = node.collect[0]
    opening = () if first.ask is None and first.name in here.found else here.render(node.say)
    step = _settle(here, node.onward, {})
    if step is None and node.onward is not None:
        step = here.follow(node.onward)
    if step is None:
        return entered
    return replace(step, say=(*opening, *step.say), actions=(*entered.actions, *step.actions))


def _settle(here: Standing, item: Transition | None, captured: Mapping[str, str]) -> Step | None:
    """Keep what was found, read back what is to be confirmed, ask for what is missing; None: there is no more
    to do here. `item`: the way on; a last resort, or None, waits until all is there."""
    unconfirmed, missing = _keep_found(here)
    if unconfirmed:
        return _read_back_first(here, unconfirmed, missing, Pending("", item, captured, ""))
    if missing and (item is None or item.when.otherwise):
        return here.ask_for(missing)
    return None


def _keep_found(here: Standing) -> tuple[list[Collect], list[Collect]]:
    """Keep what was found and needs no confirmation. What is to be read back first, and what is missing."""
    missing, unconfirmed = list(here.node.collect), []
    for collect in node_of(here.agent, here.node.id).collect:
        value = here.found.get(collect.name)
        if value is None:
            continue
        missing = [other for other in missing if other.name != collect.name]
        if collect.confirm and here.node.listens:
            unconfirmed.append(collect)
        else:
            here.keep(collect.name, value)
    here.found = {collect.name: here.found[collect.name] for collect in unconfirmed}
    return unconfirmed, missing


def _read_back_first(
    here: Standing, unconfirmed: Sequence[Collect], missing: Sequence[Collect], pending: Pending
) -> Step:
    """Read the first of these back; the others' turn comes when it is right. `pending`: without its value."""
    first = unconfirmed[0]
    value = here.found[first.name]
    here.found = {name: other for name, other in here.found.items() if name != first.name}
    here.want([*unconfirmed, *missing])
    return read_back(here, replace(pending, value=value), first)


def fill(here: Standing, values: Mapping[str, str]) -> Step | None:
    """The language model found these of what the node collects; None: stay, they are kept, and it goes on."""
    here.found = {**here.found, **values}
    onward = here.node.onward
    unconfirmed, missing = _keep_found(here)
    if unconfirmed:
        return _read_back_first(here, unconfirmed, missing, Pending("", onward, {}, ""))
    if missing:
        here.want(missing)
        return None
    return None if onward is None else here.follow(onward)


def otherwise(here: Standing, said: str) -> Step | None:
    """The node's last resort, if it has one and has what it collects."""
    onward = here.node.onward
    if onward is None or (here.node.collect and not _values(here, onward, said)):
        return None
    return take(here, Way(onward, {}, said), is_answer=True)


def is_plain(here: Standing, said: str) -> bool:
    """Whether it is what the node collects and no more, so that no model need look at it."""
    collect, onward = here.node.wanted, here.node.onward
    if collect is None or onward is None or not is_bare(collect.type, said, collect.options):
        return False
    return bool(_value(here, collect, onward, said))


def _values(here: Standing, item: Transition, said: str) -> dict[str, str]:
    """What the node collects and these words or keys hold, by name: what it asks for, and more."""
    wanted, *others = here.node.collect
    if changed := changes(here, said):
        return dict(changed)
    value = _value(here, wanted, item, said)
    found = {wanted.name: value} if value else {}
    return {**found, **given_along(others, said, here.today, answers=wanted)}


def changes(here: Standing, said: str) -> Mapping[str, str]:
    """What the caller gave at this node before, and puts right now."""
    return put_right(node_of(here.agent, here.node.id), here.node.collect, said, here.today)


def _value(here: Standing, collect: Collect, item: Transition, said: str) -> str | None:
    """What the node collects, in these words or keys; None: it is not there."""
    if collect.type == "choice" and item.when.digits:
        return None  # a key that is written to lead elsewhere chooses nothing
    if collect.type == "digits":
        return fitting_keys(item, said) or None
    return value_in(collect, said, here.today)


# --- reading back ------------------------------------------------------------------------------------

_KEYS_SAID = {"1": "yes", "2": "no"}  # "one", where the keys 1 and 2 answer


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
    node, collect = here.node, here.node.wanted
    if how_far(node, pending.value) is not KeyMatch.FULL_SO_FAR or "press" in words(said):
        said = _KEYS_SAID.get("".join(spoken_keys(said)), said)  # else it may go on: "five, five" … "one"
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
    left = here.node.collect[1:]
    if left:
        here.want(left)
        if (step := _settle(here, pending.onward, pending.captured)) is not None:
            return step
    if pending.onward is not None:
        return _go(here, pending.onward, pending.captured, "")
    here.want(())
    return here.asking(said) or here.reprompt()
