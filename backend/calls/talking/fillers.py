"""What a caller hears while a tool or a model takes its time: a word soon, others if it takes long, never the
same one.

Says nothing over the caller. Knows neither what is waited for nor what comes of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import TypeVar

from backend.core.sentences import pieces
from backend.core.speech import Piece

T = TypeVar("T")

FIRST_AFTER_S = 0.7
MORE_AFTER_S = 5.0  # after the last words of ours
_MOST = 3  # a turn
_AFTER_CALLER_S = 0.5  # of quiet: their words may cancel everything, or lead elsewhere


class Waiting:
    """What there is to know of the caller meanwhile."""

    def __init__(self, quiet: asyncio.Event | None = None) -> None:
        """`quiet` is set while the caller does not speak."""
        self.quiet = quiet or asyncio.Event()
        if quiet is None:
            self.quiet.set()
        self.asked = asyncio.Event()
        """The caller asks whether we are still there."""


class Fillers:
    """Those of one turn."""

    def __init__(self, language: str, waiting: Waiting) -> None:
        self._language, self._waiting = language, waiting
        self._said: list[str] = []
        self._last_s: float | None = None

    @property
    def silent(self) -> bool:
        """Whether the turn has said nothing yet."""
        return self._last_s is None

    def spoke(self) -> None:
        """The turn had words of its own to say."""
        self._last_s = asyncio.get_running_loop().time()

    async def bridge(
        self, work: asyncio.Task[T], texts: Sequence[str], *, first_after_s: float | None = None
    ) -> AsyncGenerator[Piece]:
        """Pieces to say until `work` is done, of `texts` in order; the first, where nothing was said yet,
        after `first_after_s`, or 0.7 s."""
        first_after_s = FIRST_AFTER_S if first_after_s is None else first_after_s
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        self._waiting.asked.clear()
        while (text := self._next(texts)) is not None:
            due_s = begun_s + first_after_s if self._last_s is None else self._last_s + MORE_AFTER_S
            await _first_of(work, self._waiting.asked, due_s - loop.time())
            while not work.done() and not self._waiting.quiet.is_set():
                await _first_of(work, self._waiting.quiet, None)
                await asyncio.wait([work], timeout=_AFTER_CALLER_S)
            if work.done():
                return
            self._waiting.asked.clear()
            self._said.append(text)
            for piece in pieces(text, self._language):
                yield piece
            self.spoke()

    def _next(self, texts: Sequence[str]) -> str | None:
        if len(self._said) >= _MOST:
            return None
        return next((text for text in texts if text not in self._said), None)


async def _first_of(work: asyncio.Task[T], event: asyncio.Event, timeout_s: float | None) -> None:
    told = asyncio.create_task(event.wait(), name="caller")
    try:
        timeout_s = None if timeout_s is None else max(0.0, timeout_s)
        await asyncio.wait([work, told], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        told.cancel()
