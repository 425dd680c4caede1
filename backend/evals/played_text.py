"""A caller played by a language model, on a call in writing: the call's time stands still while it thinks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from backend.core.agent import Agent
from backend.core.g711 import Codec
from backend.core.records import Direction
from backend.evals.apart import Apart
from backend.evals.leaping import LeapingLoop
from backend.evals.memory import MemoryCall
from backend.evals.played import HangUp, Move, Press, Say, plain
from backend.evals.played_call import QUIET_S, OpenPlayer, play
from backend.evals.suite import PlayedBy
from backend.evals.text_call import OpenMind, hold_text, no_mind
from backend.evals.written import utterance
from backend.simulator.call_run import Evidence
from backend.simulator.caller import KEY_GAP_MS
from backend.simulator.orders import Plan
from backend.simulator.script import LISTENER

T = TypeVar("T")
_TICK_S = 0.02
_SHORTEST = 8  # characters: a shorter sound would be no speech


def run_played_text(
    agent: Agent,
    played_by: PlayedBy,
    open_player: OpenPlayer,
    direction: Direction,
    variables: Mapping[str, str],
    open_mind: OpenMind = no_mind,
) -> Evidence:
    """Hold the call to its end. Raises PlayerError, and as `run_text`. The call's record also has
    `played_by`, as `play` gives it."""
    player = open_player(agent, played_by)
    with Apart() as apart:

        async def during(call: MemoryCall) -> dict[str, Any]:
            try:
                return await play(_Phone(call, apart), played_by, player)
            finally:
                await apart.done(player.aclose())

        return hold_text(agent, Plan(LISTENER, {}, Codec.PCMU), direction, variables, open_mind, during)


class _Phone:
    """The caller's end of a call in memory."""

    def __init__(self, call: MemoryCall, apart: Apart) -> None:
        self._call, self._apart = call, apart
        self._seen = 0

    async def listen(self, patience_s: float) -> str | None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, LeapingLoop)
        call, line = self._call, self._call.sim.conversation.line
        heard: list[str] = []
        since_s = loop.time()
        while call.sim.state != "ended":
            await asyncio.sleep(_TICK_S)
            for event in call.events.after(self._seen):
                self._seen = int(event["seq"])
                if event["kind"] == "agent_speech":
                    heard.append(str(event["data"]["text"]))
            speaking = line.caller_speaking or line.queue.queued_ms or line.announcing
            if call.sim.state == "ringing" or speaking or loop.waits:
                since_s = loop.time()
            if loop.time() - since_s >= (QUIET_S if heard else patience_s):
                return " ".join(heard)
        return None

    async def spoken_meanwhile(self) -> bool:
        return False  # no time has passed

    async def do(self, move: Move) -> None:
        sim = self._call.sim
        line = sim.conversation.line
        match move:
            case Say(text):
                written = utterance(plain(text).ljust(_SHORTEST))
                line.say(replace(written, text=text))
                while line.caller_speaking and sim.state != "ended":  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(_TICK_S)
            case Press(keys):
                for key in keys:
                    if sim.state != "ended":
                        sim.conversation.press(key)
                        await asyncio.sleep(KEY_GAP_MS / 1000)
            case HangUp() if sim.state != "ended":
                sim.end_by_caller()

    async def apart(self, work: Coroutine[Any, Any, T]) -> T:
        return await self._apart.done(work)
