"""This machine's language models and tools, from its settings, for calls in memory and their callers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

from backend.calls.boards.llm_board import LlmBoard
from backend.calls.ports import LanguageModel, Toolbox
from backend.core.agent import Agent
from backend.core.agent_secrets import secret_names, secret_of
from backend.core.agent_settings import LlmSettings
from backend.evals.played_call import OpenPlayer, PlayerError
from backend.evals.suite import PlayedBy
from backend.evals.text_call import Mind, OpenMind, loop_clock
from backend.evals.thinking import ToolUse, WaitedModel, WatchedToolbox
from backend.llm.agent_model import model_of
from backend.settings import Settings, secret_value
from backend.thinking import Thinking

_OPENAI = "api.openai.com"
_NOBODY = "no language model can play the caller"


def thinking_mind(
    thinking: Thinking,
    stack: AsyncExitStack,
    told: Callable[[ToolUse], None],
    timezone: str | None,
    begins: Callable[[], None] = lambda: None,
) -> Mind:
    """What the agents of one call think by; `stack` closes it. `timezone`: of agents that name none.
    `begins` is told before each use of a tool, `told` after it."""
    stack.push_async_callback(thinking.aclose)

    def toolbox(agent: Agent, variables: MutableMapping[str, str]) -> Toolbox | None:
        tools = thinking.toolbox(agent, variables)
        return None if tools is None else WatchedToolbox(tools, told, begins)

    def model(agent: Agent) -> WaitedModel | None:
        found = thinking.language_model(agent)
        return None if found is None else WaitedModel(found)

    return Mind(model, toolbox, timezone)


def mind_of(settings: Settings, secrets: Mapping[str, str]) -> OpenMind:
    """One for each call: connections belong to the loop that opened them."""

    async def open_mind(stack: AsyncExitStack) -> Mind:
        thinking = Thinking(settings, secrets, LlmBoard(loop_clock))
        return thinking_mind(thinking, stack, lambda use: None, settings.timezone)

    return open_mind


def player_of(settings: Settings, secrets: Mapping[str, str]) -> OpenPlayer:
    """Models of this machine's settings for callers to be played by."""

    def open_player(agent: Agent, played_by: PlayedBy) -> LanguageModel:
        whose = agent.llm if played_by.model is None and played_by.base_url is None else played_by
        key = secret_value(settings.openai_api_key)
        at_openai = urlsplit(whose.base_url or settings.openai_base_url).hostname == _OPENAI
        if at_openai and whose.api_key is None and not key:
            raise PlayerError(f"{_NOBODY}: set OPENAI_API_KEY, or OPENAI_BASE_URL to another server")
        if whose.api_key is not None and not secret_of(whose.api_key, secrets):
            name = secret_names(whose.api_key)[0]
            raise PlayerError(f"{_NOBODY}: set {name}, and name it in AGENT_SECRETS")
        wishes = LlmSettings(
            provider="openai",
            model=played_by.model or agent.llm.model,
            base_url=whose.base_url,
            api_key=whose.api_key,
            temperature=played_by.temperature,
            # The call's time stands still: the caller may think as long as a whole reply may take.
            first_token_ms=min(played_by.timeout_ms, 60_000),
            timeout_ms=played_by.timeout_ms,
        )
        model = model_of(wishes, base_url=settings.openai_base_url, api_key=key, secrets=secrets, http=None)
        assert model is not None
        return model

    return open_player
