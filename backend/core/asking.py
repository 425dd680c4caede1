"""What a flow asks of the language model at a node: its task, the ways on, the data. Pure.

What a caller said stands among the data only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date

from backend.core.agent import Agent
from backend.core.call_flow import Node, Transition
from backend.core.steps import ELSE, Ask, Choice
from backend.core.templates import render

_PLAIN_NUMBER = re.compile(r"\+?[0-9]{1,20}")


def make_ask(
    agent: Agent,
    node: Node,
    transitions: Sequence[Transition],
    said: str | None,
    *,
    variables: Mapping[str, str],
    from_caller: frozenset[str],
    today: date | None,
) -> Ask | None:
    """What to ask now that the caller said this (None: now that the node is entered); None: nothing.

    `transitions`: all that are tried at the node. `from_caller`: variables that a caller's words may fill.
    """
    safe = _safe(variables, from_caller)
    choices = () if said is None else _choices(agent, offered(node, transitions), safe)
    if not (node.prompt or choices):
        return None
    used = {item.when.tool for item in transitions}
    whole = agent.node(node.id) or node
    return Ask(
        node.id,
        render(agent.system_prompt or "", safe),
        render(node.prompt, safe) if node.prompt else None,
        said,
        choices,
        node.tools if node.prompt else (),
        tuple(name for name in node.tools if name in used),
        whole.collect if node.prompt else (),
        tuple(collect.name for collect in node.collect) if node.prompt else (),
        node.onward is not None,
        tuple((name, value) for name in sorted(from_caller) if (value := variables.get(name))),
        today,
    )


def offered(node: Node, transitions: Sequence[Transition]) -> tuple[Transition, ...]:
    """The transitions a language model may choose: intents, and where the task of a `prompt` may simply be
    finished, `otherwise`."""
    intents = tuple(item for item in transitions if item.when.intent)
    onward = node.onward
    return (*intents, onward) if node.prompt and not node.collect and onward is not None else intents


def _choices(agent: Agent, items: Sequence[Transition], safe: Mapping[str, str]) -> tuple[Choice, ...]:
    choices: dict[str, Choice] = {}
    for item in items:
        target = agent.node(item.to)
        prompt = render(target.prompt, safe) if target is not None and target.prompt else None
        intent = item.when.intent or ELSE
        choices.setdefault(intent, Choice(intent, prompt))
    return tuple(choices.values())


def _safe(variables: Mapping[str, str], from_caller: frozenset[str]) -> dict[str, str]:
    """Variables as instructions may hold them: of what a caller gave, only the name stands there."""
    unsafe = set(from_caller)
    if not _PLAIN_NUMBER.fullmatch(variables.get("caller_number", "")):
        unsafe.add("caller_number")
    return dict(variables) | {name: f"[{name}]" for name in unsafe}
