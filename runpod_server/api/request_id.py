"""`x-request-id` on every HTTP answer, so that a client's log and a proxy's can be matched. Raw ASGI."""

from __future__ import annotations

import re
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = b"x-request-id"
_SANE = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class RequestIds:
    """ASGI middleware, outermost: refusals have their id, too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = id_for(scope["headers"])

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (HEADER, request_id)]}
            await send(message)

        await self._app(scope, receive, send_with_id)


def id_for(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The id that the request brought, where it is a plain word; else a new one."""
    given = next((value for name, value in headers if name == HEADER), b"")
    return given if _SANE.fullmatch(given) else uuid4().hex.encode()
