"""The media WebSocket the carrier connects to: claims its call by token, then only passes frames."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

if TYPE_CHECKING:
    from backend.calls.manager import CallManager

_AUTH_HEADER = "x-telnyx-streaming-auth-token"
_SEND_TIMEOUT_S = 5.0


class _Socket:
    """A starlette WebSocket as calls want it."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def send(self, frame: str) -> None:
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_S):
                await self._websocket.send_text(frame)
        except (WebSocketDisconnect, RuntimeError, TimeoutError, OSError) as error:
            # starlette says RuntimeError for a socket that is closed already
            raise ConnectionError(f"media socket: {error}") from error

    async def receive(self) -> str | None:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        text = message.get("text")
        return text if text is not None else (message.get("bytes") or b"").decode(errors="replace")

    async def close(self) -> None:
        try:
            async with asyncio.timeout(1.0):
                await self._websocket.close()
        except (WebSocketDisconnect, RuntimeError, TimeoutError, OSError):
            return  # closed by the other side already, or beyond closing


def media_router(manager: CallManager) -> APIRouter:
    """`WS /media/{token}`: refused with HTTP 403 unless the token is a live call's, unused, and in time."""
    router = APIRouter()

    @router.websocket("/media/{token}")
    async def media(websocket: WebSocket, token: str) -> None:
        call = manager.claim_media(token, websocket.headers.get(_AUTH_HEADER))
        if call is None:
            await websocket.close(code=1008)
            return
        await websocket.accept()
        await manager.serve_media(call, _Socket(websocket))

    return router
