"""WS /ws/tts: the event form for browsers and apps. JSON both ways, sound as base64 float32."""

from __future__ import annotations

from base64 import b64encode

import orjson
from fastapi import APIRouter, WebSocket

from runpod_server import wire
from runpod_server.api.connections import Connections
from runpod_server.api.utterance import Service
from runpod_server.audio import SAMPLE_RATE_HZ, float32_from_pcm16
from runpod_server.errors import SpeechError


class EventDialect:
    """`audio_status`, `audio_chunk`, `completion`, `noted`, `error`; every one names its request."""

    endpoint = "/ws/tts"

    def parse(
        self, message: str | bytes, limits: wire.Limits, fallback_id: str
    ) -> wire.Generate | wire.Heard | wire.Cancel:
        """As /ws/generate, plus `voice_id`: a speaker number or a voice name."""
        fields = wire.json_object(message)
        if fields.get("cancel") not in (None, False):
            return wire.cancel_from(fields)
        if fields.get("heard") is not None:
            return wire.heard_from(fields, fallback_id)
        return wire.generate_from(wire.with_voice_id(fields), limits, fallback_id)

    def queued(self, request_id: str) -> str:
        """See Dialect."""
        return self._status("queued", request_id)

    def generating(self, request_id: str) -> str:
        """See Dialect."""
        return self._status("generating", request_id)

    def frame(self, pcm16: bytes, seq: int, request_id: str) -> str:
        """Samples as base64 of float32 little-endian."""
        data = b64encode(float32_from_pcm16(pcm16)).decode()
        return _event("audio_chunk", seq=seq, data=data, request_id=request_id)

    def done(self, summary: wire.Summary) -> str:
        """See Dialect."""
        return _event(
            "completion",
            request_id=summary.request_id,
            reason=summary.reason,
            audio_ms=summary.audio_ms,
            first_audio_ms=summary.first_audio_ms,
            generate_ms=summary.generate_ms,
        )

    def noted(self, heard: wire.Heard, *, kept: bool) -> str:
        """See Dialect."""
        return _event("noted", noted=kept, request_id=heard.request_id, context_id=heard.context_id)

    def error(self, failure: SpeechError, request_id: str | None) -> str:
        """See Dialect."""
        return _event("error", error=failure.code, message=str(failure), request_id=request_id)

    def _status(self, status: str, request_id: str) -> str:
        return _event("audio_status", status=status, sample_rate=SAMPLE_RATE_HZ, request_id=request_id)


def _event(kind: str, **fields: object) -> str:
    return orjson.dumps({"type": kind, **fields}).decode()


def ws_tts_router(service: Service, connections: Connections) -> APIRouter:
    """WS /ws/tts."""
    router = APIRouter()

    @router.websocket(EventDialect.endpoint)
    async def ws_tts(socket: WebSocket) -> None:
        await connections.serve(socket, EventDialect(), service)

    return router
