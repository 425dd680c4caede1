"""One call in writing whose caller is played by a language model: who speaks when, and when it is enough.

The call's time stands still while the caller's model thinks. Knows nothing of expectations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from backend.calls.ports import LanguageModel
from backend.core.agent import Agent
from backend.core.g711 import Codec
from backend.core.llm import TextDelta, ToolCall
from backend.core.records import Direction
from backend.errors import BackendError, LlmError
from backend.evals.apart import Apart
from backend.evals.leaping import LeapingLoop
from backend.evals.memory import MemoryCall
from backend.evals.played import TOOLS, HangUp, Move, Press, Role, Say, Wait, plain
from backend.evals.suite import PlayedBy
from backend.evals.text_call import OpenMind, hold_text, no_mind
from backend.evals.written import utterance
from backend.simulator.call_run import Evidence
from backend.simulator.caller import KEY_GAP_MS
from backend.simulator.orders import Plan
from backend.simulator.script import LISTENER

OpenPlayer = Callable[[Agent, PlayedBy], LanguageModel]
"""Makes the model that plays a case's caller, closed after the call. Raises BackendError."""

_TICK_S = 0.02
_QUIET_S = 0.8  # after the agent's words it is the caller's turn
_PATIENCE_S = 6.0  # and also when for so long nobody spoke
_SHORTEST = 8  # characters: a shorter sound would be no speech
_TRIES = 3


def no_player(agent: Agent, played_by: PlayedBy) -> LanguageModel:
    """Nobody plays. Raises PlayerError."""
    raise PlayerError("there is no language model to play the caller")


class PlayerError(BackendError):
    """The caller's model failed. This says nothing of the agent."""


def run_played(
    agent: Agent,
    played_by: PlayedBy,
    open_player: OpenPlayer,
    direction: Direction,
    variables: Mapping[str, str],
    open_mind: OpenMind = no_mind,
) -> Evidence:
    """Hold the call to its end. Raises PlayerError, and as `run_text`. The call's record also has
    `played_by`: the goal, and why the caller gave up, if they did."""
    player = open_player(agent, played_by)
    with Apart() as apart:
        played = _Played(played_by, player, apart)

        async def during(call: MemoryCall) -> dict[str, Any]:
            try:
                unfinished = await played.play(call)
            finally:
                await apart.done(player.aclose())
            return {"played_by": {"goal": played_by.goal, "unfinished": unfinished}}

        return hold_text(agent, Plan(LISTENER, {}, Codec.PCMU), direction, variables, open_mind, during)


class _Played:
    def __init__(self, played_by: PlayedBy, player: LanguageModel, apart: Apart) -> None:
        self._max_turns, self._player, self._apart = played_by.max_turns, player, apart
        self._role = Role(played_by)
        self._seen = 0

    async def play(self, call: MemoryCall) -> str:
        """Until the call is over. → why the caller gave up; "": they did not."""
        patience_s = _PATIENCE_S
        for _ in range(self._max_turns):
            heard = await self._listen(call, patience_s)
            if heard is None:
                return ""
            patience_s = _PATIENCE_S
            self._role.hears(heard)
            for move in await self._apart.done(self._next()):
                if isinstance(move, Wait):
                    patience_s = move.seconds
                await _do(call, move)
        if await self._listen(call, patience_s) is None:
            return ""
        await _do(call, HangUp())
        return f"after {self._max_turns} turns of the caller (max_turns) the call was not over"

    async def _listen(self, call: MemoryCall, patience_s: float) -> str | None:
        """What the agent said, once it is the caller's turn; None: the call is over."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, LeapingLoop)
        line = call.sim.conversation.line
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
            if loop.time() - since_s >= (_QUIET_S if heard else patience_s):
                return " ".join(heard)
        return None

    async def _next(self) -> list[Move]:
        """What the model wants to do. Raises PlayerError."""
        for _ in range(_TRIES):
            words: list[str] = []
            calls: list[ToolCall] = []
            try:
                async with aclosing(self._player.reply(self._role.messages, TOOLS)) as events:
                    async for event in events:
                        if isinstance(event, TextDelta):
                            words.append(event.text)
                        elif isinstance(event, ToolCall):
                            calls.append(event)
            except LlmError as error:
                raise PlayerError(_FAILED.format(error)) from error
            if moves := self._role.replied("".join(words), calls):
                return moves
        raise PlayerError(_FAILED.format(f"{_TRIES} times it replied with nothing that a caller can do"))


_FAILED = "the model that plays the caller failed, which says nothing of the agent: {}"


async def _do(call: MemoryCall, move: Move) -> None:
    """Do it, unless the call is over."""
    line = call.sim.conversation.line
    match move:
        case Say(text):
            written = utterance(plain(text).ljust(_SHORTEST))
            line.say(replace(written, text=text))
            while line.caller_speaking and call.sim.state != "ended":  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(_TICK_S)
        case Press(keys):
            for key in keys:
                if call.sim.state != "ended":
                    call.sim.conversation.press(key)
                    await asyncio.sleep(KEY_GAP_MS / 1000)
        case HangUp() if call.sim.state != "ended":
            call.sim.end_by_caller()
