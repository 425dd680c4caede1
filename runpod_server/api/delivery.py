"""Speech as HTTP bodies: streamed while it is made, and freed the moment the client goes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from runpod_server.api.patience import Patience
from runpod_server.api.utterance import Utterance

log = logging.getLogger(__name__)


@contextmanager
def cancelled_when_gone(request: Request, utterance: Utterance) -> Iterator[None]:
    """While inside, a client that hangs up cancels the utterance; its body must have been read before."""
    watcher = asyncio.create_task(_watch(request, utterance))
    try:
        yield
    finally:
        watcher.cancel()


async def _watch(request: Request, utterance: Utterance) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    utterance.cancel()


class SpeechResponse(StreamingResponse):
    """Streams `body` and leaves the utterance when it is through, or when the client is gone or too slow.

    A failure after the first byte can no longer be a status: the body then ends without its last chunk.
    """

    def __init__(
        self, body: AsyncIterator[bytes], utterance: Utterance, media_type: str, patience: Patience
    ) -> None:
        super().__init__(body, media_type=media_type)
        self._utterance, self._patience = utterance, patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def patiently(message: Message) -> None:
            began_s = time.monotonic()
            try:
                async with asyncio.timeout(self._patience.left_s(self._utterance.sent_ms)):
                    await send(message)
            finally:
                self._patience.waited_s += time.monotonic() - began_s

        with self._utterance:
            try:
                await super().__call__(scope, receive, patiently)
            except TimeoutError:
                log.warning("a client took its sound too slowly and is dropped: it held its slot")


async def first_frame(request: Request, utterance: Utterance, frames: AsyncIterator[bytes]) -> bytes:
    """The first sound, before the status line, so that failing gets its own status. Raises SpeechError."""
    with cancelled_when_gone(request, utterance):
        return await anext(frames, b"")
