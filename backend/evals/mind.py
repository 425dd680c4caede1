"""This machine's language models and tools, from its settings, for calls in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

from backend.calls.ports import Toolbox
from backend.core.agent import Agent
from backend.evals.text_call import Mind, OpenMind
from backend.evals.thinking import ToolUse, WaitedModel, WatchedToolbox
from backend.settings import Settings
from backend.thinking import Thinking


def thinking_mind(thinking: Thinking, stack: AsyncExitStack, told: Callable[[ToolUse], None]) -> Mind:
    """What the agents of one call think by; `stack` closes it."""
    stack.push_async_callback(thinking.aclose)

    def toolbox(agent: Agent, variables: Mapping[str, str]) -> Toolbox | None:
        tools = thinking.toolbox(agent, variables)
        return None if tools is None else WatchedToolbox(tools, told)

    def model(agent: Agent) -> WaitedModel | None:
        found = thinking.language_model(agent)
        return None if found is None else WaitedModel(found)

    return Mind(model, toolbox)


def mind_of(settings: Settings, secrets: Mapping[str, str]) -> OpenMind:
    """One for each call: connections belong to the loop that opened them."""

    async def open_mind(stack: AsyncExitStack, told: Callable[[ToolUse], None]) -> Mind:
        return thinking_mind(Thinking(settings, secrets), stack, told)

    return open_mind


def mind_settings(settings: Settings, secrets: Mapping[str, str]) -> dict[str, str]:
    """The same as settings of a backend process of its own."""
    key = settings.openai_api_key
    return {
        **secrets,
        "AGENT_SECRETS": settings.agent_secrets,
        "OPENAI_BASE_URL": settings.openai_base_url,
        **({} if key is None else {"OPENAI_API_KEY": key.get_secret_value()}),
    }
