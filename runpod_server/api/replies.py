"""Failures as HTTP: this server's own shape, and OpenAI's under /v1. Pure but for building the response."""

from __future__ import annotations

from fastapi.responses import JSONResponse

from runpod_server.errors import BadRequest, Busy, SpeechError

_RETRY_AFTER_S = "1"
_OPENAI_NAMES = {"text": "input", "speaker_id": "voice"}


def failure_response(
    path: str, status: int, code: str, message: str, *, field: str | None = None
) -> JSONResponse:
    """A failure in the shape that clients of `path` expect."""
    content: dict[str, object]
    if path.startswith("/v1/"):
        kind = "invalid_request_error" if status < 500 else "server_error"
        param = None if field is None else _OPENAI_NAMES.get(field, field)
        content = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    else:
        content = {"success": False, "error": code, "message": message}
    response = JSONResponse(content, status_code=status)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status in (429, 503):
        response.headers["Retry-After"] = _RETRY_AFTER_S
    return response


def speech_failure_response(path: str, error: SpeechError) -> JSONResponse:
    """A SpeechError as HTTP. OpenAI's clients retry 429 and 5xx by themselves, so `busy` is 429 there."""
    status = 429 if isinstance(error, Busy) and path.startswith("/v1/") else error.http_status
    field = error.field if isinstance(error, BadRequest) else None
    return failure_response(path, status, error.code, str(error), field=field)
