"""How agents may think on this machine: settings and an agent's wishes become a language model and tools.

A part of the composition root.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from backend.calls.boards.llm_board import LlmBoard
from backend.core.agent import Agent
from backend.core.agent_settings import LlmSettings
from backend.core.llm_health import LlmHealth
from backend.llm.agent_model import llm_keys, model_of
from backend.llm.openai import OpenAiModel
from backend.llm.openai import make_http_client as make_model_client
from backend.llm.tools import HttpToolbox
from backend.llm.tools import make_http_client as make_tool_client
from backend.llm.webhook import WebhookSender
from backend.settings import Settings, secret_value

log = logging.getLogger(__name__)

_OPENAI = "api.openai.com"
_MAX_MODELS = 256  # agents' files change seldom; beyond it the oldest is made anew when asked for
_CLOSING_S = 2.0


def lack_of_model(agent: Agent, openai_base_url: str, *, has_key: bool) -> str | None:
    """Why an agent goes without its language model, and what to do; None: it does not."""
    url = agent.llm.base_url or openai_base_url
    if agent.llm.provider == "none" or urlsplit(url).hostname != _OPENAI:
        return None
    if agent.llm.api_key is None and not has_key:
        return "it has no language model: set OPENAI_API_KEY, or OPENAI_BASE_URL to another server"
    return None


class Thinking:
    """The language models, tools and webhooks of a process. `aclose` it after the last call."""

    def __init__(
        self,
        settings: Settings,
        secrets: Mapping[str, str],
        board: LlmBoard,
        agents: Callable[[], Sequence[Agent]] = tuple,
    ) -> None:
        """`agents`: those whose models `health_now` tells of."""
        self._settings, self._secrets = settings, secrets
        self._board, self._agents = board, agents
        self._key = secret_value(settings.openai_api_key)
        self._model_http, self._tool_http = make_model_client(), make_tool_client()
        self._models: dict[LlmSettings, OpenAiModel | None] = {}
        self.webhook = WebhookSender(self._tool_http).send

    def language_model(self, agent: Agent) -> OpenAiModel | None:
        """What the agent thinks by, the same for all its calls; None: the call flow alone decides."""
        if self.lack(agent) is not None:
            return None
        if agent.llm not in self._models:
            while len(self._models) >= _MAX_MODELS:
                del self._models[next(iter(self._models))]  # it has no connections of its own
            self._models[agent.llm] = model_of(
                agent.llm,
                base_url=self._settings.openai_base_url,
                api_key=self._key,
                secrets=self._secrets,
                http=self._model_http,
                gate=self._board.gate,
            )
        return self._models[agent.llm]

    def toolbox(self, agent: Agent, variables: MutableMapping[str, str]) -> HttpToolbox | None:
        """The agent's tools, for one call."""
        if not agent.tools:
            return None
        return HttpToolbox(agent.tools, variables=variables, secrets=self._secrets, http=self._tool_http)

    def lack(self, agent: Agent) -> str | None:
        """Why the agent goes without its language model, and what to do; None: it does not."""
        return lack_of_model(agent, self._settings.openai_base_url, has_key=bool(self._key))

    def health_now(self) -> list[LlmHealth]:
        """How every model does that some agent may ask."""
        url, has_key = self._settings.openai_base_url, bool(self._key)
        agents = [agent for agent in self._agents() if self.lack(agent) is None]
        keys = [key for agent in agents for key in llm_keys(agent.llm, base_url=url, has_key=has_key)]
        return self._board.health(keys)

    async def aclose(self) -> None:
        """Close every connection, within two seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING_S):
                await asyncio.gather(self._model_http.aclose(), self._tool_http.aclose())
