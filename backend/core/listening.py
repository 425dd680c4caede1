"""How to wait for the caller at a node: how long, for what kind of answer, for which keys. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from backend.core.agent import Agent
from backend.core.call_flow import Node, Transition
from backend.core.conditions import most_keys
from backend.core.matching import words
from backend.core.steps import Expects, Listen

MAX_KEYS = 32  # pressed at one node
_YES_NO = ("yes", "no")
_PHONE_KEYS = 7


def listen_for(
    agent: Agent, node: Node, transitions: Sequence[Transition], *, confirming: bool, quiet_left_ms: int
) -> Listen:
    """`transitions`: all that are tried at the node; `confirming`: a value was read back;
    `quiet_left_ms`: how much longer the caller may be silent."""
    most = most_keys(transitions)
    if collects_freely(node, confirming=confirming):
        most = MAX_KEYS
    elif most is None and (
        wants_yes_no(node, confirming=confirming) or wants_choice(node, confirming=confirming)
    ):
        most = 1
    silences = [item.when.silence_ms for item in node.transitions if item.when.silence_ms]
    return Listen(
        silence_ms=min(silences) if silences else min(agent.turns.idle_ms, max(1, quiet_left_ms)),
        expects=_expects(node, confirming=confirming),
        max_digits=most,
        interruptible=node.interruptible is not False and agent.turns.barge_in,
    )


def wants_yes_no(node: Node, *, confirming: bool) -> bool:
    """Whether the question is one of yes or no that keys may answer, 1 and 2."""
    return confirming or (node.wanted is not None and node.wanted.type == "yes_no")


def wants_choice(node: Node, *, confirming: bool) -> bool:
    """Whether the question is which of several options, that keys may answer from 1 on."""
    return not confirming and node.wanted is not None and node.wanted.type == "choice"


def collects_freely(node: Node, *, confirming: bool) -> bool:
    """Whether the node takes any digits: it collects them and leaves to `otherwise` what they are."""
    collect = node.wanted
    figures = collect is not None and collect.type in ("digits", "phone", "number")
    return figures and not confirming and node.onward is not None


def _expects(node: Node, *, confirming: bool) -> Expects:
    if wants_yes_no(node, confirming=confirming):
        return "yes_no"
    if node.wanted is not None and node.wanted.type in ("phone", "name", "date"):
        return node.wanted.type
    most = most_keys(node.transitions) or 0
    if most >= _PHONE_KEYS or (collects_freely(node, confirming=confirming) and most == 0):
        return "phone"
    if most >= 2:
        return "digits"
    said = [words(word) for item in node.transitions for word in item.when.keywords or ()]
    return "yes_no" if all((word,) in said for word in _YES_NO) else "any"
