"""What a person should know before an agent is tried: what it goes without, which requests are real."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from backend.core.agent import Agent
from backend.core.agent_secrets import unset_secrets
from backend.settings import Settings, secret_value
from backend.thinking import lack_of_model


def foretold(agent: Agent, settings: Settings, secrets: Mapping[str, str]) -> Iterator[str]:
    """A sentence each, for a call in this process. That webhook actions are off, the call says when one comes
    up."""
    yield from goes_without(agent, settings, secrets)
    yield from real_requests(agent, webhooks=False)


def goes_without(agent: Agent, settings: Settings, secrets: Mapping[str, str]) -> Iterator[str]:
    """What the agent lacks; a backend process tells that by itself."""
    lack = lack_of_model(agent, settings.openai_base_url, has_key=bool(secret_value(settings.openai_api_key)))
    if lack is not None:
        yield f"{agent.name}: {lack}"
    yield from unset_secrets(agent, secrets)


def real_requests(agent: Agent, *, webhooks: bool) -> Iterator[str]:
    """Which requests of the agent's reach others. `webhooks`: whether its webhook actions are sent."""
    if agent.tools:
        names = ", ".join(tool.name for tool in agent.tools)
        yield f"{agent.name}: its tools are real: whenever one is used, its request is sent ({names})."
    if webhooks and _sends_webhooks(agent):
        yield f"{agent.name}: its webhook actions are real: each is sent."


def _sends_webhooks(agent: Agent) -> bool:
    nodes = agent.call_flow.nodes if agent.call_flow else ()
    return any(action.type == "webhook" for node in nodes for action in node.actions)
