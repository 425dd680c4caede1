"""A value given in parts, by voice and by keys, at the node where a call stands. Pure.

What one part comes to is known to `gathering`; here it is followed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from backend.core.collecting import Way, changes, otherwise, take
from backend.core.conditions import caught
from backend.core.dictation import Parts, add
from backend.core.gathering import COMPLETE, how_far, takes_parts, waiting
from backend.core.matching import KeyMatch
from backend.core.standing import Standing
from backend.core.steps import Step


@dataclass(frozen=True, slots=True)
class Given:
    """What there is of a value with the latest part of it, and whether the call may go on with that."""

    parts: Parts
    is_whole: bool


def given_with(here: Standing, said: str) -> Given | None:
    """What the node collects, with this part of it; None: the words are none."""
    node, collect = here.node, here.node.wanted
    if not takes_parts(node, thinks=here.thinks) or collect is None:
        return None
    if not here.parts.text and changes(here, said):
        return None  # "No, make it four." is no beginning of a telephone number
    added = add(collect.type, here.parts, said, lambda text: how_far(node, text))
    if added is None or added[1] is KeyMatch.NO:
        return None
    parts, far = added
    # What may have more to come is gone on with where it is read back anyway.
    return Given(parts, far is KeyMatch.FULL or (far is KeyMatch.FULL_SO_FAR and bool(collect.confirm)))


def way_on(here: Standing, said: str, given: Given | None) -> Way | None:
    """The first transition whose condition the words meet, `given` being what they add to a number."""
    for item in here.transitions:
        own, text = item in here.node.transitions, said
        if item.when.digits and given is not None:
            if not own and here.parts.text:
                continue  # a "zero" within a number asks for nobody
            if own and not given.is_whole:
                continue
            text = given.parts.text if own else said
        captured = caught(item, text)
        if captured is not None:
            return Way(item, captured, text)
    return None


def wait_for_rest(here: Standing) -> Step:
    """Say nothing, and let the caller go on."""
    listen = here.listen()
    if here.parts.text:
        listen = waiting(listen, how_far(here.node, here.parts.text), here.parts)
    return Step(here.node.id, (), (), listen, False)


def settled_parts(here: Standing) -> Step | None:
    """Nothing more came: on, if what there is may be all of it."""
    text = here.parts.text
    if how_far(here.node, text) not in COMPLETE:
        return None
    for item in here.node.transitions:
        if item.when.digits and caught(item, text) is not None:
            return take(here, Way(item, {}, text))
    return otherwise(here, text)


def ask_for_rest(here: Standing) -> Step:
    """The caller is asked to go on, once; then asked anew."""
    if here.parts.prompted:
        return here.reprompt()
    here.parts = replace(here.parts, prompted=True)
    return here.again(here.render((here.agent.turns.go_on,)))


def keep_keys(here: Standing) -> None:
    """Words come after keys: these were the first part, or are forgotten."""
    keys, here.keys, here.slip = here.keys, "", False
    whole = here.parts.text + keys
    if keys and _goes_on(here, whole):
        here.parts = Parts(whole, len(keys), here.parts.turns + 1)


def keys_stopped(here: Standing, keys: str) -> Step | None:
    """The keys are taken for a part, and the caller is asked to go on; None: they begin nothing."""
    whole = here.parts.text + keys
    if not keys or not _goes_on(here, whole):
        return None
    here.parts = Parts(whole, len(keys), here.parts.turns + 1, prompted=True)
    return here.again(here.render((here.agent.turns.go_on,)))


def _goes_on(here: Standing, text: str) -> bool:
    """Whether the text is the beginning of what the node collects."""
    if not takes_parts(here.node, thinks=here.thinks) or here.pending is not None:
        return False
    return how_far(here.node, text) in (KeyMatch.PARTIAL, KeyMatch.FULL_SO_FAR)
