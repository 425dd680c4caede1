"""How agents may hear on this machine: settings and an agent's wishes become routes, best first.

A part of the composition root, and the only file that names the speech-to-text routes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from backend.calls.boards.ears_board import EarsBoard
from backend.calls.hearing.ears import Ears
from backend.calls.ports import Clock, EarPlan, StartHearing, Transcriber
from backend.core.agent import Agent
from backend.core.health import RouteHealth
from backend.core.hearing import CarrierHearing, EarKey, EarName
from backend.errors import ConfigError
from backend.settings import Settings, secret_value
from backend.stt.absent import AbsentTranscriber
from backend.stt.elevenlabs import DEFAULT_MODEL as SCRIBE
from backend.stt.elevenlabs import ElevenLabsTranscriber
from backend.stt.openai import DEFAULT_MODEL, OpenAiTranscriber, make_client
from backend.stt.telnyx import TelnyxTranscriber

log = logging.getLogger(__name__)

_OPENAI = "api.openai.com"
# Of the time for an utterance: after it, the carrier's words need not be final, and none are none.
_FINAL_SHARE, _SILENCE_SHARE = 0.7, 0.95
_ALONE_S = 3.0  # likewise, where nobody else would hear them
_HERE = EarKey("local", "this machine")


class HearingRoutes:
    """Every speech-to-text route there is, for all calls of a process."""

    def __init__(
        self,
        settings: Settings,
        board: EarsBoard,
        agents: Callable[[], Sequence[Agent]],
        clock: Clock,
        local: Transcriber,
    ) -> None:
        self._settings, self._board, self._agents, self._clock = settings, board, agents, clock
        self._local = local
        self._http = make_client()
        self._told: dict[str, tuple[str, ...]] = {}

    async def aclose(self) -> None:
        """Close every connection that calls share."""
        await self._http.aclose()

    def ears(self, agent: Agent, start_hearing: StartHearing) -> Ears:
        """The agent's routes, for one call."""
        return Ears(
            self.plans(agent),
            board=self._board,
            clock=self._clock,
            start_hearing=start_hearing,
            timeout_ms=agent.stt.timeout_ms,
            key_terms=agent.stt.key_terms,
        )

    def plans(self, agent: Agent) -> list[EarPlan]:
        """The agent's routes, best first, never none. What cannot be had is left out, and told once."""
        names = list(dict.fromkeys((agent.stt.provider, *agent.stt.fallbacks)))
        lacks = {name: lack for name in names if (lack := self.lack(name, agent))}
        names = [name for name in names if name not in lacks]
        here = self.lack("local", agent) is None
        if "local" not in names and (not names or (here and agent.language.startswith("en"))):
            names.append("local")  # it costs nothing until it is asked; without it, its failure says why
        self._tell(agent, tuple(f"{name}: {lack}" for name, lack in lacks.items()), names[0])
        return [self._plan(name, agent, alone=len(names) == 1) for name in names]

    def lack(self, name: EarName, agent: Agent) -> str | None:
        """What a route needs and has not, and what to do; None when nothing."""
        settings = self._settings
        if name == "local" and isinstance(self._local, AbsentTranscriber):
            return self._local.lack
        openai_url = agent.stt.base_url or settings.openai_base_url
        if name == "openai" and urlsplit(openai_url).hostname == _OPENAI and not self._openai_key(agent):
            key = "STT_API_KEY" if agent.stt.base_url else "OPENAI_API_KEY"
            return f"{key} is not set: set it, or stt.base_url in the agent's file"
        if name == "elevenlabs" and not settings.elevenlabs_api_key:
            return "ELEVENLABS_API_KEY is not set: set it"
        if name == "telnyx" and not settings.telnyx_api_key:
            return "TELNYX_API_KEY is not set: set it"
        return None

    def must_hear_somebody(self) -> None:
        """Raises ConfigError when there are agents, and no route of any of them can be had."""
        agents = self._agents()
        if not isinstance(self._local, AbsentTranscriber) or any(map(self._hears, agents)) or not agents:
            return
        lacks = {
            name: self.lack(name, agent)
            for agent in agents
            for name in (agent.stt.provider, *agent.stt.fallbacks)
        }
        told = "; ".join(f"{name}: {lack}" for name, lack in lacks.items())
        if "local" in lacks:
            told += "; or give an agent's `stt` another provider (telnyx, openai, elevenlabs), and its key"
        raise ConfigError(f"no agent can hear: {told}")

    def _hears(self, agent: Agent) -> bool:
        return any(self.lack(name, agent) is None for name in (agent.stt.provider, *agent.stt.fallbacks))

    def health_now(self) -> list[RouteHealth]:
        """How every route does that some agent may use."""
        keys = [plan.key for agent in self._agents() for plan in self.plans(agent)]
        return self._board.health(keys)

    async def health(self) -> list[RouteHealth]:
        """The same."""
        return self.health_now()

    def _plan(self, name: EarName, agent: Agent, *, alone: bool) -> EarPlan:
        settings = self._settings
        model = agent.stt.model if name == agent.stt.provider else None
        if name == "openai":
            url = agent.stt.base_url or settings.openai_base_url
            transcriber = OpenAiTranscriber(
                url,
                http=self._http,
                api_key=self._openai_key(agent) or "",
                model=model or DEFAULT_MODEL,
                language=agent.language,
                key_terms=agent.stt.key_terms,
            )
            return EarPlan(EarKey(name, url), lambda _: transcriber)
        if name == "elevenlabs":
            url = settings.elevenlabs_base_url
            return EarPlan(
                EarKey(name, url),
                lambda _: ElevenLabsTranscriber(
                    url,
                    api_key=secret_value(settings.elevenlabs_api_key) or "",
                    model=model or SCRIBE,
                    language=agent.language,
                    key_terms=agent.stt.key_terms,
                ),
            )
        if name == "telnyx":
            order = CarrierHearing(model, agent.language, agent.stt.key_terms)
            timeout_s = agent.stt.timeout_ms / 1000
            silence_s = max(_ALONE_S, timeout_s) if alone else timeout_s * _SILENCE_SHARE
            return EarPlan(
                EarKey(name, settings.telnyx_base_url),
                lambda start: TelnyxTranscriber(
                    lambda: start(order),
                    patience_s=timeout_s * _FINAL_SHARE,
                    silence_s=silence_s,
                    alone=alone,
                ),
                early=True,
            )
        return EarPlan(_HERE, lambda _: self._local)

    def _openai_key(self, agent: Agent) -> str | None:
        """A key goes to the server it was given for, and to no other."""
        return secret_value(
            self._settings.stt_api_key if agent.stt.base_url else self._settings.openai_api_key
        )

    def _tell(self, agent: Agent, lacks: tuple[str, ...], first: str) -> None:
        if self._told.get(agent.id, ()) != lacks:
            self._told[agent.id] = lacks
            if not self._hears(agent) and isinstance(self._local, AbsentTranscriber):
                log.error("agent %s: nothing hears its callers: %s", agent.id, "; ".join(lacks))
                return
            for lack in lacks:
                log.warning("agent %s hears without %s; %s hears first", agent.id, lack, first)
            if lacks and first == "local" and not agent.language.startswith("en"):
                log.error(
                    "agent %s: nothing hears %s: callers will not be understood", agent.id, agent.language
                )
