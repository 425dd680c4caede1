"""The carrier's own voice, for when none of ours is left: it says a text on the line without us."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from backend.calls.ports import Carrier
from backend.errors import CarrierError, SpeechError

log = logging.getLogger(__name__)

CARRIER = "telnyx"
"""Its name among the speech routes."""
_MS_PER_CHARACTER = 110.0  # of its slowest voice; mostly it tells when it has spoken
_GRACE_S = 5.0
_HUSH_S = 3.0
_TOLD_S = 0.5  # from falling silent to being told so


class CarrierVoice:
    """One call's. `ccid` and `command_id` give the carrier's id of the call and one for the next command."""

    def __init__(
        self, carrier: Carrier, *, language: str, ccid: Callable[[], str], command_id: Callable[[str], str]
    ) -> None:
        self._carrier, self._language, self._ccid, self._command_id = carrier, language, ccid, command_id
        self._spoken = asyncio.Event()
        self._hushing: asyncio.Task[None] | None = None

    async def say(self, text: str) -> None:
        """Returns when it is said; cancelling this stops it. Raises SpeechError."""
        if self._hushing is not None:
            # It would silence this text, too; and the end it brings about is not this one's.
            await asyncio.wait([self._hushing], timeout=_HUSH_S)
        self._spoken.clear()
        try:
            await self._carrier.speak(
                self._ccid(), text=text, language=self._language, command_id=self._command_id("speak")
            )
            async with asyncio.timeout(_GRACE_S + len(text) * _MS_PER_CHARACTER / 1000):
                await self._spoken.wait()
        except CarrierError as error:
            raise SpeechError(str(error), route=CARRIER, reason="unreachable") from error
        except TimeoutError:
            log.warning("the carrier did not tell when it had spoken %d characters", len(text))
        except asyncio.CancelledError:
            self._hushing = asyncio.create_task(self._hush(), name="hush")
            raise

    def spoke(self) -> None:
        """The carrier told that it has spoken."""
        self._spoken.set()

    async def aclose(self) -> None:
        """Returns when nothing is under way any more."""
        if self._hushing is not None:
            await asyncio.wait([self._hushing], timeout=_HUSH_S)
            self._hushing.cancel()

    async def _hush(self) -> None:
        try:
            await self._carrier.stop_speaking(self._ccid(), command_id=self._command_id("hush"))
            async with asyncio.timeout(_TOLD_S):
                await self._spoken.wait()
        except TimeoutError:
            log.info("the carrier did not tell that it fell silent")
        except CarrierError as error:
            log.info("the carrier's voice goes on: %s", error)
