"""Makes the words every caller hears before anybody calls: one piece at a time, when the voice has time.

What there is to say is `core.prompts`' matter, where it is kept the store's, and who may speak the
composition root's. A voice that fails is tried again later; a call never waits for any of this.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from backend.calls.ports import Clock, RoutePlan, SpeechRoute
from backend.calls.speaking.prepared_voice import PreparedVoice
from backend.calls.speaking.synthesis import synthesise
from backend.core.agent import Agent
from backend.core.prompts import StaticPiece, own_texts, prompt_key, static_pieces, voice_of
from backend.core.speech import Piece
from backend.errors import BackendError, SpeechError, SpeechFailure
from backend.storage.prompt_file import Prompt
from backend.storage.prompts import PromptStore

log = logging.getLogger(__name__)

_LOOK_AGAIN_MS = 60_000.0  # whether all is still there: prompts are cleared, servers change their engine
_FIRST_WAIT_MS, _LONGEST_WAIT_MS = 2_000.0, 300_000.0
_OF_THE_TEXT: frozenset[SpeechFailure] = frozenset({"bad_request", "no_audio", "generation_failed"})
_HOPELESS: frozenset[SpeechFailure] = frozenset({"unauthorized", "quota", "unknown_voice", "not_found"})
_TRIES = 3  # of one text that the voice cannot say, or that is not kept, until its agent changes
_LOOKS, _LOOK_S = 80, 0.25  # for a moment without calls; after these 20 s a piece is made all the same
_CALLS_AHEAD = 2  # calls that have something made ahead at the same moment


@dataclass(slots=True)
class _Wanted:
    static: StaticPiece
    tries: int = 0  # in vain, one after another
    made: int = 0


@dataclass(slots=True)
class _Job:
    """One agent's prompts."""

    agent: Agent
    voice: str | None
    maker: str = ""
    wanted: dict[str, _Wanted] = field(default_factory=dict)  # by key
    due_ms: float = 0.0
    wait_ms: float = _FIRST_WAIT_MS
    turn: int = 0  # which of the plans is asked
    failing: bool = False
    crowded: bool = False


