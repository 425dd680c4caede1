"""What the carrier itself says on one call's line: texts to speak, one after the other, until hushed."""

from __future__ import annotations

import asyncio
import logging

from backend.errors import SpeechError
from backend.simulator.lifetime import Lifetime
from backend.simulator.line import Line
from backend.simulator.ports import Announcer
from backend.simulator.telling import Telling

log = logging.getLogger(__name__)


class Announcing:
    """One call's. What is to be spoken queues up."""

    def __init__(self, voice: Announcer, line: Line, life: Lifetime, telling: Telling) -> None:
        self._voice, self._line, self._life, self._telling = voice, line, life, telling
        self._speaking = asyncio.Lock()
        self._hushes = 0  # `speak` commands given before the last hush are not heard any more
        self._hushed = asyncio.Event()

    def speak(self, text: str) -> None:
        self._life.line_wanted.set()
        self._telling.note("speak", text=text)
        self._life.spawn(self._speak(text, self._hushes), "speak")

    def hush(self, *, everything: bool) -> None:
        """Fall silent; what waits behind is not said either (`everything`), or now is."""
        self._telling.note("speak_stop")
        if everything:
            self._hushes += 1
        self._hushed.set()

    async def _speak(self, text: str, hushes: int) -> None:
        try:
            pcm16 = await self._voice.announce(text)
        except SpeechError as error:
            log.error("speak: %s", error)
            pcm16 = b""
        async with self._speaking:
            if self._life.over.is_set():
                return
            if hushes == self._hushes:
                self._hushed.clear()
                self._telling.tell("call.speak.started")
                self._line.announce(pcm16)
                if await self._life.happens(self._hushed, len(pcm16) / 2 / 8000):
                    self._line.hush()
            # Telnyx has no word of its own for one that was stopped.
            status = "call_hangup" if self._life.over.is_set() else "completed"
            self._telling.tell("call.speak.ended", status=status)
