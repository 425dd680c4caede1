"""Runs suites: each case's calls in writing, or through the real processes. Keeps what it has when stopped.

Holds calls and asks for verdicts; decides nothing about them, prints nothing, writes no file.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from backend.core.agent import Agent
from backend.core.records import Direction
from backend.errors import BackendError
from backend.evals.played_audio import play_aloud
from backend.evals.played_call import OpenPlayer, PlayerError, no_player
from backend.evals.played_text import run_played_text
from backend.evals.results import Attempt, CaseResult, SuiteResult
from backend.evals.suite import Case, Mode, Suite
from backend.evals.text_call import OpenMind, no_mind, run_text
from backend.evals.verdicts import call_report, judge_call
from backend.simulator.call_run import During, Evidence, run_inbound, run_outbound
from backend.simulator.stack import Stack, StackConfig, StackError

_ANYBODY = "+15550100077"


@dataclass(frozen=True, slots=True)
class Job:
    """A suite to run: those of its cases that were chosen."""

    suite: Suite
    file: str
    agent: Agent
    cases: tuple[Case, ...]


@dataclass(slots=True)
class _Running:
    """What a suite has given so far."""

    job: Job
    attempts: dict[str, list[Attempt]] = field(default_factory=dict)

    def result(self, mode: Mode) -> SuiteResult:
        cases = [
            CaseResult(case, mode, tuple(sorted(self.attempts[case.id], key=lambda attempt: attempt.number)))
            for case in self.job.cases
            if case.id in self.attempts
        ]
        held = sum(len(result.attempts) for result in cases)
        complete = held == sum(case.repeat for case in self.job.cases)
        return SuiteResult(self.job.suite, self.job.file, self.job.agent.name, mode, tuple(cases), complete)


Told = Callable[[Job, Case, Attempt], None]


class Run:
    """One run of several suites. `results` may be asked at any time."""

    def __init__(self, jobs: Sequence[Job], mode: Mode, told: Told) -> None:
        """`told`: of each call as it is judged."""
        self._running = [_Running(job) for job in jobs]
        self._mode: Mode = mode
        self._told = told

    @property
    def results(self) -> list[SuiteResult]:
        """All there is, also of suites that were cut short."""
        return [running.result(self._mode) for running in self._running]

    def in_text(self, open_mind: OpenMind = no_mind, open_player: OpenPlayer = no_player) -> None:
        """Every case in writing, one after the other. `open_player`: for callers played by a model."""
        for running in self._running:
            for case in running.job.cases:
                for number in range(1, case.repeat + 1):
                    began_s = time.monotonic()
                    try:
                        evidence = _text_call(running.job, case, open_mind, open_player)
                    except BackendError as error:
                        attempt = _not_held(number, error, time.monotonic() - began_s)
                    else:
                        attempt = self._judged(case, number, evidence, time.monotonic() - began_s)
                    self._keep(running, case, attempt)

    async def in_audio(
        self,
        run_dir: Path,
        agents_dir: Path,
        open_player: OpenPlayer = no_player,
        *,
        at_once: int,
        settings: Mapping[str, str],
        warned: Callable[[str], None],
    ) -> None:
        """Every case through the real processes, `at_once` calls side by side. `open_player`: as `in_text`.
        `settings`: the backend's own, beyond those it needs; `warned`: told of its warnings. Raises
        StackError."""
        agent_ids = {running.job.agent.id for running in self._running}
        places, dialling = asyncio.Semaphore(at_once), asyncio.Lock()
        config = StackConfig(run_dir=run_dir, agents_dir=agents_dir, settings=settings)
        async with Stack(config) as stack:

            async def hold(running: _Running, case: Case, number: int) -> None:
                async with places:
                    began_s = time.monotonic()
                    try:
                        evidence = await _audio_call(stack, running.job, case, open_player, dialling)
                    except StackError:
                        raise
                    except BackendError as error:
                        attempt = _not_held(number, error, time.monotonic() - began_s)
                    else:
                        attempt = self._judged(case, number, evidence, time.monotonic() - began_s)
                    self._keep(running, case, attempt)

            async def tell_warnings() -> None:
                for message in await stack.warnings(agent_ids):
                    warned(message)

            await tell_warnings()
            async with asyncio.TaskGroup() as tasks:
                for running in self._running:
                    for case in running.job.cases:
                        for number in range(1, case.repeat + 1):
                            tasks.create_task(hold(running, case, number), name=f"{case.id} {number}")
            await tell_warnings()

    def _judged(self, case: Case, number: int, evidence: Evidence, took_s: float) -> Attempt:
        try:
            report = call_report(evidence)
        except (KeyError, TypeError, ValueError) as error:
            problem = f"the call's records cannot be read: {type(error).__name__}: {error}"
            return Attempt(number, took_s, problem=problem)
        judgements = judge_call(evidence, report, case.expect, self._mode)
        return Attempt(number, took_s, tuple(judgements), report, evidence, heard=self._mode == "audio")

    def _keep(self, running: _Running, case: Case, attempt: Attempt) -> None:
        running.attempts.setdefault(case.id, []).append(attempt)
        self._told(running.job, case, attempt)


def _not_held(number: int, error: BackendError, took_s: float) -> Attempt:
    return Attempt(number, took_s, problem=str(error), blameless=isinstance(error, PlayerError))


def _outbound(agent: Agent, case: Case) -> bool:
    return not agent.phone_numbers if case.outbound is None else case.outbound


def _text_call(job: Job, case: Case, open_mind: OpenMind, open_player: OpenPlayer) -> Evidence:
    direction: Direction = "outbound" if _outbound(job.agent, case) else "inbound"
    if case.played_by is not None:
        return run_played_text(job.agent, case.played_by, open_player, direction, case.variables, open_mind)
    return run_text(job.agent, case.script, direction, case.variables, open_mind)


async def _audio_call(
    stack: Stack, job: Job, case: Case, open_player: OpenPlayer, dialling: asyncio.Lock
) -> Evidence:
    async with AsyncExitStack() as exit_stack:
        during: During | None = None
        if (played_by := case.played_by) is not None:
            player = open_player(job.agent, played_by)
            exit_stack.push_async_callback(player.aclose)
            during = partial(
                play_aloud, stack, played_by=played_by, player=player, noise_db=case.line.noise_db
            )
        return await _held_aloud(stack, job, case, during, dialling)


async def _held_aloud(
    stack: Stack, job: Job, case: Case, during: During | None, dialling: asyncio.Lock
) -> Evidence:
    network = {"lose": case.line.lose, "shuffle": case.line.shuffle}
    if _outbound(job.agent, case):
        # Whoever answers first gets the script laid out first: one dial at a time.
        async with dialling:
            return await run_outbound(
                stack, agent_id=job.agent.id, to=_ANYBODY, variables=case.variables,
                script=case.script_document(), codec=case.line.codec, network=network, during=during,
            )  # fmt: skip
    if not job.agent.phone_numbers:
        raise BackendError(f"agent {job.agent.name} has no phone number that could be called")
    return await run_inbound(
        stack, to=job.agent.phone_numbers[0], from_number=_ANYBODY, script=case.script_document(),
        codec=case.line.codec, network=network, during=during,
    )  # fmt: skip
