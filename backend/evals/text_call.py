"""One call in writing: everything real but the voices and the ears, and time leaps.

Gives the same evidence as a call through the real processes does. Knows nothing of expectations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from backend.calls.boards.route_board import RouteBoard
from backend.calls.manager import DiallingCarrier
from backend.calls.ports import CallParts, LanguageModel, Toolbox
from backend.core.agent import Agent
from backend.core.g711 import Codec
from backend.core.records import CallRecord, Direction, TurnRecord
from backend.errors import BackendError
from backend.evals.leaping import run_leaping
from backend.evals.memory import MEDIA_URL, MemoryCall, MemoryStore, NobodyCounts
from backend.evals.written import (
    CHARACTER,
    WrittenActivity,
    WrittenAnnouncer,
    WrittenEars,
    utterance,
    written_plans,
)
from backend.simulator.call_run import LONGEST_CALL_S, CallRunError, Evidence
from backend.simulator.orders import Plan
from backend.simulator.ports import Surroundings
from backend.simulator.script import Script
from backend.web.views import view

MakeParts = Callable[[DiallingCarrier, MemoryStore], CallParts]


@dataclass(frozen=True, slots=True)
class Mind:
    """How agents think beyond their call flows."""

    language_model: Callable[[Agent], LanguageModel | None] = lambda agent: None
    toolbox: Callable[[Agent, MutableMapping[str, str]], Toolbox | None] = lambda agent, variables: None
    timezone: str | None = None
    """Where agents are at home that do not say."""


NO_MIND = Mind()
OpenMind = Callable[[AsyncExitStack], Awaitable[Mind]]
"""Makes a call's mind, closed by the stack."""


async def no_mind(stack: AsyncExitStack) -> Mind:
    """The call flow alone."""
    return NO_MIND


def loop_clock() -> float:
    """Milliseconds on the running loop's clock."""
    return asyncio.get_running_loop().time() * 1000


def written_parts(
    carrier: DiallingCarrier, store: MemoryStore, mind: Mind = NO_MIND, *, character: int = CHARACTER
) -> CallParts:
    """What a call is made of, in writing; `character`: how the caller's words are written."""
    return CallParts(
        carrier=carrier,
        store=store,
        transcriber=WrittenEars(character=character),
        make_detector=WrittenActivity,
        plan_routes=written_plans,
        board=RouteBoard(loop_clock),
        clock=loop_clock,
        observer=NobodyCounts(),
        media_url=MEDIA_URL,
        language_model=mind.language_model,
        toolbox=mind.toolbox,
        timezone=mind.timezone,
    )


def written_call(
    agent: Agent,
    plan: Plan,
    *,
    make_parts: MakeParts,
    on_turn: Callable[[TurnRecord], None] | None = None,
    on_node: Callable[[str], None] | None = None,
) -> MemoryCall:
    """A call whose other party writes what it says and reads what it hears."""
    around = partial(
        Surroundings, voice=WrittenAnnouncer(), ears=WrittenEars(), make_activity=WrittenActivity
    )
    return MemoryCall(agent, plan, make_parts, around, on_turn=on_turn, on_node=on_node)


def run_text(
    agent: Agent,
    script: Script,
    direction: Direction,
    variables: Mapping[str, str],
    open_mind: OpenMind = no_mind,
) -> Evidence:
    """Play the script to its end. Raises CallRunError when the call does not end, RequestError for a call
    that the agent cannot place."""
    said = {(step.say, step.noise_db): utterance(step.say) for step in script.spoken}
    return hold_text(agent, Plan(script, said, Codec.PCMU), direction, variables, open_mind)


async def _nothing(call: MemoryCall) -> dict[str, Any]:
    return {}


def hold_text(
    agent: Agent,
    plan: Plan,
    direction: Direction,
    variables: Mapping[str, str],
    open_mind: OpenMind = no_mind,
    during: Callable[[MemoryCall], Awaitable[dict[str, Any]]] = _nothing,
) -> Evidence:
    """Hold a call to its end. Raises as `run_text`, and what `during` raises, which plays a part in the
    call; what it gives is added to the call's record."""

    async def call() -> Evidence:
        further: dict[str, Any] = {}
        record: CallRecord | None = None
        problem: BackendError | None = None
        async with AsyncExitStack() as stack:
            mind = await open_mind(stack)
            memory = written_call(agent, plan, make_parts=partial(written_parts, mind=mind))
            await stack.enter_async_context(memory)
            try:
                await memory.place(direction, variables)
                async with asyncio.timeout(LONGEST_CALL_S):
                    further = await during(memory)
                    record = await memory.ended()
                line, wav = memory.sim.record().to_json(), memory.sim.conversation.line.wav()
            except TimeoutError:
                problem = CallRunError(f"the call did not end within {LONGEST_CALL_S:.0f} s")
            except BackendError as error:
                problem = error  # the backend's tasks would make a group of it on its way out
        if problem is not None or record is None:
            raise problem or CallRunError("the call left no record")
        return Evidence(line, {**view(record).model_dump(mode="json", by_alias=True), **further}, wav)

    return run_leaping(call())
