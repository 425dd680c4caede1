"""A client of the speech server, small enough to try one with: text in, an utterance out.

Knows the wire and nothing of the server behind it. The call backend has a client of its own.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import websockets
from websockets.asyncio.client import ClientConnection, connect

from runpod_server.audio import ms_of, samples_in
from runpod_server.errors import ClientError, Declined

_CONNECT_TIMEOUT_S = 15.0
_FRAME_TIMEOUT_S = 60.0  # a busy server queues a request for this long at most
_HEALTH_TIMEOUT_S = 10.0
_MAX_MESSAGE_BYTES = 1 << 20
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_WRONG_KEY, _OVERLOADED = 1008, 1013


@dataclass(frozen=True, slots=True)
class Spoken:
    """An utterance as its client got it. Times count from sending the request."""

    pcm16: bytes
    reason: str
    first_audio_ms: int | None  # None: no sound came
    total_ms: int

    @property
    def audio_ms(self) -> int:
        """Length of the sound."""
        return ms_of(samples_in(self.pcm16))


def websocket_url(url: str) -> str:
    """The address of /ws/generate from however a server was named. Raises ClientError."""
    named = url if "://" in url else f"http://{url}"
    parts = urlsplit(named)
    if parts.scheme not in _SCHEMES or not (parts.hostname or "").strip():
        raise ClientError(f"{url!r} is no server's address: give one such as http://127.0.0.1:8000")
    path = parts.path.rstrip("/").removesuffix("/health").removesuffix("/ws/generate")
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, f"{path}/ws/generate", "", ""))


class Connection:
    """An open /ws/generate: one request after another."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.reason = ""  # why the last utterance ended

    async def pieces(self, request: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        """Send one request (see the wire); its sound as it comes. Raises ClientError, Declined."""
        await self._socket.send(json.dumps(request))
        while True:
            try:
                async with asyncio.timeout(_FRAME_TIMEOUT_S):
                    message = await self._socket.recv()
            except TimeoutError as error:
                raise ClientError(
                    f"the server sent nothing for {_FRAME_TIMEOUT_S:g} s: look at its log"
                ) from error
            if isinstance(message, bytes):
                yield message
                continue
            reply = json.loads(message)
            if "error" in reply:
                raise Declined(str(reply["error"]), str(reply.get("message", "")))
            if reply.get("done"):
                self.reason = str(reply.get("reason", ""))
                return


@asynccontextmanager
async def connected(url: str, *, api_key: str | None = None) -> AsyncIterator[Connection]:
    """A connection to the server. Raises ClientError with what to do, also for what fails in its use."""
    address = websocket_url(url)
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        async with connect(
            address,
            additional_headers=headers,
            compression=None,
            open_timeout=_CONNECT_TIMEOUT_S,
            max_size=_MAX_MESSAGE_BYTES,
        ) as opened:
            yield Connection(opened)
    except TimeoutError as error:
        raise ClientError(
            f"{address} does not answer: is the pod running, and is this its address and port?"
        ) from error
    except websockets.InvalidStatus as error:
        raise ClientError(_why_refused(address, error.response.status_code)) from error
    except websockets.ConnectionClosed as error:
        raise ClientError(_why_closed(error)) from error
    except socket.gaierror as error:
        raise ClientError(f"{urlsplit(address).hostname} is unknown: check the address") from error
    except (OSError, websockets.WebSocketException) as error:
        raise ClientError(
            f"nothing answers at {address} ({error}): is the server started, and is this its port?"
        ) from error


async def speak(url: str, request: dict[str, Any], *, api_key: str | None = None) -> Spoken:
    """Send one request and collect its sound. Raises ClientError with what to do."""
    async with connected(url, api_key=api_key) as connection:
        start_s = time.monotonic()
        pcm16, first_audio_ms = bytearray(), None
        async for piece in connection.pieces(request):
            first_audio_ms = _ms_since(start_s) if first_audio_ms is None else first_audio_ms
            pcm16 += piece
        return Spoken(bytes(pcm16), connection.reason, first_audio_ms, _ms_since(start_s))


async def health(url: str, *, api_key: str | None = None) -> dict[str, Any]:
    """GET /health of the same server. Raises ClientError."""
    parts = urlsplit(websocket_url(url))
    scheme = "https" if parts.scheme == "wss" else "http"
    address = urlunsplit((scheme, parts.netloc, parts.path.removesuffix("/ws/generate") + "/health", "", ""))
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        async with httpx.AsyncClient(timeout=_HEALTH_TIMEOUT_S, headers=headers) as http:
            reply = await http.get(address)
            report = reply.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        raise ClientError(f"{address} tells no health ({error})") from error
    if not isinstance(report, dict) or "status" not in report:
        raise ClientError(f"what answers at {address} is no speech server")
    return report


def _ms_since(start_s: float) -> int:
    return round((time.monotonic() - start_s) * 1000)


def _why_refused(address: str, http_status: int) -> str:
    if http_status in (401, 403):
        return f"{address} refuses the key (HTTP {http_status}): give the server's SESAME_API_KEY with --key"
    if http_status == 404:
        return (
            f"{address} is not there (HTTP 404): the pod is stopped, its port is not exposed over HTTP, or "
            "this is another program"
        )
    if http_status in (502, 503, 504, 521, 522, 523, 524, 530):
        return (
            f"the proxy before {address} reaches no server (HTTP {http_status}): it is still installing or "
            "starting (read the pod's log), or listens on another port than the exposed one"
        )
    return f"{address} answers HTTP {http_status} where a WebSocket should open: is this a speech server?"


def _why_closed(error: websockets.ConnectionClosed) -> str:
    code = error.rcvd.code if error.rcvd else None
    if code == _WRONG_KEY:
        return "the key is missing or wrong: give the server's SESAME_API_KEY with --key"
    if code == _OVERLOADED:
        return "the server has as many connections as it takes: try again, or another server"
    return f"the connection ended before the speech did ({error}): look at the server's log"
