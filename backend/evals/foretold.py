"""What a person should know before an agent is tried: what it goes without, which requests are real."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from backend.core.agent import Agent
from backend.core.agent_secrets import unset_secrets
from backend.settings import Settings, secret_value
from backend.thinking import lack_of_model


def foretold(
    agent: Agent, settings: Settings, secrets: Mapping[str, str], *, webhooks: bool
) -> Iterator[str]:
    """A sentence each. `webhooks`: whether its webhook actions are sent; if not, the call says so when one
    comes up."""
    lack = lack_of_model(agent, settings.openai_base_url, has_key=bool(secret_value(settings.openai_api_key)))
    if lack is not None:
        yield f"{agent.name}: {lack}"
    yield from unset_secrets(agent, secrets)
    if agent.tools:
        names = ", ".join(tool.name for tool in agent.tools)
        yield f"{agent.name}: its tools are real: whenever one is used, its request is sent ({names})."
    if webhooks and _sends_webhooks(agent):
        yield f"{agent.name}: its webhook actions are real: each is sent."


def _sends_webhooks(agent: Agent) -> bool:
    nodes = agent.call_flow.nodes if agent.call_flow else ()
    return any(action.type == "webhook" for node in nodes for action in node.actions)
