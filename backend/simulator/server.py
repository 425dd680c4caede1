"""Puts the stand-in together: the carrier, its two APIs, and how every error is worded."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from backend.errors import SpeechError
from backend.simulator.carrier import Carrier
from backend.simulator.carrier_api import carrier_router
from backend.simulator.refusal import Refusal
from backend.simulator.script import ScriptError
from backend.simulator.sim_api import sim_router

log = logging.getLogger(__name__)


def create_app(carrier: Carrier) -> FastAPI:
    """The stand-in as an ASGI application; its lifespan is the carrier's."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with carrier:
            yield

    app = FastAPI(title="Telnyx stand-in", lifespan=lifespan)
    app.include_router(carrier_router(carrier))
    app.include_router(sim_router(carrier))

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> JSONResponse:
        return JSONResponse(error.to_json(), status_code=error.status)

    @app.exception_handler(ScriptError)
    async def bad_script(_: Request, error: ScriptError) -> JSONResponse:
        return _sentence(422, "bad_script", str(error))

    @app.exception_handler(SpeechError)
    async def no_voice(_: Request, error: SpeechError) -> JSONResponse:
        return _sentence(422 if error.reason == "bad_request" else 503, error.reason, str(error))

    @app.exception_handler(RequestValidationError)
    async def bad_request(_: Request, error: RequestValidationError) -> JSONResponse:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"][1:])
        return _sentence(422, "bad_request", f"{where}: {problem['msg']}" if where else problem["msg"])

    return app


def _sentence(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status_code=status)
