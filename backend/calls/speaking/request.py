"""One route asked for one piece: its sound as it comes, in the line's codec, and all that was got so far."""

from __future__ import annotations

import asyncio
import audioop
import logging
from collections import deque
from collections.abc import AsyncGenerator

from backend.calls.ports import RoutePlan
from backend.core.g711 import RATE_HZ, Codec
from backend.core.resample import Resampler
from backend.core.sound_check import SoundCheck
from backend.core.speech import CharMark, Sound
from backend.errors import SpeechError, SpeechFailure

log = logging.getLogger(__name__)

# Some servers give minutes of sound at once. To convert them takes a tenth of a second, in which other calls
# have frames to send.
_PART_MS = 500


class Request:
    """Asks at once. `pending` is done when the next chunk, the end or a failure is there."""

    def __init__(
        self, plan: RoutePlan, sounds: AsyncGenerator[Sound], codec: Codec, *, longest_ms: float
    ) -> None:
        self.plan, self._sounds, self._codec, self._longest_ms = plan, sounds, codec, longest_ms
        self._resampler: Resampler | None = None
        self._check = SoundCheck()
        self._pcm16_8k = bytearray()
        self._bad_ms = 0.0
        self._parts: deque[Sound] = deque()  # of the chunk that came last, still to be given
        self.marks: list[CharMark] = []
        self.pending = self._ask()

    @property
    def pcm16_8k(self) -> bytes:
        """All its sound so far."""
        return bytes(self._pcm16_8k)

    @property
    def sound_ms(self) -> float:
        """How much that is."""
        return len(self._pcm16_8k) / 16

    @property
    def speech_ms(self) -> float:
        """How much of that may be speech: not the noise at its end that was found out."""
        return max(0.0, self.sound_ms - self._bad_ms)

    @property
    def is_endless(self) -> bool:
        """Whether that is more than any voice takes for its text."""
        return self.sound_ms > self._longest_ms

    def error(self, reason: SpeechFailure, what: str) -> SpeechError:
        """A failure of this route, found out here."""
        return SpeechError(f"{self.plan.key}: {what}", route=self.plan.key.name, reason=reason)

    async def first(self) -> Sound:
        """The first chunk, which must be there by now. Raises SpeechError."""
        if not self.pending.done():
            raise self.error("timeout", "no sound in time")
        sound = await self.pending
        if sound is None:
            raise self.error("no_audio", "it gave no sound for a text that is not empty")
        return sound

    async def next(self, patience_ms: float) -> Sound | None:
        """The next chunk; None: that was all. Raises SpeechError, also when none comes in time."""
        self.pending = self._ask()
        done, _ = await asyncio.wait([self.pending], timeout=max(0.0, patience_ms) / 1000)
        if not done:
            raise self.error(
                "timeout", f"it fell silent for {patience_ms:.0f} ms in the middle of a sentence"
            )
        return await self.pending

    def take(self, sound: Sound) -> bytes:
        """A chunk in the line's codec. Raises SpeechError when it is no speech."""
        pcm16 = self._to_line_rate(sound)
        self.marks += sound.marks
        self._pcm16_8k += pcm16
        if (problem := self._check.push(pcm16)) is not None:
            # This chunk goes nowhere; what of the noise was given before it is known by its length.
            self._bad_ms = max(0.0, self._check.bad_ms - len(pcm16) / 16)
            del self._pcm16_8k[len(self._pcm16_8k) - len(pcm16) :]
            raise self.error("noise", f"what it gives is no speech: {problem}")
        if sound.encoding == "ulaw" and self._codec is Codec.PCMU:
            return sound.data
        return self._codec.encode(pcm16)

    def flush(self) -> bytes:
        """What the resampler still holds, after the last chunk."""
        if self._resampler is None:
            return b""
        pcm16 = self._resampler.flush()
        self._pcm16_8k += pcm16
        return self._codec.encode(pcm16)

    async def discard(self, deadline_s: float) -> None:
        """Cancel whatever is under way, within the deadline."""
        self.pending.cancel()
        try:
            async with asyncio.timeout(deadline_s):
                await asyncio.wait([self.pending])
                await self._sounds.aclose()
        except (TimeoutError, SpeechError, RuntimeError) as error:
            # RuntimeError: the generator is still running, stuck in its own cleaning up.
            log.info("%s: not cancelled properly: %r", self.plan.key, error)
        if self.pending.done() and not self.pending.cancelled():
            self.pending.exception()  # nobody else will ask for it

    def _ask(self) -> asyncio.Task[Sound | None]:
        return asyncio.create_task(self._next_sound(), name=f"speech by {self.plan.key.name}")

    async def _next_sound(self) -> Sound | None:
        if not self._parts and (sound := await self._next_chunk()) is not None:
            if (problem := sound.problem()) is not None:
                raise self.error("protocol", f"it {problem}")
            self._parts.extend(sound.in_parts(_PART_MS))
        return self._parts.popleft() if self._parts else None

    async def _next_chunk(self) -> Sound | None:
        try:
            while (sound := await anext(self._sounds, None)) is not None and not sound.data:
                self.marks += sound.marks
        except SpeechError:
            raise
        except Exception as error:
            # A bug in one adapter must not cost the caller the sentence: another route finishes it.
            log.exception("%s failed in an unforeseen way", self.plan.key)
            raise self.error("generation_failed", f"internal error: {error!r}") from error
        return sound

    def _to_line_rate(self, sound: Sound) -> bytes:
        if sound.encoding == "ulaw":
            return audioop.ulaw2lin(sound.data, 2)
        if self._resampler is None:
            self._resampler = Resampler(sound.rate_hz, RATE_HZ)
        return self._resampler.push(sound.data)
