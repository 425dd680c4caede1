"""Opening and closing WebSockets to vendors and speech servers, the same way for all of them.

Knows no protocol: what a refused handshake means is for the adapter to say.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping

from websockets.asyncio.client import ClientConnection, connect

from backend.errors import SpeechFailure

log = logging.getLogger(__name__)
# websockets would write every header, the key among them, into a debug log.
_wire_log = logging.getLogger("backend.sockets.wire")
_wire_log.setLevel(logging.INFO)

_PING_S = 10.0
_QUEUED_MESSAGES = 16  # unread ones held here before the server is made to wait: the library's own


class _Connect(connect):
    """Follows no redirect: the library would carry a vendor's key to whatever host it names."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def dial(
    url: str,
    *,
    headers: Mapping[str, str],
    max_message_bytes: int,
    max_queue: int = _QUEUED_MESSAGES,
    let_go_s: float = 1.0,
) -> ClientConnection:
    """A new connection, without compression and past any proxy. The caller sets the deadline.

    Raises websockets.InvalidStatus when it is refused; OSError or WebSocketException: see `unreachable`.
    """
    return await _Connect(
        url,
        additional_headers=headers,
        compression=None,
        max_size=max_message_bytes,
        max_queue=max_queue,
        open_timeout=None,
        ping_interval=_PING_S,
        ping_timeout=_PING_S,
        close_timeout=let_go_s,
        proxy=None,
        logger=_wire_log,
    )


def unreachable(error: Exception) -> tuple[SpeechFailure, str]:
    """Why there is no connection."""
    if isinstance(error, ssl.SSLError):
        return "unreachable", f"no secure connection (TLS): {error}"
    return "unreachable", f"cannot connect: {error}"


async def hang_up(connection: ClientConnection, within_s: float = 1.0) -> None:
    """Close it, politely if that takes no longer; it is closed for certain."""
    try:
        async with asyncio.timeout(within_s):
            await connection.close()
    except (TimeoutError, OSError) as error:
        log.debug("connection not closed politely: %s", error)
    finally:
        connection.transport.abort()  # nothing to do unless the closing failed or was cancelled
