"""What stands before every endpoint: the bearer key and the bound on request bodies.

Raw ASGI, so that it covers WebSockets and documents alike.
"""

from __future__ import annotations

import asyncio
import binascii
import hmac
from base64 import b64decode
from collections.abc import Iterable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runpod_server.api.replies import failure_response

BAD_KEY = 1008
BODY_DEADLINE_S = 60.0  # to send a request's body
_DRAINED_BYTES = 1024 * 1024
# A browser can send no bearer key for a page: it asks for a password instead, and that is the key. For these
# pages alone: a browser adds a password by itself, also to requests that another site's page makes.
PAGES = ("/docs", "/openapi.json", "/static-offline-docs/")
OPEN_PATHS = frozenset({"/health"})  # tells its status only, without the key


class Guard:
    """ASGI middleware. Without a key everything is open; bodies are bounded either way.

    `larger_bodies`: paths that take more than `max_body_bytes`, and how much.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        api_key: str | None,
        max_body_bytes: int,
        larger_bodies: Mapping[str, int] | None = None,
        body_deadline_s: float = BODY_DEADLINE_S,
    ) -> None:
        self._app, self._api_key, self._max_body_bytes = app, api_key, max_body_bytes
        self._body_deadline_s = body_deadline_s
        self._larger_bodies = larger_bodies or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif not self._may_pass(scope):
            await _refuse(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._with_bounded_body(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        if scope["path"] in OPEN_PATHS or key_is_right(scope["headers"], self._api_key):
            return True
        return _is_page(scope) and password_is_right(scope["headers"], self._api_key)

    async def _with_bounded_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = self._larger_bodies.get(scope["path"], self._max_body_bytes)
        try:
            async with asyncio.timeout(self._body_deadline_s):
                body = await _body(receive, limit)
        except TimeoutError:
            status, text = 408, f"the request body did not come within {self._body_deadline_s:g} s"
        except _TooLarge:
            status, text = 413, f"the request body is larger than the {limit} bytes this server takes"
        else:
            if body is not None:
                await self._app(scope, _replaying(body, receive), send)
            return
        refusal = failure_response(scope["path"], status, "bad_request", text)
        refusal.headers["Connection"] = "close"
        await refusal(scope, receive, send)


class _TooLarge(Exception):
    """A body beyond its limit."""


async def _body(receive: Receive, limit: int) -> bytes | None:
    """The whole of it; None: the client went. Raises _TooLarge."""
    body, size, more = bytearray(), 0, True
    # A client cut off while it sends may never see the reply: so a little too much is read, and dropped.
    while more and size <= limit + _DRAINED_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        piece, more = message.get("body", b""), message.get("more_body", False)
        size += len(piece)
        if size <= limit:
            body += piece
    if size > limit:
        raise _TooLarge
    return bytes(body)


def key_is_right(headers: Iterable[tuple[bytes, bytes]], api_key: str | None) -> bool:
    """Whether `Authorization: Bearer <key>` is among raw ASGI headers, compared in constant time."""
    if api_key is None:
        return True
    given = next((value for name, value in headers if name == b"authorization"), b"")
    scheme, _, token = given.partition(b" ")
    return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), api_key.encode())


def password_is_right(headers: Iterable[tuple[bytes, bytes]], api_key: str | None) -> bool:
    """Whether `Authorization: Basic` brings the key as its password, whatever the user's name."""
    given = next((value for name, value in headers if name == b"authorization"), b"")
    scheme, _, coded = given.partition(b" ")
    try:
        password = b64decode(coded, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return False
    return scheme.lower() == b"basic" and key_is_right([(b"authorization", b"Bearer " + password)], api_key)


def _is_page(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and scope["path"].startswith(PAGES)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    text = "the key is missing or wrong: send the header Authorization: Bearer <SESAME_API_KEY>"
    if scope["type"] == "websocket":
        await receive()
        # Accepted first: before that, a close code reaches no client.
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": BAD_KEY, "reason": text})
        return
    refusal = failure_response(scope["path"], 401, "unauthorized", text)
    if _is_page(scope):
        refusal.headers["WWW-Authenticate"] = 'Bearer, Basic realm="any name; the password is SESAME_API_KEY"'
    await refusal(scope, receive, send)


def _replaying(body: bytes, receive: Receive) -> Receive:
    """The body as one message, then whatever comes, which is the client's going."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay
