"""The open WebSockets: how many there may be, and how all of them end when the server does."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress

from starlette.websockets import WebSocket, WebSocketDisconnect

from runpod_server.api.metrics import Metrics
from runpod_server.api.session import Dialect, Session
from runpod_server.api.utterance import Service

log = logging.getLogger(__name__)

OVERLOADED, GOING_AWAY = 1013, 1001


class Connections:
    """Admits connections up to a bound in all and one per client address; the rest are closed with 1013."""

    def __init__(
        self,
        *,
        max_total: int,
        max_per_client: int,
        metrics: Metrics,
    ) -> None:
        self._max_total, self._max_per_client = max_total, max_per_client
        self._metrics = metrics
        self._sessions: set[Session] = set()
        self._per_client: Counter[str] = Counter()
        self._closing = False
        self._open = 0
        self._none_open = asyncio.Event()
        self._none_open.set()

    async def serve(self, socket: WebSocket, dialect: Dialect, service: Service) -> None:
        """Accept and run one connection, or turn it away with a close code that says why."""
        self._open += 1
        self._none_open.clear()
        try:
            await self._serve(socket, dialect, service)
        finally:
            self._open -= 1
            if not self._open:
                self._none_open.set()

    async def _serve(self, socket: WebSocket, dialect: Dialect, service: Service) -> None:
        await socket.accept()
        client = socket.client.host if socket.client else ""
        refusal = self._refusal(client)
        if refusal is not None:
            log.warning("connection from %s refused: %s", client, refusal[1])
            try:
                await socket.close(*refusal)
            except WebSocketDisconnect:
                log.debug("%s went before it could be refused", client)
            return
        session = Session(socket, dialect, service)
        self._sessions.add(session)
        self._per_client[client] += 1
        self._metrics.connections.inc()
        try:
            await session.run()
        finally:
            self._metrics.connections.dec()
            self._sessions.discard(session)
            self._per_client -= Counter([client])  # drops the address with its last connection

    async def close_all(self, deadline_s: float) -> None:
        """The server goes: every connection is closed with 1001, and so is every new one.

        Returns when all of them are, or at the deadline: who takes nothing is waited for no longer.
        """
        self._closing = True
        for session in tuple(self._sessions):
            session.stop(GOING_AWAY, "the server is shutting down")
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self._none_open.wait()

    def _refusal(self, client: str) -> tuple[int, str] | None:
        if self._closing:
            return GOING_AWAY, "the server is shutting down"
        if len(self._sessions) >= self._max_total:
            return OVERLOADED, f"all {self._max_total} connections are taken: try again later"
        if self._per_client[client] >= self._max_per_client:
            return OVERLOADED, f"this client holds all {self._max_per_client} connections it may have"
        return None
