"""A call's media socket: who may open it, what comes over it, and another when it is gone.

Hands on what it hears. Refuses to know what is said on it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Any, Protocol

from backend.calls.ports import MediaSocket
from backend.core.dtmf import Source
from backend.core.g711 import Codec
from backend.core.media import (
    AudioIn,
    CarrierFault,
    DtmfIn,
    Ignored,
    MarkReturned,
    MediaSession,
    Started,
    Stopped,
    UnsupportedLeg,
)

log = logging.getLogger(__name__)


class LineUser(Protocol):
    """Whose line it is."""

    def wants_line(self) -> bool:
        """Whether there is still a use for one."""

    def line_is_up(self, codec: Codec) -> None:
        """The line is there, for the first time or again; `codec`: what comes from the caller."""

    def line_lost(self) -> None:
        """The socket is gone."""

    def line_unusable(self, error: UnsupportedLeg) -> None:
        """The line is there and speaks what we do not."""

    def caller_audio(self, g711: bytes) -> None:
        """Audio of the caller's."""

    def mark_returned(self, name: str) -> None:
        """The carrier has played up to this mark."""

    def key_pressed(self, digit: str, source: Source) -> None:
        """The caller pressed a key."""


class MediaLine:
    """One call's. At any time at most one socket is its line."""

    def __init__(self, call_id: str, user: LineUser) -> None:
        self._call_id, self._user = call_id, user
        self._token = ""
        self._auth_token = ""
        self._socket: MediaSocket | None = None
        self._reader: asyncio.Task[Any] | None = None

    def new_tokens(self) -> tuple[str, str]:
        """What the next socket must come with: in its address, and beside it. Earlier ones are void."""
        self._token, self._auth_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        return self._token, self._auth_token

    def claims(self, token: str, auth_token: str | None) -> bool:
        """Whether a media socket with these tokens is the one asked for. A token serves once."""
        if not self._token or not secrets.compare_digest(token.encode(), self._token.encode()):
            return False
        if auth_token is not None and not secrets.compare_digest(
            auth_token.encode(), self._auth_token.encode()
        ):
            return False
        self._token = ""
        return self._user.wants_line()

    async def serve(self, socket: MediaSocket, over: asyncio.Event) -> None:
        """Serve a media socket until it closes or the call is `over`."""
        session = MediaSession()
        reader = asyncio.create_task(self._read(socket, session), name="media")
        waiter = asyncio.create_task(over.wait(), name="call over")
        try:
            await asyncio.wait([reader, waiter], return_when=asyncio.FIRST_COMPLETED)
            if reader.done() and not reader.cancelled():
                reader.result()
        except UnsupportedLeg as error:
            self._user.line_unusable(error)
        finally:
            reader.cancel()
            waiter.cancel()
            if self._socket is socket:
                self._socket = None
                self._user.line_lost()
            await socket.close()

    async def send(self, frame: str) -> None:
        """To the carrier; into the void while its socket is gone, since the clock of speech goes on."""
        if self._socket is not None:
            try:
                await self._socket.send(frame)
            except ConnectionError as error:
                log.debug("call %s: frame lost: %s", self._call_id, error)
                # A socket that takes nothing may still give: it is of no use all the same.
                if self._reader is not None:
                    self._reader.cancel()

    async def _read(self, socket: MediaSocket, session: MediaSession) -> None:
        while (frame := await socket.receive()) is not None:
            for event in session.receive(frame):
                match event:
                    case AudioIn(g711):
                        if self._socket is socket:
                            self._user.caller_audio(g711)
                    case MarkReturned(name):
                        self._user.mark_returned(name)
                    case DtmfIn(digit):
                        self._user.key_pressed(digit, "media")
                    case Started():
                        self._started(socket, event)
                    case Stopped():
                        return
                    case CarrierFault(code, detail):
                        log.warning(
                            "call %s: carrier could not use a frame: %s %s", self._call_id, code, detail
                        )
                    case Ignored(reason):
                        log.debug("call %s: media frame ignored: %s", self._call_id, reason)

    def _started(self, socket: MediaSocket, started: Started) -> None:
        if not self._user.wants_line():
            return  # the call ended while its media socket was connecting
        self._socket, self._reader = socket, asyncio.current_task()
        self._user.line_is_up(started.codec)
