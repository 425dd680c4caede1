"""Which voices an agent has, in order: what its file asks for, or the complete chain of what is set up.

A part of the composition root beside `backend.speech_routes`. Asks nobody: settings and the file tell.
"""

from __future__ import annotations

from dataclasses import dataclass

from backend.calls.boards.pods import ROUTES
from backend.core.agent import Agent
from backend.core.speech import RouteName
from backend.settings import Settings


@dataclass(frozen=True, slots=True)
class Lack:
    """What a route needs and has not: what is wrong, and what to do."""

    what: str
    remedy: str


class SpeechChain:
    """The routes of agents as these settings have it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def wishes(self, agent: Agent) -> list[RouteName]:
        """The routes of our own making, in order, each once; the carrier's own voice is left out.

        Those that the file asks for are in it even when they cannot be had; of the chain that an agent has
        whose file is silent about fallbacks, only what is set up.
        """
        first = self._first(agent)
        if agent.tts_fallbacks is not None:
            given: list[RouteName] = [first, *agent.tts_fallbacks]
            return [name for name in dict.fromkeys(given) if name != "telnyx"]
        others = [name for name in self._everything(agent, first) if self.lack(name, agent) is None]
        return list(dict.fromkeys([first, *others]))

    def told(self, agent: Agent) -> str:
        """The whole chain in one line, for people: what speaks, in order, and what was asked for in vain."""
        wishes = self.wishes(agent)
        has_key = agent.tts_fallbacks is None and self._settings.elevenlabs_api_key is not None
        if has_key and not any(name.startswith("elevenlabs") for name in wishes):
            # Who gave a key means to be spoken for: what is missing beside it is told.
            others = self._everything(agent, wishes[0])
            wishes.append(next(name for name in others if name.startswith("elevenlabs")))
        lacks = {name: lack for name in wishes if (lack := self.lack(name, agent)) is not None}
        chain = [name for name in wishes if name not in lacks]
        if agent.falls_back_on_carrier:
            chain.append("telnyx")
        vain = "".join(f"; not by {name}: {lack.what}" for name, lack in lacks.items())
        return (" → ".join(chain) or "no voice") + vain

    def lack(self, name: RouteName, agent: Agent) -> Lack | None:
        """Why a route cannot be had; None when it can."""
        settings = self._settings
        if name.startswith("sesame") and not settings.sesame_enabled:
            return Lack("SESAME_ENABLED is false", "set SESAME_ENABLED=true")
        if name in ROUTES and not settings.sesame_self_hosted:
            return Lack("SESAME_SELF_HOSTED is false", "set SESAME_SELF_HOSTED=true")
        if name == "sesame_hosted" and settings.sesame_self_hosted:
            return Lack("SESAME_SELF_HOSTED is true", "set SESAME_SELF_HOSTED=false and SESAME_URL")
        if name == "sesame_hosted" and not settings.sesame_url:
            return Lack("SESAME_URL is not set, and SESAME_SELF_HOSTED is false", "set SESAME_URL")
        if name == "sesame_fallback" and not settings.sesame_fallback_enabled:
            remedy = "set SESAME_FALLBACK_ENABLED=true" + (
                "" if settings.sesame_fallback_url else " and SESAME_FALLBACK_URL"
            )
            return Lack("SESAME_FALLBACK_ENABLED is false", remedy)
        if name == "sesame_fallback" and not settings.sesame_fallback_url:
            return Lack("SESAME_FALLBACK_URL is not set", "set SESAME_FALLBACK_URL")
        if name.startswith("elevenlabs") and settings.elevenlabs_api_key is None:
            return Lack("ELEVENLABS_API_KEY is not set", "set ELEVENLABS_API_KEY")
        if name.startswith("elevenlabs") and self.elevenlabs_voice(agent) is None:
            what = "elevenlabs_settings.voice_id is not set, nor ELEVENLABS_VOICE_ID"
            return Lack(what, "set elevenlabs_settings.voice_id in the agent's file, or ELEVENLABS_VOICE_ID")
        return None

    def elevenlabs_voice(self, agent: Agent) -> str | None:
        """The agent's voice there, or that of agents that name none."""
        return agent.elevenlabs_settings.voice_id or self._settings.elevenlabs_voice_id

    def _first(self, agent: Agent) -> RouteName:
        if agent.tts_provider == "elevenlabs":
            return "elevenlabs" if agent.use_websocket_tts else "elevenlabs_rest"
        if not self._settings.sesame_self_hosted:
            return "sesame_hosted"
        return "sesame_ws" if agent.use_websocket_tts else "sesame_rest"

    def _everything(self, agent: Agent, first: RouteName) -> list[RouteName]:
        """All that may follow the first, whether it is set up or not: the same voice before another."""
        sesame: list[RouteName] = ["sesame_rest", "sesame_hosted", "sesame_fallback"]
        elevenlabs: list[RouteName] = ["elevenlabs"]
        if not agent.use_websocket_tts:  # as where no WebSocket comes through
            elevenlabs = ["elevenlabs_rest"]
        if agent.tts_provider == "sesame":
            return [*sesame, *elevenlabs]
        if "sesame_self_hosted_url" in self._settings.model_fields_set:
            sesame = ["sesame_ws", *sesame] if agent.use_websocket_tts else sesame
        else:  # nobody said that there is a speech server
            sesame = ["sesame_hosted", "sesame_fallback"]
        return ["elevenlabs_rest", *sesame]