class Preparer:
    """Prompts of all agents. `take_up` tells of them; `run` must be running for anything to be made."""

    def __init__(
        self,
        store: PromptStore,
        plan_routes: Callable[[Agent], Sequence[RoutePlan]],
        *,
        clock: Clock,
        busy: Callable[[], bool] = lambda: False,
        maker: Callable[[RoutePlan], Awaitable[str]] | None = None,
        also: Sequence[str] = (),
    ) -> None:
        """`busy`: whether a caller may need the voice now. `maker`: what answers behind a route, engine and
        model; prompts made by another are made anew. Raises SpeechError. `also`: said in every agent's calls.
        """
        self._store, self._plan_routes, self._clock = store, plan_routes, clock
        self._busy, self._maker, self._also = busy, maker, tuple(also)
        self._jobs: dict[str, _Job] = {}
        self._wake = asyncio.Event()
        self._turnstile = asyncio.Semaphore(_CALLS_AHEAD)

    def take_up(self, agents: Iterable[Agent]) -> None:
        """These are the agents now. What is new or changed is prepared, what is gone is not."""
        known, self._jobs = self._jobs, {}
        for agent in agents:
            job = known.get(agent.id)
            self._jobs[agent.id] = job if job is not None and job.agent is agent else self._job(agent)
        self._wake.set()

    async def run(self) -> None:
        """Prepare, and look after what is prepared, until cancelled."""
        while True:
            self._wake.clear()
            job = min(self._jobs.values(), key=lambda job: job.due_ms, default=None)
            if job is None or job.due_ms > self._clock():
                timeout_s = None if job is None else max(0.0, job.due_ms - self._clock()) / 1000
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s):
                        await self._wake.wait()
                continue
            await self._attend(job)

    async def prepare(
        self, agent: Agent, *, told: Callable[[int, int, str], None] | None = None
    ) -> tuple[int, int]:
        """Prepare one agent now; how many pieces were made, and how many there are.

        `told(done, of, text)` after each. Raises SpeechError, and BackendError when no voice is configured.
        """
        job = self._job(agent)
        made = await self._prepare(job, told)
        return made, len(job.wanted)

    def voice(self, agent: Agent) -> PreparedVoice:
        """What is prepared, for one call of this agent."""
        job = self._jobs.get(agent.id)
        if job is None or job.agent is not agent:
            job = self._job(agent)
        return PreparedVoice(
            voice=job.voice,
            language=agent.language,
            apology=own_texts(agent, [agent.failover.apology])[0],
            find=self._store.get,
            keep=lambda key, piece, ulaw: self._keep(job, key, piece, ulaw),
            spoken_live=lambda key: self._spoken_live(job, key),
            make_route=self._route_ahead(job),
            turnstile=self._turnstile,
        )

    # --- one agent -------------------------------------------------------------------------------------

    def _job(self, agent: Agent) -> _Job:
        plans = self._plans(agent)
        voice = _voice_of(agent, plans[0]) if plans else None
        return _Job(agent, voice)

    def _plans(self, agent: Agent, voice: str | None = None) -> list[RoutePlan]:
        """The ways in which the agent's first voice may speak."""
        plans = list(self._plan_routes(agent))
        if not plans:
            return []
        voice = voice or _voice_of(agent, plans[0])
        return [plan for plan in plans if _voice_of(agent, plan) == voice]

    async def _wanted(self, job: _Job) -> dict[str, _Wanted]:
        """What is to be there. A large agent's texts take a while to take apart: not on the event loop."""
        if not job.wanted and job.voice is not None:
            found = await asyncio.to_thread(_wanted, job.agent, job.voice, self._also)
            job.wanted = job.wanted or found
        return job.wanted

    async def _attend(self, job: _Job) -> None:
        """Prepare what the agent lacks. Whatever fails is told once and tried again later."""
        try:
            made = await self._prepare(job, None)
        except BackendError as error:
            self._failed(job, error)
            return
        lacking = any(0 < wanted.tries < _TRIES for wanted in job.wanted.values())
        job.due_ms = self._clock() + (job.wait_ms if lacking else _LOOK_AGAIN_MS)
        job.wait_ms = min(2 * job.wait_ms, _LONGEST_WAIT_MS) if lacking else _FIRST_WAIT_MS
        if made or job.failing:
            log.info("agent %s: %d prompts are ready, %d made now", job.agent.id, len(job.wanted), made)
        job.failing = False

    async def _prepare(self, job: _Job, told: Callable[[int, int, str], None] | None) -> int:
        """How many pieces were made. Raises SpeechError when the voice cannot speak."""
        plans = self._plans(job.agent, job.voice)
        if job.voice is None or not plans:
            return 0
        wanted = await self._wanted(job)
        there = await asyncio.to_thread(self._store.prefetch, list(wanted))
        plan = plans[job.turn % len(plans)]
        if self._maker is not None and wanted:
            job.maker = await self._maker(plan)
            there -= {key for key in there if self._made_by_another(key, job.maker)}
        missing = [key for key, one in wanted.items() if key not in there and one.tries < _TRIES > one.made]
        if not missing:
            return 0
        route = plan.make()
        try:
            await route.connect()
            return await self._make_all(job, missing, route, told)
        finally:
            await _close(route)

    async def _make_all(
        self,
        job: _Job,
        missing: list[str],
        route: SpeechRoute,
        told: Callable[[int, int, str], None] | None,
    ) -> int:
        made = 0
        for key in missing:
            await self._quiet()
            wanted = job.wanted[key]
            try:
                ulaw = await synthesise(route, wanted.static.piece.spoken, before=wanted.static.before)
            except SpeechError as error:
                if error.reason not in _OF_THE_TEXT:
                    raise
                self._cannot_say(job, wanted, error)
                continue
            wanted.tries = 0
            self._count(job, wanted)
            await self._put(job, key, wanted.static.piece, ulaw)
            made += 1
            if told is not None:
                told(made, len(missing), wanted.static.piece.text)
        return made

    async def _put(self, job: _Job, key: str, piece: Piece, ulaw: bytes) -> None:
        prompt = Prompt(ulaw, piece.spoken, job.voice or "", job.maker)
        await asyncio.to_thread(self._store.put, key, prompt)

    def _made_by_another(self, key: str, maker: str) -> bool:
        prompt = self._store.prompt(key)
        return prompt is not None and prompt.maker != maker

    async def _quiet(self) -> None:
        """Wait for a moment without calls, 20 s at most: one that is never idle has its prompts made, too."""
        for _ in range(_LOOKS):
            if not self._busy():
                return
            await asyncio.sleep(_LOOK_S)

    # --- what goes wrong -------------------------------------------------------------------------------

    def _failed(self, job: _Job, error: BackendError) -> None:
        hopeless = isinstance(error, SpeechError) and error.reason in _HOPELESS
        job.wait_ms = _LONGEST_WAIT_MS if hopeless else job.wait_ms
        job.due_ms = self._clock() + job.wait_ms
        log.log(
            logging.DEBUG if job.failing else logging.WARNING,
            "agent %s: prompts cannot be prepared: %s. Tried again in %.0f s; calls go on without.",
            job.agent.id,
            str(error).rstrip("."),
            job.wait_ms / 1000,
        )
        job.failing = True
        job.turn += 1
        job.wait_ms = min(2 * job.wait_ms, _LONGEST_WAIT_MS)

    def _cannot_say(self, job: _Job, wanted: _Wanted, error: SpeechError) -> None:
        wanted.tries += 1
        if wanted.tries == _TRIES:
            log.warning(
                "agent %s: %r is not prepared, its voice cannot say it: %s",
                job.agent.id, wanted.static.piece.spoken, error,
            )  # fmt: skip

    def _count(self, job: _Job, wanted: _Wanted) -> None:
        """A store with too little room forgets what it is given: nobody should pay for it for ever."""
        wanted.made += 1
        if wanted.made == _TRIES and not job.crowded:
            job.crowded = True
            log.warning(
                "agent %s: prompts were made %d times by now, as %r: set PROMPTS_MAX_MB higher, unless the "
                "speech servers run different engines",
                job.agent.id, _TRIES, wanted.static.piece.spoken,
            )  # fmt: skip

    # --- calls -----------------------------------------------------------------------------------------

    def _route_ahead(self, job: _Job) -> Callable[[], SpeechRoute] | None:
        """A route for what may be said next; None: its vendor is paid for words that nobody may ever hear."""
        if job.voice is None or not job.voice.startswith("sesame"):
            return None

        def make() -> SpeechRoute:
            plans = self._plans(job.agent, job.voice)
            if not plans:
                raise SpeechError("there is no speech route now", route="none", reason="unreachable")
            return plans[0].make()

        return make

    async def _keep(self, job: _Job, key: str, piece: Piece, ulaw: bytes) -> bool:
        if key not in await self._wanted(job):
            return False
        await self._put(job, key, piece, ulaw)
        return True

    def _spoken_live(self, job: _Job, key: str) -> None:
        """The voice speaks again: no need to wait any longer for what it could not say."""
        if key in job.wanted and job.failing:
            job.due_ms, job.wait_ms = 0.0, _FIRST_WAIT_MS
            self._wake.set()


def _wanted(agent: Agent, voice: str, also: Sequence[str]) -> dict[str, _Wanted]:
    static = static_pieces(agent, also)
    return {prompt_key(voice, item.piece.spoken): _Wanted(item) for item in static}


async def _close(route: SpeechRoute) -> None:
    try:
        await route.aclose()
    except SpeechError as error:
        log.debug("speech route not closed politely: %s", error)


def _voice_of(agent: Agent, plan: RoutePlan) -> str | None:
    return voice_of(agent, plan.key.name, plan.voice_id)
