"""What a node looks up by a tool: the caller waits for its answer, and hears that we are at it.

Does not decide what the answer leads to, nor what it puts into variables.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from backend.calls.ports import Toolbox
from backend.calls.speaking.speaker import Speaker
from backend.calls.talking.account import Account, AgentTurn
from backend.calls.talking.delivery import Delivery
from backend.calls.talking.fillers import Fillers
from backend.core.llm import ToolCall
from backend.core.speech import Piece
from backend.core.steps import Lookup
from backend.errors import ToolError

log = logging.getLogger(__name__)

_LONGEST_S = 65.0  # an agent's tool has at most 60 s


class LookingUp:
    """One call's look-ups."""

    def __init__(
        self,
        toolbox: Toolbox | None,
        speaker: Speaker,
        account: Account,
        delivery: Delivery,
        *,
        language: str,
    ) -> None:
        self._toolbox, self._speaker, self._account = toolbox, speaker, account
        self._delivery, self._language = delivery, language

    async def look_up(self, lookup: Lookup) -> bool:
        """Whether the tool answered. Raises SpeechError."""
        cause = self._account.cause
        turn = self._account.agent_turn(begun=False)
        work = asyncio.create_task(self._use(lookup), name=f"tool {lookup.tool}")
        try:
            speech = self._speaker.say_pieces(self._meanwhile(lookup, work, turn))
            await self._delivery.utter(speech, None, turn, interruptible=False)
            if turn.index is None:
                self._account.cause = cause  # what follows is the answer still
            return await work
        finally:
            work.cancel()
            await asyncio.wait([work])

    async def _meanwhile(
        self, lookup: Lookup, work: asyncio.Task[bool], turn: AgentTurn
    ) -> AsyncGenerator[Piece]:
        fillers = Fillers(self._language, self._delivery.waiting)
        async with aclosing(fillers.bridge(work, lookup.fillers)) as bridge:
            async for piece in bridge:
                if turn.index is None:
                    self._account.begins(turn)
                yield piece
        await asyncio.wait([work])

    async def _use(self, lookup: Lookup) -> bool:
        if self._toolbox is None:
            log.warning("tool %s: tools cannot be used here", lookup.tool)
            return False
        try:
            async with asyncio.timeout(_LONGEST_S):
                await self._toolbox.call(ToolCall("lookup", lookup.tool, lookup.arguments))
        except (ToolError, TimeoutError) as error:
            log.warning("tool %s: %s", lookup.tool, error)
            return False
        except Exception as error:
            # A bug of ours must not cost the caller the call. Its words may hold a key: they are not logged.
            log.error("tool %s: internal error, %s", lookup.tool, type(error).__name__)
            return False
        return True
