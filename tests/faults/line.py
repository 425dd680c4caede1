"""A carrier's line that plays in real time and keeps what the caller heard, gaps and all."""

from __future__ import annotations

import asyncio
import audioop
import base64
import json
from collections.abc import Callable

FRAME_BYTES = 160


class HeardLine:
    """Takes the frames a speaker sends. PCMU, 8 kHz."""

    def __init__(self) -> None:
        self.on_mark: Callable[[str], None] = lambda name: None
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._end_s = 0.0
        self._heard, self._spoken = bytearray(), bytearray()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.gaps_ms: list[float] = []
        """Silences in which the line had run dry, after the first sound."""
        self.first_audio_ms: float | None = None

    async def send(self, frame: str) -> None:
        """One text frame from the speaker."""
        message = json.loads(frame)
        now_s = self._loop.time()
        if message["event"] == "media":
            self._play(base64.b64decode(message["media"]["payload"]), now_s)
        elif message["event"] == "mark":
            name = message["mark"]["name"]
            self._timers[name] = self._loop.call_at(max(now_s, self._end_s), self._return, name)

    def _play(self, ulaw: bytes, now_s: float) -> None:
        assert len(ulaw) % FRAME_BYTES == 0, "whole 20 ms frames only"
        if self.first_audio_ms is None:
            self.first_audio_ms = (now_s - self._began_s) * 1000
        elif now_s > self._end_s:
            gap_s = now_s - self._end_s
            self.gaps_ms.append(gap_s * 1000)
            self._heard += b"\xff" * round(gap_s * 8000)
        self._heard += ulaw
        self._spoken += ulaw
        self._end_s = max(now_s, self._end_s) + len(ulaw) / 8000

    def play_elsewhere(self, ulaw: bytes) -> None:
        """The carrier plays something of its own, whole frames or not."""
        self._play(ulaw + b"\xff" * (-len(ulaw) % FRAME_BYTES), self._loop.time())

    def _return(self, name: str) -> None:
        del self._timers[name]
        self.on_mark(name)

    @property
    def heard(self) -> bytes:
        """What the caller heard from the first sound on, int16 at 8 kHz."""
        return audioop.ulaw2lin(bytes(self._heard), 2)

    @property
    def spoken(self) -> bytes:
        """The same without the gaps."""
        return audioop.ulaw2lin(bytes(self._spoken), 2)

    def close(self) -> None:
        """Return no more marks."""
        for timer in self._timers.values():
            timer.cancel()
