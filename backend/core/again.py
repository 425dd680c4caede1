"""What is said to a caller who was not understood, or is silent. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from backend.core.agent import Agent
from backend.core.call_flow import Collect, Node
from backend.core.choices import listed
from backend.core.matching import has_keyword, words
from backend.core.templates import render_all


def last_question(text: str) -> str:
    """The last sentence, or the last that asks something."""
    sentences = re.split(r"(?<=[.!?])\s+", text)
    return next((item for item in reversed(sentences) if item.endswith("?")), sentences[-1])


def reprompt_texts(
    agent: Agent, node: Node, question: str, read_back: str | None, variables: Mapping[str, str]
) -> tuple[str, ...]:
    """The question again. `read_back`: the question whether a value is right, if that was the last one."""
    own = (node.wanted and node.wanted.reprompt) or node.reprompt
    if own and read_back is None:
        return render_all((own,), variables)
    say = render_all((agent.turns.reprompt,), variables)
    if read_back or question:
        say = (*say, read_back or question)
    if read_back is None and node.wanted and agent.language.startswith("en"):
        say = (*say, *_options_texts(node.wanted, question))
    return say


def _options_texts(collect: Collect, question: str) -> tuple[str, ...]:
    """What there is to choose from, unless the question names it all."""
    asked = words(question)
    if all(
        any(has_keyword(asked, (" ".join(phrase),)) for phrase in option.phrases)
        for option in collect.options
    ):
        return ()
    return (f"You can say {listed(collect.options)}.",)


def idle_text(agent: Agent, prompted: int) -> str:
    """What a caller's silence is met with next, after so many idle prompts."""
    texts = [*agent.turns.idle_prompts, agent.turns.idle_goodbye]
    return texts[min(prompted, len(texts) - 1)]
