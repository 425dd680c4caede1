"""A stream of an engine that knows one pace only, played faster or slower."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from runpod_server.audio import float_from_pcm16, pcm16_from_float
from runpod_server.engine.request import EndReason, SpeechStream
from runpod_server.stretch import TimeStretch


class AtSpeed:
    """The stream within, stretched in a thread. See SpeechStream."""

    def __init__(self, within: SpeechStream, speed: float) -> None:
        self._within = within
        self._pieces = aiter(within)
        self._stretch = TimeStretch(speed)
        self._has_ended = False

    @property
    def reason(self) -> EndReason | None:
        """See SpeechStream.reason."""
        return self._within.reason

    async def admitted(self) -> None:
        """See SpeechStream.admitted."""
        await self._within.admitted()

    def cancel(self) -> None:
        """See SpeechStream.cancel."""
        self._within.cancel()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        made = b""
        while not made:
            if self._has_ended:
                raise StopAsyncIteration
            made = await self._next()
            if self.reason == "cancelled":
                raise StopAsyncIteration
        return made

    async def _next(self) -> bytes:
        piece = await anext(self._pieces, None)
        if piece is None:
            self._has_ended = True
            return pcm16_from_float(await asyncio.to_thread(self._stretch.finish))
        return pcm16_from_float(await asyncio.to_thread(self._stretch.push, float_from_pcm16(piece)))

    def __enter__(self) -> Self:
        self._within.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._within.__exit__(kind, error, trace)
