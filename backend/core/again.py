"""What is said to a caller who was not understood, or is silent. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from backend.core.agent import Agent
from backend.core.call_flow import Node
from backend.core.templates import render_all


def last_question(text: str) -> str:
    """The last sentence, or the last that asks something."""
    sentences = re.split(r"(?<=[.!?])\s+", text)
    return next((item for item in reversed(sentences) if item.endswith("?")), sentences[-1])


def reprompt_texts(
    agent: Agent, node: Node, question: str, read_back: str | None, variables: Mapping[str, str]
) -> tuple[str, ...]:
    """The question again. `read_back`: the question whether a value is right, if that was the last one."""
    if node.reprompt and read_back is None:
        return render_all((node.reprompt,), variables)
    say = render_all((agent.turns.reprompt,), variables)
    return (*say, read_back or question) if read_back or question else say


def idle_text(agent: Agent, prompted: int) -> str:
    """What a caller's silence is met with next, after so many idle prompts."""
    texts = [*agent.turns.idle_prompts, agent.turns.idle_goodbye]
    return texts[min(prompted, len(texts) - 1)]
