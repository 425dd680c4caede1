"""What a flow may say next, so that its sound can be made beforehand. Pure; changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from backend.core.agent import Agent
from backend.core.call_flow import Node, Transition
from backend.core.templates import render_all, variable_names


def as_texts(says: Iterable[tuple[str, ...]]) -> list[str]:
    """Each as the Step's `text` would be, none twice."""
    return list(dict.fromkeys(" ".join(say) for say in says if say))


def says_after(
    agent: Agent,
    node: Node,
    variables: Mapping[str, str],
    *,
    thinks: bool,
    again: Iterable[tuple[str, ...]],
) -> Iterator[tuple[str, ...]]:
    """What may be said after the node, likeliest first. `again`: what a caller hears who is not understood.

    Left out is what hangs on words the caller has yet to say: "Thank you, {{caller_name}}."
    """
    own = [item for item in node.transitions if not item.when.otherwise and node.listens]
    own += [item for item in node.transitions if item.when.otherwise]
    for item in own:
        yield _say_after(agent, node, item, variables, thinks=thinks)
    if node.listens:
        yield from again
        for item in agent.call_flow.transitions:
            yield _say_after(agent, node, item, variables, thinks=thinks)


def _say_after(
    agent: Agent, node: Node, item: Transition, variables: Mapping[str, str], *, thinks: bool
) -> tuple[str, ...]:
    """What is said when this transition is taken; nothing when that is not known yet."""
    target = agent.node(item.to)
    if target is None or (thinks and (target.prompt or item.when.intent)):
        return ()
    captured = set(re.compile(item.when.regex).groupindex) if item.when.regex else set()
    if node.collect and item in node.transitions:
        captured.add(node.collect.name)
    if any(name in captured - item.set.keys() for text in target.say for name in variable_names(text)):
        return ()
    return render_all(target.say, dict(variables) | item.set)
