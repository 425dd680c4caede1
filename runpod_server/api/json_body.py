"""Request bodies read as the WebSockets' messages are: strict JSON, and every mistake is a 400."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute


class _StrictRequest(Request):
    async def json(self) -> Any:
        """No NaN, no half characters, no numbers without end, as Python's own reader would let through.

        Raises orjson.JSONDecodeError, which is a json.JSONDecodeError.
        """
        return orjson.loads(await self.body())


class JsonRoute(APIRoute):
    """For `APIRouter(route_class=…)`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly
