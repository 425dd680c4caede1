"""All endpoints in one ASGI application, behind the guard. Takes what it needs as arguments."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from runpod_server.api.audio_store import AudioStore
from runpod_server.api.connections import Connections
from runpod_server.api.guard import Guard
from runpod_server.api.health import health_router, package_version
from runpod_server.api.metrics import metrics_router
from runpod_server.api.openai import openai_router
from runpod_server.api.replies import failure_response, speech_failure_response
from runpod_server.api.request_id import RequestIds
from runpod_server.api.rest import rest_router
from runpod_server.api.utterance import Service
from runpod_server.api.voices import MAX_BODY_BYTES, PATH, voices_router
from runpod_server.api.ws_generate import ws_generate_router
from runpod_server.api.ws_tts import ws_tts_router
from runpod_server.errors import SpeechError
from runpod_server.wire import MAX_HEARD_BYTES, MAX_HEARD_CHARS

_ABOUT = """Speech over a WebSocket, over REST, and in OpenAI's shape.

`WS /ws/generate`: send `{"text": "...", "speaker_id": 0}`, read binary frames (int16 little-endian PCM,
24 kHz, mono) until the text frame `{"done": true, ...}`. `WS /ws/tts` is the same as JSON events."""


def max_message_bytes(service: Service) -> int:
    """Room for the longest text however it is escaped, and the other fields."""
    return 4096 + 12 * service.limits.max_text_chars


def max_socket_message_bytes(service: Service) -> int:
    """The same beside a turn that was heard, in base64."""
    return max_message_bytes(service) + 12 * MAX_HEARD_CHARS + 4 * MAX_HEARD_BYTES // 3


def create_api(service: Service, connections: Connections, store: AudioStore) -> ASGIApp:
    """The application uvicorn runs."""
    # Its documentation page brings its own scripts: a pod's network, or a browser's, may reach no CDN.
    api = FastAPIOffline(title="Speech server", version=package_version(), description=_ABOUT, redoc_url=None)
    # The guard decides; this is what gives the documentation page its Authorize button.
    with_key = [Depends(HTTPBearer(auto_error=False, description="SESAME_API_KEY of the server."))]
    api.include_router(health_router(service), dependencies=with_key)
    api.include_router(rest_router(service, store), dependencies=with_key)
    api.include_router(openai_router(service), dependencies=with_key)
    api.include_router(voices_router(service, service.engine.references), dependencies=with_key)
    api.include_router(metrics_router(service.metrics), dependencies=with_key)
    api.include_router(ws_generate_router(service, connections))
    api.include_router(ws_tts_router(service, connections))

    @api.exception_handler(SpeechError)
    async def speech_failed(request: Request, error: SpeechError) -> Response:
        return speech_failure_response(request.url.path, error)

    @api.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        field, message = _what_is_wrong(error.errors()[0])
        return failure_response(request.url.path, 400, "bad_request", message, field=field)

    @api.exception_handler(HTTPException)
    async def not_served(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        message = f"{request.method} {request.url.path}: {error.detail}; see /docs for what there is"
        return failure_response(request.url.path, error.status_code, code, message)

    return RequestIds(
        Guard(
            api,
            api_key=service.api_key,
            max_body_bytes=max_message_bytes(service),
            larger_bodies={PATH: MAX_BODY_BYTES},
        )
    )


def _what_is_wrong(fault: dict[str, Any]) -> tuple[str | None, str]:
    """The field, if it is one's, and a sentence, of pydantic's first fault with a body."""
    if fault["type"] == "json_invalid":
        return None, f"the body is not JSON ({fault['ctx']['error']})"
    field = ".".join(str(part) for part in fault["loc"] if part != "body")
    if field:
        return field, f"{field}: {fault['msg']}"
    return None, f"the body must be a JSON object, with Content-Type: application/json: {fault['msg']}"
