"""What a flow may say next, so that its sound can be made beforehand. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from backend.core.again import idle_text, last_question
from backend.core.agent import Agent
from backend.core.call_flow import Node, Transition
from backend.core.gathering import takes_parts
from backend.core.standing import Standing, node_of
from backend.core.templates import render_all, variable_names


def likely_texts(here: Standing) -> list[str]:
    """What may be said next, likeliest first; see `Flow.likely_texts`. Changes nothing."""
    if here.ended:
        return []
    if not here.started:
        return _as_texts([here.render((*here.greeting, *here.node.opening))])
    turns = here.agent.turns
    again = [
        *([here.render((turns.go_on,))] if takes_parts(here.node, thinks=here.thinks) else []),
        here.render((turns.give_up,)) if here.gives_up else here.reprompt_say(),
        here.render((idle_text(here.agent, here.idle),)),
    ]
    return _as_texts(_says_after(here.agent, here.node, here.variables, thinks=here.thinks, again=again))


def texts_at(here: Standing, node_id: str) -> list[str]:
    """What may be said at a node and right after it; takes the call there. See `Flow.texts_at`."""
    node = node_of(here.agent, node_id)
    here.node, here.started, here.ended = node, True, node.ends_call
    say = here.render(node.opening)
    here.question = last_question(say[-1]) if say else ""
    turns = here.agent.turns
    later = (*turns.idle_prompts, turns.idle_goodbye, turns.give_up) if node.listens else ()
    texts = (*_as_texts([say]), *likely_texts(here), *_as_texts([here.render((text,)) for text in later]))
    return list(dict.fromkeys(texts))


def _as_texts(says: Iterable[tuple[str, ...]]) -> list[str]:
    """Each as the Step's `text` would be, none twice."""
    return list(dict.fromkeys(" ".join(say) for say in says if say))


def _says_after(
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
    for following in node.collect[1:2]:
        if following.ask and not {item.name for item in node.collect}.intersection(
            variable_names(following.ask)
        ):
            yield render_all((following.ask,), variables)
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
    if item in node.transitions:
        captured |= {collect.name for collect in node.collect}
    if node.lookup is not None:
        captured |= {name for tool in agent.tools if tool.name == node.lookup.tool for name in tool.set}
    if any(name in captured - item.set.keys() for text in target.opening for name in variable_names(text)):
        return ()
    return render_all(target.opening, dict(variables) | item.set)
