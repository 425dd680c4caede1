"""Speech as HTTP bodies: streamed while it is made, and freed the moment the client goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from runpod_server.api.utterance import Utterance


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
    """Streams `body` and leaves the utterance when it is through, or when the client is gone.

    A failure after the first byte can no longer be a status: the body then ends without its last chunk.
    """

    def __init__(self, body: AsyncIterator[bytes], utterance: Utterance, media_type: str) -> None:
        super().__init__(body, media_type=media_type)
        self._utterance = utterance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._utterance:
            await super().__call__(scope, receive, send)


async def first_frame(request: Request, utterance: Utterance, frames: AsyncIterator[bytes]) -> bytes:
    """The first sound, before the status line, so that failing gets its own status. Raises SpeechError."""
    with cancelled_when_gone(request, utterance):
        return await anext(frames, b"")
