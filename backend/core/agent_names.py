"""What people call an agent, and what to say when there is none of that name."""

from __future__ import annotations

from collections.abc import Sequence

from backend.core.agent import Agent
from backend.core.agent_checks import nearest


def slug(name: str) -> str:
    """The name in small letters and hyphens: `Front desk` is `front-desk`."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def named(agents: Sequence[Agent], wanted: str) -> Agent | None:
    """The agent of that id, or else the first of that name or of that slug of its name."""
    by_id = (agent for agent in agents if agent.id.lower() == wanted.lower())
    by_name = (agent for agent in agents if wanted == agent.name or wanted.lower() == slug(agent.name))
    return next(by_id, None) or next(by_name, None)


def no_agent(wanted: str, agents: Sequence[Agent]) -> str:
    """The sentence for a name that no agent has, with the nearest one or those that there are."""
    known = {agent.id for agent in agents} | {slug(agent.name) for agent in agents}
    told = f"There is no agent {wanted!r}{nearest(wanted.lower(), known)}"
    return told if told.endswith("?") else f"{told}."
