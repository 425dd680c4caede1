"""A call whose caller is played by a language model: who speaks when, and when it is enough.

Knows the line as a telephone alone: not whether words are written or spoken there. Knows nothing of
expectations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

from backend.calls.ports import LanguageModel
from backend.core.agent import Agent
from backend.core.llm import TextDelta, ToolCall, Usage
from backend.errors import BackendError, LlmError
from backend.evals.played import TOOLS, HangUp, Move, Role, Wait
from backend.evals.suite import PlayedBy

T = TypeVar("T")
OpenPlayer = Callable[[Agent, PlayedBy], LanguageModel]
"""Makes the model that plays a case's caller, closed after the call. Raises BackendError."""

QUIET_S = 0.8  # after the agent's words it is the caller's turn
_PATIENCE_S = 6.0  # and also when for so long nobody spoke
_TRIES = 3
_CHARACTERS_A_TOKEN = 4  # where the server does not tell: English, roughly


class PlayerError(BackendError):
    """The caller's model failed. This says nothing of the agent."""


class Phone(Protocol):
    """The caller's end of a call."""

    async def listen(self, patience_s: float) -> str | None:
        """What the agent said, once it has been quiet for QUIET_S; "": nobody spoke for `patience_s`; None:
        the call is over."""
        ...

    async def spoken_meanwhile(self) -> bool:
        """Whether the agent speaks again, though it was the caller's turn."""
        ...

    async def do(self, move: Move) -> None:
        """Do it to its end, unless the call is over."""
        ...

    async def apart(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result, however long it takes: it is no part of the call."""
        ...


def no_player(agent: Agent, played_by: PlayedBy) -> LanguageModel:
    """Nobody plays. Raises PlayerError."""
    raise PlayerError("there is no language model to play the caller")


async def play(phone: Phone, played_by: PlayedBy, player: LanguageModel) -> dict[str, Any]:
    """Play the caller until the call is over. → what the call's record says of it: `goal`, `unfinished` (why
    the caller gave up; "": they did not), `turns`, `requests` and `tokens`. Raises PlayerError.
    """
    playing = _Playing(phone, played_by, player)
    unfinished = await playing.to_its_end()
    return {
        "played_by": {
            "goal": played_by.goal,
            "unfinished": unfinished,
            "turns": playing.turns,
            "requests": playing.requests,
            "tokens": playing.tokens,
        }
    }


class _Playing:
    def __init__(self, phone: Phone, played_by: PlayedBy, player: LanguageModel) -> None:
        self._phone, self._bounds, self._player = phone, played_by, player
        self._role = Role(played_by)
        self.turns = self.requests = self.tokens = 0

    async def to_its_end(self) -> str:
        """→ why the caller gave up; "": they did not."""
        seconds = self._bounds.max_seconds
        try:
            async with asyncio.timeout(seconds) as limit:
                unfinished = await self._turns()
        except TimeoutError:
            if not limit.expired():
                raise
            unfinished = f"after {seconds:g} s the call was not over (max_seconds)"
        if unfinished:
            await self._phone.do(HangUp())
        return unfinished

    async def _turns(self) -> str:
        patience_s = _PATIENCE_S
        while True:
            heard = await self._phone.listen(patience_s)
            if heard is None:
                return ""
            if self.turns >= self._bounds.max_turns:
                return f"after {self.turns} turns of the caller (max_turns) the call was not over"
            if self.tokens >= self._bounds.max_tokens:
                return f"after {self.tokens} tokens of the caller (max_tokens) the call was not over"
            self.turns += 1
            self._role.hears(heard)
            patience_s = _PATIENCE_S
            for move in await self._moves():
                if isinstance(move, Wait):
                    patience_s = move.seconds
                await self._phone.do(move)

    async def _moves(self) -> list[Move]:
        """What the caller does; [] when the agent went on speaking meanwhile: it is heard out first.
        Raises PlayerError."""
        for _ in range(_TRIES):
            words, calls = await self._phone.apart(self._ask())
            if await self._phone.spoken_meanwhile():
                return []
            if moves := self._role.replied(words, calls):
                return moves
        raise PlayerError(_FAILED.format(f"{_TRIES} times it replied with nothing that a caller can do"))

    async def _ask(self) -> tuple[str, list[ToolCall]]:
        """The model's reply. Raises PlayerError."""
        words: list[str] = []
        calls: list[ToolCall] = []
        told: int | None = None
        messages = self._role.messages
        try:
            async with aclosing(self._player.reply(messages, TOOLS)) as events:
                async for event in events:
                    match event:
                        case TextDelta(text):
                            words.append(text)
                        case ToolCall():
                            calls.append(event)
                        case Usage(prompt_tokens=prompt, completion_tokens=completion):
                            told = prompt + completion
        except LlmError as error:
            raise PlayerError(_FAILED.format(error)) from error
        written = [*words, *(message.text for message in messages), *(call.arguments for call in calls)]
        self.requests += 1
        self.tokens += sum(map(len, written)) // _CHARACTERS_A_TOKEN if told is None else told
        return "".join(words), calls


_FAILED = "the model that plays the caller failed, which says nothing of the agent: {}"
