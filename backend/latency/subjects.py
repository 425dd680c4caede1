"""Which routes there are to measure, in whose voice; and which are not set up, and what to do about it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from backend.calls.boards.route_board import RouteBoard
from backend.calls.ports import SpeechRoute
from backend.core.agent import Agent
from backend.core.health import RouteKey
from backend.core.speech import ROUTE_NAMES, RouteName
from backend.core.spoken_text import words_of
from backend.errors import ConfigError
from backend.settings import Settings
from backend.speech_routes import SpeechRoutes
from backend.tts.http import shown

LONGEST_TEXT = 1_000
_MEASURED = tuple(name for name in ROUTE_NAMES if name != "telnyx")


@dataclass(frozen=True, slots=True)
class Subject:
    """A route to one server, in one agent's voice. `open`: a new one, with no connection kept from before."""

    label: str
    server: str
    """Its address, without what may be a secret."""
    key: RouteKey
    voice: str
    agent: str
    text: str
    """As the voice is given it."""
    open: Callable[[], AbstractAsyncContextManager[SpeechRoute]]


@dataclass(frozen=True, slots=True)
class Choice:
    """What to measure, and what cannot be: route → what to set."""

    subjects: tuple[Subject, ...]
    not_configured: dict[RouteName, str]


def route_names(given: Sequence[str]) -> list[RouteName]:
    """Route names as a person gave them. Raises ConfigError."""
    if "telnyx" in given:
        raise ConfigError(
            "--route telnyx: the carrier's own voice speaks in calls only; it cannot be measured without one"
        )
    if unknown := [name for name in given if name not in _MEASURED]:
        raise ConfigError(f"--route {unknown[0]}: there is no such route; choose from {', '.join(_MEASURED)}")
    return [name for name in _MEASURED if name in given]


async def choose(
    settings: Settings,
    agents: Sequence[Agent],
    text: str,
    *,
    agent: Agent | None = None,
    names: Sequence[RouteName] = (),
) -> Choice:
    """Every route, or those of one agent, or those named; each in the voice of an agent that may use it.

    Raises ConfigError when nothing is left to measure, or there is nothing in `text` to speak.
    """
    subjects: list[Subject] = []
    lacking: dict[RouteName, str] = {}
    routes = _routes(settings, agents)
    try:
        for name in names or (_MEASURED if agent is None else routes.chain.wishes(agent)):
            speakers = [agent] if agent is not None else _by_wish(name, agents, routes)
            lacks = [routes.chain.lack(name, speaker) for speaker in speakers]
            if None in lacks:
                speaker = speakers[lacks.index(None)]
                subjects += _subjects(settings, routes, name, speaker, text)
            else:
                lacking[name] = next(lack.remedy for lack in lacks if lack is not None)
    finally:
        await routes.aclose()
    if not subjects:
        what = "; ".join(f"{name}: {remedy}" for name, remedy in lacking.items())
        raise ConfigError(f"no speech route is configured that could be measured: {what}")
    return Choice(tuple(subjects), lacking)


def _by_wish(name: RouteName, agents: Sequence[Agent], routes: SpeechRoutes) -> list[Agent]:
    """Those first that would speak by it."""
    return sorted(agents, key=lambda agent: name not in routes.chain.wishes(agent))


def _subjects(
    settings: Settings, routes: SpeechRoutes, name: RouteName, agent: Agent, text: str
) -> list[Subject]:
    plans = routes.everywhere(name, agent)
    spoken = _spoken(text, agent)
    return [
        Subject(
            name if len(plans) == 1 else f"{name} {number}", shown(plan.key.server), plan.key,
            plan.voice_id, agent.name, spoken, partial(_opened, settings, agent, plan.key),
        )
        for number, plan in enumerate(plans, 1)
    ]  # fmt: skip


def _spoken(text: str, agent: Agent) -> str:
    if len(text) > LONGEST_TEXT:
        raise ConfigError(f"--text: {len(text)} characters are too many; give at most {LONGEST_TEXT}")
    spoken = " ".join(word.spoken for word in words_of(text, agent.language) if word.spoken)
    if not spoken:
        raise ConfigError("--text: there is nothing in it that can be spoken; give a sentence")
    return spoken


@asynccontextmanager
async def _opened(settings: Settings, agent: Agent, key: RouteKey) -> AsyncIterator[SpeechRoute]:
    routes = _routes(settings, [agent])
    try:
        plan = next(plan for plan in routes.everywhere(key.name, agent) if plan.key == key)
        route = plan.make()
        try:
            yield route
        finally:
            await route.aclose()
    finally:
        await routes.aclose()


def _routes(settings: Settings, agents: Sequence[Agent]) -> SpeechRoutes:
    """Not entered: nothing looks at the servers meanwhile."""
    return SpeechRoutes(settings, RouteBoard(lambda: 0.0), lambda: agents, lambda: 0.0)
