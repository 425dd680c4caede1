"""How agents may speak on this machine: settings and an agent's wishes become routes, best first.

A part of the composition root, and the only file that names the speech routes.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from backend.calls.boards.pods import ROUTES, Pods
from backend.calls.boards.probes import Probe, Probes
from backend.calls.boards.route_board import RouteBoard
from backend.calls.ports import RoutePlan, SpeechRoute
from backend.core.agent import Agent
from backend.core.health import RouteHealth, RouteKey
from backend.core.speech import RouteName
from backend.core.urls import websocket_url
from backend.errors import SpeechError
from backend.settings import Settings, secret_value
from backend.speech_chain import SpeechChain
from backend.supervision import Supervisor
from backend.tts.elevenlabs_account import ElevenLabsAccount
from backend.tts.elevenlabs_rest import ElevenLabsRestService
from backend.tts.elevenlabs_ws import ElevenLabsWebSocketService
from backend.tts.hosted import HostedInferenceService
from backend.tts.http import make_client
from backend.tts.sesame_health import SesameHealth
from backend.tts.sesame_rest import SesameRestService
from backend.tts.sesame_ws import SesameWebSocketService

log = logging.getLogger(__name__)

_FIRST_LOOK_S = 3.0


class SpeechRoutes:
    """Every route there is. Use as `async with`: probes run meanwhile, connections are closed at the end."""

    def __init__(
        self,
        settings: Settings,
        board: RouteBoard,
        agents: Callable[[], Sequence[Agent]],
        clock: Callable[[], float],
        supervisor: Supervisor | None = None,
    ) -> None:
        self._settings, self._board, self._agents = settings, board, agents
        self.chain = SpeechChain(settings)
        self._supervisor = supervisor or Supervisor()
        self._sesame_key = secret_value(settings.sesame_api_key)
        self._elevenlabs_key = secret_value(settings.elevenlabs_api_key)
        self._http = make_client()  # of all calls and probes: connections are kept
        self._health = SesameHealth(api_key=self._sesame_key)
        self._account = ElevenLabsAccount(
            settings.elevenlabs_base_url, api_key=self._elevenlabs_key or "", http=self._http
        )
        self_hosted = settings.sesame_enabled and settings.sesame_self_hosted
        urls = settings.sesame_server_urls if self_hosted else ()
        self.pods = Pods(urls, self._health.look, board, clock, wanted=self._pods_wanted)
        self._probes = Probes(board, lambda: list(self._looks()), clock)
        self._told: dict[str, tuple[str, ...]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> SpeechRoutes:
        self._tasks = [
            asyncio.create_task(self._supervisor.keep("speech servers", self.pods.run)),
            asyncio.create_task(self._supervisor.keep("speech vendors", self._probes.run)),
            asyncio.create_task(self._import_vendors(), name="import vendors"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection and stop looking, also where looking never began."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._health.aclose()
        await self._http.aclose()

    async def _import_vendors(self) -> None:
        """An SDK takes a second to import, which must not fall into a call."""
        if self._elevenlabs_key:
            await asyncio.to_thread(
                ElevenLabsRestService,
                self._settings.elevenlabs_base_url,
                api_key=self._elevenlabs_key,
                voice_id="",
                http=self._http,
            )

    # --- for calls -------------------------------------------------------------------------------------

    def plans(self, agent: Agent, *, count: bool = True) -> list[RoutePlan]:
        """The agent's routes for one call, best first; the carrier's own voice is none of them.

        `count`: a call follows; False when speech is only made ahead. What cannot be had is left out, and
        told once.
        """
        plans: list[RoutePlan] = []
        taken: dict[RouteName, list[str]] = {}
        problems: list[str] = []
        # The server remembers by it what a call said before; what is made ahead must not depend on that.
        context_id = f"call-{secrets.token_hex(8)}" if count else None
        for name in self.chain.wishes(agent):
            if lack := self.chain.lack(name, agent):
                problems.append(f"{name}: {lack.what}")
            elif name in ROUTES:
                plans += self._pod_plans(name, agent, taken, context_id, count=count and not plans)
            else:
                plans.append(self._plan(name, agent))
        if plans and agent.tts_fallbacks is None:
            plans[0] = replace(plans[0], asked_anew=True)
        self._tell(agent, problems, plans)
        return plans

    def plans_ahead(self, agent: Agent) -> list[RoutePlan]:
        """`plans`, for speech that is made ahead."""
        return self.plans(agent, count=False)

    async def maker(self, plan: RoutePlan) -> str:
        """What answers behind a route, as far as it tells: engine and model. Raises SpeechError: not now."""
        if plan.key.name not in ROUTES:
            return plan.key.server
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_LOOK_S):
                await self.pods.looked()
        report = self.pods.report(plan.key.server)
        if report is None:
            if (problem := self.pods.problem(plan.key.server)) is not None:
                raise SpeechError(str(problem), route=plan.key.name, reason=problem.reason)
            what = f"Sesame speech server at {plan.key.server}: it did not answer lately"
            raise SpeechError(what, route=plan.key.name, reason="unreachable")
        return f"{report.engine} {report.model}"

    # --- for people ------------------------------------------------------------------------------------

    async def health(self) -> list[RouteHealth]:
        """How every route does that some agent may use."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_LOOK_S):
                await self.pods.looked()
                await self._probes.looked.wait()
        return self.health_now()

    def health_now(self) -> list[RouteHealth]:
        """The same, as far as it is known; and the agents that have no route at all."""
        return self._board.health(self._keys()) + list(self._voiceless())

    def chains(self) -> dict[str, str]:
        """Each agent's voices in order, by its id, in words."""
        return {agent.id: self.chain.told(agent) for agent in self._agents()}

    # --- which routes ----------------------------------------------------------------------------------

    def everywhere(self, name: RouteName, agent: Agent) -> list[RoutePlan]:
        """One route to every server it leads to, whatever is known of them. It must not be lacking."""
        if name in ROUTES:
            return [self._pod_plan(name, agent, url) for url in self.pods.urls]
        return [self._plan(name, agent)]

    def _tell(self, agent: Agent, problems: Sequence[str], plans: Sequence[RoutePlan]) -> None:
        if self._told.get(agent.id, ()) == (told := tuple(problems)):
            return
        self._told[agent.id] = told
        if told:
            left = "it has no voice left, and its callers hear an apology"
            if plans:
                left = "the others serve"
            elif agent.falls_back_on_carrier:
                left = "the carrier's own voice serves"
            log.warning("agent %s cannot speak by %s; %s", agent.id, "; ".join(told), left)

    def _pod_plans(
        self,
        name: RouteName,
        agent: Agent,
        taken: dict[RouteName, list[str]],
        context_id: str | None,
        *,
        count: bool,
    ) -> Iterator[RoutePlan]:
        """The best server, and another to fall back on where there is one."""
        # The other route's servers come last: when this one is asked, those have just failed.
        used = {url for urls in taken.values() for url in urls}
        mine: list[str] = []
        for _ in range(2):
            url = self.pods.choose(name, used | set(mine), count=count and not mine)
            if url is None:
                url = self.pods.choose(name, mine, count=count and not mine)
            if url is None:
                break
            mine.append(url)
        taken[name] = mine
        for url in mine:
            yield self._pod_plan(name, agent, url, context_id)

    def _pod_plan(self, name: RouteName, agent: Agent, url: str, context_id: str | None = None) -> RoutePlan:
        make = partial(self._pod_route, name, agent, url, context_id)
        return RoutePlan(RouteKey(name, url), _sesame_voice(agent), make)

    def _plan(self, name: RouteName, agent: Agent) -> RoutePlan:
        key = self._key(name)
        voice, speed = _sesame_voice(agent), 1.0
        if name.startswith("elevenlabs"):
            voice = self.chain.elevenlabs_voice(agent) or ""
            speed = agent.elevenlabs_settings.speed or 1.0
        makers: dict[RouteName, Callable[[Agent], SpeechRoute]] = {
            "sesame_hosted": self._hosted_route,
            "sesame_fallback": self._fallback_route,
            "elevenlabs": self._elevenlabs_route,
            "elevenlabs_rest": self._elevenlabs_rest_route,
        }
        return RoutePlan(key, voice, partial(makers[name], agent), speed=speed)

    def _key(self, name: RouteName) -> RouteKey:
        servers = {
            "sesame_hosted": self._settings.sesame_url,
            "sesame_fallback": self._settings.sesame_fallback_url,
        }
        return RouteKey(name, servers.get(name) or self._settings.elevenlabs_base_url)

    # --- making them -----------------------------------------------------------------------------------

    def _pod_route(self, name: RouteName, agent: Agent, url: str, context_id: str | None) -> SpeechRoute:
        given, speaker_id = _sesame_settings(agent), agent.sesame_settings.speaker_id
        if name == "sesame_ws":
            return SesameWebSocketService(
                websocket_url(url, "/ws/generate"),
                api_key=self._sesame_key,
                speaker_id=speaker_id,
                context_id=context_id,
                settings=given,
            )
        return SesameRestService(
            f"{url}/generate",
            api_key=self._sesame_key,
            speaker_id=speaker_id,
            settings=_without(given, "chunk_samples"),
            http=self._http,
        )

    def _fallback_route(self, agent: Agent) -> SpeechRoute:
        url = self._settings.sesame_fallback_url or ""
        return SesameRestService(
            url if url.endswith("/generate") else f"{url}/generate",
            name="sesame_fallback",
            api_key=secret_value(self._settings.sesame_fallback_api_key),
            speaker_id=agent.sesame_settings.speaker_id,
            settings=_without(_sesame_settings(agent), "chunk_samples"),
            http=self._http,
        )

    def _hosted_route(self, agent: Agent) -> SpeechRoute:
        # A hosted model knows neither our speakers nor our lengths.
        given = _sesame_settings(agent)
        known = {name: value for name, value in given.items() if name in ("temperature", "top_k")}
        return HostedInferenceService(
            self._settings.sesame_url or "", api_key=self._sesame_key, parameters=known, http=self._http
        )

    def _elevenlabs_route(self, agent: Agent) -> SpeechRoute:
        return ElevenLabsWebSocketService(self._settings.elevenlabs_base_url, **self._elevenlabs(agent))

    def _elevenlabs_rest_route(self, agent: Agent) -> SpeechRoute:
        return ElevenLabsRestService(
            self._settings.elevenlabs_base_url, http=self._http, **self._elevenlabs(agent)
        )

    def _elevenlabs(self, agent: Agent) -> dict[str, Any]:
        wanted = agent.elevenlabs_settings
        return {
            "api_key": self._elevenlabs_key or "",
            "voice_id": self.chain.elevenlabs_voice(agent) or "",
            "model_id": wanted.model_id,
            "voice_settings": wanted.model_dump(exclude_none=True, exclude={"voice_id", "model_id"}),
            "language": agent.language,
        }

    # --- looking at them -------------------------------------------------------------------------------

    def _voiceless(self) -> Iterator[RouteHealth]:
        """Agents that cannot speak, by what they speak by first."""
        for agent in self._agents():
            wishes = self.chain.wishes(agent)
            lacks = [self.chain.lack(name, agent) for name in wishes]
            if all(lacks) and not agent.falls_back_on_carrier:
                told = "; ".join(f"{lack.what}: {lack.remedy}" for lack in lacks if lack)
                detail = f"Agent {agent.id} has no voice, its callers hear an apology. {told}."
                yield RouteHealth(wishes[0], "down", detail)

    def _keys(self) -> list[RouteKey]:
        keys: dict[RouteKey, None] = {}
        for agent in self._agents():
            for name in self.chain.wishes(agent):
                if self.chain.lack(name, agent) is None:
                    servers = self.pods.urls if name in ROUTES else (self._key(name).server,)
                    keys |= dict.fromkeys(RouteKey(name, server) for server in servers)
        return list(keys)

    def _looks(self) -> Iterator[Probe]:
        """What vendors there are to look at, for the agents as they are now."""
        keys = [key for key in self._keys() if key.name not in ROUTES]
        elevenlabs = tuple(key for key in keys if key.name.startswith("elevenlabs"))
        if elevenlabs:
            yield Probe(elevenlabs, self._account.look)
            for voice_id in sorted(self._voices()):
                yield Probe(elevenlabs, self._voice_look(voice_id), voice_id)
        for key in keys:
            if key in elevenlabs:
                continue
            if key.name == "sesame_hosted" and self._board.health([key])[0].state == "up":
                continue  # asking again and again would keep awake what is paid for by the hour
            agent = next(agent for agent in self._agents() if key.name in self.chain.wishes(agent))
            yield Probe((key,), self._connecting(self._plan(key.name, agent)))

    def _pods_wanted(self) -> bool:
        return any(name in ROUTES for agent in self._agents() for name in self.chain.wishes(agent))

    def _voices(self) -> Collection[str]:
        return {
            voice_id
            for agent in self._agents()
            if (voice_id := self.chain.elevenlabs_voice(agent)) is not None
            and any(name.startswith("elevenlabs") for name in self.chain.wishes(agent))
        }

    def _voice_look(self, voice_id: str) -> Callable[[], Awaitable[str]]:
        async def look() -> str:
            await self._account.look_up(voice_id)
            return ""

        return look

    def _connecting(self, plan: RoutePlan) -> Callable[[], Awaitable[str]]:
        async def look() -> str:
            route = plan.make()
            try:
                await route.connect()
            finally:
                await route.aclose()
            return "answers"

        return look


def _sesame_settings(agent: Agent) -> dict[str, Any]:
    return agent.sesame_settings.model_dump(exclude_none=True, exclude={"speaker_id"})


def _sesame_voice(agent: Agent) -> str:
    return agent.sesame_settings.voice or str(agent.sesame_settings.speaker_id)


def _without(settings: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != name}
