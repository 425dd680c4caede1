"""The media WebSocket, from the carrier's side: connects to the backend, sends the line, hands on commands.

One object a stream. Keeps no audio and no time: the line's tick calls `send_*`, which never wait; a socket
that does not keep up for four seconds loses frames, as a real one would.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from backend.simulator.media_wire import BadFrame, Command, FrameWriter, StreamFacts, read_command

log = logging.getLogger(__name__)

_CONNECT_WITHIN_S = 5.0
_SEND_WITHIN_S = 5.0
_CLOSE_WITHIN_S = 2.0
_MAX_WAITING_FRAMES = 200
_MAX_MESSAGE_BYTES = 1_048_576


class StreamFailed(Exception):
    """The stream could not be opened, or broke; the message says why."""


@dataclass(frozen=True, slots=True)
class MediaFaults:
    """What the network does to the caller's frames: chances from 0 to 1."""

    lose: float = 0.0
    shuffle: float = 0.0


class MediaLeg:
    """One stream. `run` lives as long as the socket does."""

    def __init__(
        self,
        url: str,
        facts: StreamFacts,
        *,
        user_id: str,
        on_command: Callable[[Command], None],
        faults: MediaFaults,
        seed: int = 0,
    ) -> None:
        self.url, self.facts = url, facts
        self._user_id = user_id
        self._on_command = on_command
        self._faults = faults
        self._random = random.Random(seed)
        self._writer = FrameWriter(facts)
        self._waiting: asyncio.Queue[str | None] = asyncio.Queue(_MAX_WAITING_FRAMES)
        self._delayed: str | None = None
        self._stopping = False
        self._socket: ClientConnection | None = None
        self.frames_lost = 0

    async def run(self, on_started: Callable[[], None]) -> None:
        """Connect, say `connected` and `start`, then carry frames until the stream is stopped or closed.

        Returns when either side ended it in order. Raises StreamFailed otherwise.
        """
        headers = {}
        if self.facts.auth_token is not None:
            headers["x-telnyx-streaming-auth-token"] = self.facts.auth_token
        try:
            socket = await connect(
                self.url,
                additional_headers=headers,
                compression=None,
                proxy=None,
                open_timeout=_CONNECT_WITHIN_S,
                close_timeout=_CLOSE_WITHIN_S,
                max_size=_MAX_MESSAGE_BYTES,
            )
        except (OSError, TimeoutError, InvalidHandshake, InvalidURI) as error:
            raise StreamFailed(f"{self.url} cannot be opened: {error}") from error
        self._socket = socket
        try:
            await self._carry(socket, on_started)
        finally:
            self._socket = None
            await socket.close()

    def send_audio(self, g711: bytes, timestamp_ms: int, *, track: str = "inbound") -> None:
        """20 ms of the line, or what the network makes of them."""
        frame = self._writer.media(g711, timestamp_ms=timestamp_ms, track=track)
        if self._random.random() < self._faults.lose:
            self.frames_lost += 1
            return
        if self._delayed is None and self._random.random() < self._faults.shuffle:
            self._delayed = frame
            return
        self._put(frame)
        if self._delayed is not None:
            self._put(self._delayed)
            self._delayed = None

    def send_mark(self, name: str) -> None:
        self._put(self._writer.mark(name))

    def send_dtmf(self, digit: str) -> None:
        self._put(self._writer.dtmf(digit))

    def stop(self) -> None:
        """Say `stop` and close in order; `run` then returns."""
        if not self._stopping:
            self._stopping = True
            self._put(self._writer.stop(self._user_id))
            self._put(None)

    def drop(self) -> None:
        """Tear the socket down without a word, as a broken network does."""
        if self._socket is not None:
            self._socket.transport.abort()

    def _put(self, frame: str | None) -> None:
        if self._waiting.full():
            self._waiting.get_nowait()
            self.frames_lost += 1
        self._waiting.put_nowait(frame)

    async def _carry(self, socket: ClientConnection, on_started: Callable[[], None]) -> None:
        try:
            async with asyncio.timeout(_SEND_WITHIN_S):
                await socket.send(self._writer.connected())
                await socket.send(self._writer.start(self._user_id))
        except (ConnectionClosed, TimeoutError) as error:
            raise StreamFailed(f"{self.url} was closed before the stream began: {error}") from error
        on_started()
        sending = asyncio.create_task(self._send(socket), name="media send")
        receiving = asyncio.create_task(self._receive(socket), name="media receive")
        try:
            await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, receiving):
                task.cancel()
            results = await asyncio.gather(sending, receiving, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise StreamFailed(f"the socket to {self.url} broke: {result}") from result

    async def _send(self, socket: ClientConnection) -> None:
        while (frame := await self._waiting.get()) is not None:
            async with asyncio.timeout(_SEND_WITHIN_S):
                await socket.send(frame)

    async def _receive(self, socket: ClientConnection) -> None:
        # Iterating ends without an error when the backend closes in order (1000, 1001).
        async for message in socket:
            command = read_command(message)
            if isinstance(command, BadFrame):
                log.warning("stream %s: %s", self.facts.stream_id, command.detail)
                self._put(self._writer.error(command))
            self._on_command(command)
