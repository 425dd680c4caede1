"""Every failure as `{"error": code, "message": sentence}`, and nothing of the inside told to the outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from backend.errors import AgentError, CallGone, CarrierError, RequestError, StorageError

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
}


class FieldProblem(BaseModel):
    """One field that cannot be used."""

    field: str = Field(description="Where it is, such as `variables.name`; empty for the whole.")
    reason: str


class ErrorBody(BaseModel):
    """What every failed request answers."""

    error: str = Field(description="A stable word for programs.", examples=["not_found"])
    message: str = Field(description="What was wrong and what to do, for people.")
    fields: list[FieldProblem] | None = Field(None, description="The fields at fault, where there are any.")
    file: str | None = Field(None, description="The agent file at fault.")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's documentation says of these failures."""
    return {status: {"model": ErrorBody, "description": HTTPStatus(status).phrase} for status in statuses}


def error_response(
    status: int,
    code: str,
    message: str,
    *,
    fields: Sequence[FieldProblem] | None = None,
    file: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A failure as a response."""
    body = ErrorBody(error=code, message=message, fields=list(fields) if fields else None, file=file)
    if status == HTTPStatus.UNAUTHORIZED:
        headers = {"WWW-Authenticate": "Bearer", **(headers or {})}
    return JSONResponse(body.model_dump(exclude_none=True), status, headers)


def install_error_handlers(app: FastAPI) -> None:
    """Have `app` answer every failure in this one shape."""

    @app.exception_handler(RequestError)
    async def request_error(_: Request, error: RequestError) -> JSONResponse:
        return error_response(error.status, error.code, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        fields = [_field_problem(item) for item in error.errors()]
        message = "; ".join(f"{item.field}: {item.reason}" if item.field else item.reason for item in fields)
        return error_response(422, "invalid_request", f"{message}.", fields=fields)

    @app.exception_handler(AgentError)
    async def agent_error(_: Request, error: AgentError) -> JSONResponse:
        problem = FieldProblem(field=error.field, reason=error.reason)
        return error_response(422, "invalid_agent", str(error), fields=[problem], file=error.file)

    @app.exception_handler(CarrierError)
    async def carrier_error(_: Request, error: CarrierError) -> JSONResponse:
        if isinstance(error, CallGone):
            return error_response(409, "call_over", str(error))
        return error_response(502, "carrier_refused", str(error))

    @app.exception_handler(StorageError)
    async def storage_error(_: Request, error: StorageError) -> JSONResponse:
        return error_response(503, "storage_unavailable", str(error))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        message = str(error.detail)
        if error.status_code in (404, 405):
            message = f"There is no {request.method} {request.url.path} here; /docs lists what there is."
        code = _CODES.get(error.status_code, "http_error")
        return error_response(error.status_code, code, message, headers=error.headers)

    @app.exception_handler(Exception)
    async def bug(_: Request, error: Exception) -> JSONResponse:
        # The server logs it with its traceback; the client learns nothing of the inside.
        return error_response(500, "internal_error", "The backend failed at this; its log says where.")


def _field_problem(item: Mapping[str, Any]) -> FieldProblem:
    where, *path = item["loc"] or ("",)
    kind, reason = str(item["type"]), str(item["msg"])
    field = ".".join(str(part) for part in path)
    if kind == "json_invalid":
        return FieldProblem(
            field="", reason=f"the body is not JSON ({item['ctx']['error']} at character {field})"
        )
    if where == "body" and not path:
        return FieldProblem(field="", reason="send a JSON object with `Content-Type: application/json`")
    if path and path[-1] == "[key]":
        return FieldProblem(field=".".join(str(part) for part in path[:-1]), reason=f"bad name: {reason}")
    if kind == "extra_forbidden":
        reason = "is not a field of this request"
    elif kind == "missing":
        reason = "is missing"
    return FieldProblem(field=field, reason=reason.removeprefix("Value error, "))
