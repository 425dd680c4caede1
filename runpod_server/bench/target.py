"""Who is asked to speak: an engine in this process, or a running server over its WebSocket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from runpod_server import client
from runpod_server.bench.script import Utterance
from runpod_server.engine.request import Engine, SpeechRequest

_SPEAKER = 0


class Caller(Protocol):
    """One caller, who asks for one utterance at a time."""

    def ask(self, utterance: Utterance) -> AsyncGenerator[bytes, None]:
        """Its sound as it comes, int16, 24 kHz. Raises SpeechError or Declined for an answer that is none,
        ClientError when there is no server."""


class Target(Protocol):
    """Whatever callers can call."""

    def caller(self) -> AbstractAsyncContextManager[Caller]:
        """A new caller. Raises ClientError."""


class EngineTarget:
    """The engine itself: its clients are tasks on the same event loop, as the server's sessions are."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[Caller]:
        yield self

    async def ask(self, utterance: Utterance) -> AsyncGenerator[bytes, None]:
        request = SpeechRequest(
            text=utterance.text,
            request_id=f"bench-{utterance.seed:x}",
            speaker_id=_SPEAKER,
            voice=utterance.voice,
            max_audio_ms=utterance.audio_ms,
            seed=utterance.seed,
        )
        with self._engine.open(request) as stream:
            async for piece in stream:
                yield piece


class ServerTarget:
    """A running server: every caller has a connection of its own."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self._url, self._api_key = url, api_key

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[Caller]:
        async with client.connected(self._url, api_key=self._api_key) as connection:
            yield _RemoteCaller(connection)


class _RemoteCaller:
    def __init__(self, connection: client.Connection) -> None:
        self._connection = connection

    def ask(self, utterance: Utterance) -> AsyncGenerator[bytes, None]:
        return self._connection.pieces(
            {
                "text": utterance.text,
                "speaker_id": _SPEAKER,
                "voice": utterance.voice,
                "max_audio_length_ms": utterance.audio_ms,
                "seed": utterance.seed,
            }
        )
