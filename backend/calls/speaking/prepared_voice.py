"""One call's prompts: what was made beforehand, and what may be said next, made while the caller talks."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import chain, zip_longest

from backend.calls.ports import Recording, SpeechRoute
from backend.calls.speaking.synthesis import synthesise
from backend.core.prompts import cut, prompt_key
from backend.core.speech import Piece
from backend.errors import SpeechError
from backend.recorded import APOLOGY, recorded_apology

log = logging.getLogger(__name__)

MOST_AHEAD = 6  # pieces made ahead of one turn
_MOST_KEPT_BYTES = 4 << 20  # of one call's own: over eight minutes


class PreparedVoice:
    """What is ready in the voice of one call. Made by `Preparer.voice`; `aclose` it when the call is over."""

    def __init__(
        self,
        *,
        voice: str | None,
        language: str,
        apology: str,
        find: Callable[[str], bytes | None],
        keep: Callable[[str, Piece, bytes], Awaitable[bool]],
        spoken_live: Callable[[str], None],
        make_route: Callable[[], SpeechRoute] | None,
        turnstile: asyncio.Semaphore,
    ) -> None:
        """`find`: sound by key, at once. `keep`: takes a static piece's sound for all calls, False: it is
        none. `spoken_live`: a route just spoke this key. `make_route` None: nothing is made ahead."""
        self._voice, self._language, self._apology = voice, language, apology
        self._find, self._keep, self._spoken_live = find, keep, spoken_live
        self._make_route, self._turnstile = make_route, turnstile
        self._own: OrderedDict[str, bytes] = OrderedDict()
        self._own_bytes = 0
        self._route: SpeechRoute | None = None
        self._ahead: list[Piece] = []
        self._making: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def lookup(self, piece: Piece) -> bytes | None:
        """The piece's sound, μ-law at 8 kHz, or None: it must be made. Memory only, far under 1 ms."""
        key = self._key(piece)
        return None if key is None else self._own.get(key) or self._find(key)

    def note(self, piece: Piece) -> None:
        """A route has just spoken this piece whole, because it was not prepared: it can be again, now."""
        if (key := self._key(piece)) is not None:
            self._spoken_live(key)

    def apology(self) -> Recording | None:
        """The agent's apology for a failed voice, in that voice; else the one that ships. Memory only.

        None: neither is there, as for a language without a shipped one.
        """
        pieces = cut(self._apology, self._language)
        sounds = [sound for piece in pieces if (sound := self.lookup(piece)) is not None]
        if pieces and len(sounds) == len(pieces):
            return Recording(b"".join(sounds), self._apology)
        shipped = recorded_apology(self._language)
        return None if shipped is None else Recording(shipped, APOLOGY)

    # --- ahead -----------------------------------------------------------------------------------------

    def prepare_soon(self, texts: Sequence[str]) -> None:
        """These may be said next: make what is not ready, the first pieces of each first. Returns at once.

        At most six pieces; what an earlier call asked for and this one does not is given up.
        """
        if self._make_route is None or self._closed:
            return
        cuts = [cut(text, self._language) for text in texts]
        in_turn = chain.from_iterable(zip_longest(*cuts))
        wanted = {self._key(piece): piece for piece in in_turn if piece is not None and piece.spoken}
        self._ahead = [piece for piece in wanted.values() if self.lookup(piece) is None][:MOST_AHEAD]
        if self._making in wanted:
            self._ahead = [piece for piece in self._ahead if self._key(piece) != self._making]
            return
        before = self._task
        if before is not None:
            before.cancel()
        self._task = asyncio.create_task(self._make_ahead(before), name="prompts ahead")

    async def aclose(self) -> None:
        """Stop, and let go of the route."""
        self._closed = True
        self._ahead = []
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._drop_route()

    async def _make_ahead(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])  # one request at a time on our route
        while self._ahead:
            async with self._turnstile:
                if not self._ahead:
                    return
                piece = self._ahead.pop(0)
                self._making = self._key(piece)
                try:
                    await self._make(piece)
                except SpeechError as error:
                    log.debug("not prepared ahead: %s", error)
                    self._ahead = []
                    await self._drop_route()
                finally:
                    self._making = None

    async def _make(self, piece: Piece) -> None:
        assert self._make_route is not None
        if self._route is None:
            self._route = self._make_route()
        ulaw = await synthesise(self._route, piece.spoken)
        key = self._key(piece)
        if key is None or await self._keep(key, piece, ulaw):
            return
        self._own[key] = ulaw
        self._own_bytes += len(ulaw)
        while self._own_bytes > _MOST_KEPT_BYTES:
            _, oldest = self._own.popitem(last=False)
            self._own_bytes -= len(oldest)

    async def _drop_route(self) -> None:
        route, self._route = self._route, None
        if route is not None:
            with suppress(SpeechError):
                await route.aclose()

    def _key(self, piece: Piece) -> str | None:
        return None if self._voice is None else prompt_key(self._voice, piece.spoken)
