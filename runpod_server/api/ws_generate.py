"""WS /ws/generate: JSON in, int16 PCM frames and a JSON `done` out. The words are `wire`'s."""

from __future__ import annotations

from fastapi import APIRouter, WebSocket

from runpod_server import wire
from runpod_server.api.connections import Connections
from runpod_server.api.utterance import Service
from runpod_server.errors import SpeechError


class GenerateDialect:
    """The plain wire: binary frames, and text only where there is something to say."""

    endpoint = "/ws/generate"

    def parse(
        self, message: str | bytes, limits: wire.Limits, fallback_id: str
    ) -> wire.Generate | wire.Heard | wire.Cancel:
        """See Dialect."""
        return wire.parse(message, limits, fallback_id)

    def queued(self, request_id: str) -> None:
        """Nothing: the first frame says it."""

    def generating(self, request_id: str) -> None:
        """Nothing: the first frame says it."""

    def frame(self, pcm16: bytes, seq: int, request_id: str) -> bytes:
        """The samples, bare."""
        return pcm16

    def done(self, summary: wire.Summary) -> str:
        """See wire.done."""
        return wire.done(summary)

    def noted(self, heard: wire.Heard, *, kept: bool) -> str:
        """See wire.noted."""
        return wire.noted(heard, kept=kept)

    def error(self, failure: SpeechError, request_id: str | None) -> str:
        """See wire.error."""
        return wire.error(failure, request_id)


def ws_generate_router(service: Service, connections: Connections) -> APIRouter:
    """WS /ws/generate."""
    router = APIRouter()

    @router.websocket(GenerateDialect.endpoint)
    async def ws_generate(socket: WebSocket) -> None:
        await connections.serve(socket, GenerateDialect(), service)

    return router
