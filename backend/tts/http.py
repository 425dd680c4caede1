"""What the speech routes over HTTP share: a client, bounded reading, and what its failures mean.

Knows no vendor and no telephone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import httpx

from backend.errors import SpeechError, SpeechFailure

log = logging.getLogger(__name__)

_KEPT_OPEN_S = 60.0  # warmed while the telephone rings, used when it is answered
_MAX_CONNECTIONS = 1_000
_ERROR_BODY_BYTES = 1 << 16
_LET_GO_S = 1.0


def make_client() -> httpx.AsyncClient:
    """A client that keeps its connections. Its requests are bounded by those who make them."""
    limits = httpx.Limits(max_connections=_MAX_CONNECTIONS, keepalive_expiry=_KEPT_OPEN_S)
    return httpx.AsyncClient(limits=limits, trust_env=False)


class KeptClient:
    """One speech route's address, asked over connections that are kept.

    `given` is used when there is one, and stays open. `error` words a failure as the route tells it.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        given: httpx.AsyncClient | None,
        *,
        connect_timeout_s: float,
        error: Callable[[SpeechFailure, str], SpeechError],
    ) -> None:
        self._url, self._headers, self._error = url, headers, error
        self._client, self._is_given = given, given is not None
        self._closed = False
        self.connect_timeout_s = connect_timeout_s

    async def send(self, method: str, body: Mapping[str, Any] | None, timeout_s: float) -> httpx.Response:
        """The response, its body still to come; `let_go` of it.

        Raises SpeechError once closed; httpx.HTTPError, httpx.InvalidURL, TimeoutError.
        """
        if self._closed:
            raise self._error("closed", "this voice was closed when its call ended")
        if self._client is None:
            self._client = make_client()
        # The answer is waited for below: only what comes before is bounded here.
        bounds = httpx.Timeout(
            None, connect=self.connect_timeout_s, write=self.connect_timeout_s, pool=self.connect_timeout_s
        )
        request = self._client.build_request(
            method, self._url, json=body, headers=self._headers, timeout=bounds
        )
        try:
            async with asyncio.timeout(timeout_s):
                return await self._client.send(request, stream=True)
        except TimeoutError as error:
            raise TimeoutError(f"no answer for {timeout_s:g} s") from error

    def failed(self, error: Exception) -> SpeechError:
        """What an exception of `send`, or of reading what it gave, means."""
        return self._error(*failure(error))

    async def aclose(self) -> None:
        """Close the connections, unless they were given."""
        self._closed = True
        if self._client is not None and not self._is_given:
            await self._client.aclose()


def failure(error: Exception) -> tuple[SpeechFailure, str]:
    """What an exception of httpx, or a deadline that passed, means for a speech route."""
    said = str(error) or type(error).__name__
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return "timeout", said if isinstance(error, TimeoutError) and error.args else "no answer in time"
    if _about_tls(error):
        return "unreachable", f"no secure connection (TLS): {said}"
    if isinstance(error, httpx.ConnectError | httpx.ProxyError):
        return "unreachable", f"cannot connect: {said}"
    if isinstance(error, httpx.RemoteProtocolError):
        # h11's words for a body or head that just ends.
        ended = "without" in said or "disconnected" in said
        return ("closed", f"the connection was lost: {said}") if ended else ("protocol", said)
    if isinstance(error, httpx.NetworkError):
        return "closed", f"the connection was lost: {said}"
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL):
        return "unreachable", f"this is no address: {said}"
    return "protocol", said


def _about_tls(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return True
        seen = seen.__cause__ or seen.__context__
    return "SSL" in str(error)


async def within(chunks: AsyncIterator[bytes], first_s: float, next_s: float) -> AsyncGenerator[bytes]:
    """The chunks that are not empty. Raises TimeoutError when one is not there in time.

    Close it: that closes what `chunks` holds open.
    """
    timeout_s = first_s
    try:
        while True:
            try:
                async with asyncio.timeout(timeout_s):
                    chunk = await anext(chunks, None)
                    while chunk == b"":
                        chunk = await anext(chunks, None)
            except TimeoutError as error:
                raise TimeoutError(f"no audio for {timeout_s:g} s") from error
            if chunk is None:
                return
            yield chunk
            timeout_s = next_s
    finally:
        if isinstance(chunks, AsyncGenerator):
            await _bounded(chunks.aclose())


async def let_go(response: httpx.Response) -> None:
    """Close it, within a second."""
    await _bounded(response.aclose())


async def _bounded(closing: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout(_LET_GO_S):
            await closing
    except (TimeoutError, httpx.HTTPError, OSError) as error:
        log.debug("response not closed politely: %s", error)


async def error_body(response: httpx.Response) -> object:
    """A refusal's body, decoded where it is JSON; as much of it as comes within a second."""
    body = bytearray()
    try:
        async with asyncio.timeout(_LET_GO_S):
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _ERROR_BODY_BYTES:
                    break
    except (TimeoutError, httpx.HTTPError) as error:
        log.debug("error body cut off: %s", error)
    try:
        decoded: object = json.loads(body)
    except ValueError:
        return body[:300].decode("utf-8", "replace")
    return decoded


def shown(url: str) -> str:
    """An address without what may be a secret in it."""
    try:
        return str(httpx.URL(url).copy_with(userinfo=b"", query=None, fragment=None))
    except httpx.InvalidURL:
        return "an address that is none"
