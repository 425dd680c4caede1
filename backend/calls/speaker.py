"""The agent's mouth: text → sentences → speech route → 8 kHz G.711 → playout → media socket.

Says one utterance at a time and tells what was heard of it. Does not decide what to say, nor when to stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from backend.calls.ports import Clock, SpeechRoute
from backend.core.g711 import FRAME_MS, RATE_HZ, Codec
from backend.core.media import CLEAR_FRAME, mark_frame, media_frame
from backend.core.playout import Playout, Send, SendMedia
from backend.core.resample import Resampler
from backend.core.sentences import sentences
from backend.errors import SpeechError

SPEECH_HZ = 24_000
_MAX_QUEUED_MS = 10_000.0  # made but not yet sent; beyond it the speech server is made to wait
_MARK_GRACE_MS = 1_500.0  # a mark this late will not come: believe the clock instead


@dataclass(slots=True)
class Utterance:
    """One thing the agent says. Times in ms on the call's clock, None until they happen."""

    number: int
    text: str
    route: str
    started_ms: float
    first_chunk_ms: float | None = None
    first_frame_ms: float | None = None
    heard_from_ms: float | None = None
    ended_ms: float | None = None
    heard_text: str = ""
    interrupted: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)


class Speaker:
    """One call's voice. `run` must be running for anything to be sent."""

    def __init__(
        self,
        send: Callable[[str], Awaitable[None]],
        route: SpeechRoute,
        *,
        codec: Codec,
        clock: Clock,
        speaker_id: int = 0,
    ) -> None:
        self.playout = Playout(codec)
        self._send, self._route, self._clock, self._speaker_id = send, route, clock, speaker_id
        self._wake, self._room = asyncio.Event(), asyncio.Event()
        self._one_at_a_time, self._sending = asyncio.Lock(), asyncio.Lock()
        self._current: Utterance | None = None
        self._producer: asyncio.Task[None] | None = None
        self._pieces_out = 0
        self._count = 0
        self.last_audio_ms = 0.0

    @property
    def speaking(self) -> bool:
        """Whether the caller may be hearing us now."""
        return self._current is not None and self.playout.busy(self._clock())

    async def run(self) -> None:
        """Send what is due, when it is due, until cancelled."""
        while True:
            self._wake.clear()
            await self._send_due()
            due_ms = self.playout.next_due_ms(self._clock())
            timeout_s = None if due_ms is None else max(0.0, due_ms - self._clock()) / 1000
            try:
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def say(self, text: str) -> Utterance:
        """Speak `text`; returns once it was heard to its end or interrupted.

        Raises SpeechError when the voice fails; the utterance so far is then in `last`.
        """
        async with self._one_at_a_time:
            self._count += 1
            utterance = Utterance(self._count, text, self._route.name, self._clock())
            self._current = utterance
            self._pieces_out = 0
            self._producer = asyncio.create_task(self._produce(utterance), name="speech")
            try:
                await self._producer
                await self._heard(utterance)
            except SpeechError:
                await self._play_out(utterance)
                raise
            except asyncio.CancelledError:
                # Our own interruption cancels the producer, not us.
                if not utterance.interrupted or _cancelled_from_outside():
                    raise
            finally:
                self._producer.cancel()
                if _cancelled_from_outside():
                    await self.interrupt()  # nobody wants the rest any more
                self._settle(utterance)
            return utterance

    @property
    def last(self) -> Utterance | None:
        """The utterance being spoken, or the one spoken last."""
        return self._current

    async def interrupt(self) -> None:
        """Fall silent now: stop making speech, then have the carrier drop what it holds."""
        utterance = self._current
        if utterance is None or utterance.done.is_set():
            return
        utterance.interrupted = True
        now_ms = self._clock()
        utterance.heard_text = self.playout.heard(utterance.number, now_ms).text
        if self._producer is not None:
            self._producer.cancel()
        if self.playout.clear(now_ms):
            # Not before the frame being sent just now, or it would be played after all.
            async with self._sending:
                await self._send(CLEAR_FRAME)
        utterance.ended_ms = now_ms
        utterance.done.set()

    def mark_returned(self, name: str) -> None:
        """The carrier returned a mark."""
        now_ms = self._clock()
        played = self.playout.mark_returned(name, now_ms)
        utterance = self._current
        if played is None or utterance is None or played[1] != utterance.number:
            return
        if played[0] == "start":
            # The mark stands behind the first 20 ms frame.
            utterance.heard_from_ms = utterance.heard_from_ms or now_ms - 20
            return
        self._pieces_out -= 1
        if self._pieces_out == 0 and self._producer is not None and self._producer.done():
            utterance.done.set()

    # --- making speech ---------------------------------------------------------------------------------

    async def _produce(self, utterance: Utterance) -> None:
        resampler = Resampler(SPEECH_HZ, RATE_HZ)
        for piece in sentences(utterance.text):
            self.playout.begin(utterance.number, piece)
            self._pieces_out += 1
            try:
                async with aclosing(self._route.stream_tts(piece, self._speaker_id)) as chunks:
                    async for chunk in chunks:
                        if utterance.first_chunk_ms is None:
                            utterance.first_chunk_ms = self._clock()
                        await self._put(resampler.push(chunk))
            except SpeechError:
                await self._put(resampler.flush())
                raise
            # The resampler holds back up to 80 ms of this sentence: they must not wait for the next one.
            await self._put(resampler.flush())
            self.playout.end()
        self.playout.finish()
        self._wake.set()

    async def _put(self, pcm16_8k: bytes) -> None:
        self.playout.push(self.playout.codec.encode(pcm16_8k))
        self._wake.set()
        while self.playout.queued_ms > _MAX_QUEUED_MS:
            self._room.clear()
            await self._room.wait()

    async def _send_due(self) -> None:
        now_ms = self._clock()
        generation = self.playout.generation
        for item in self.playout.due(now_ms):
            async with self._sending:
                if self.playout.generation != generation:
                    return  # interrupted while sending: the rest was cleared
                await self._send_item(item)
        self._room.set()

    async def _send_item(self, item: Send) -> None:
        if not isinstance(item, SendMedia):
            await self._send(mark_frame(item.name))
            return
        utterance = self._current
        await self._send(media_frame(item.g711))
        self.last_audio_ms = self._clock()
        if utterance is not None and utterance.first_frame_ms is None:
            utterance.first_frame_ms = self.last_audio_ms

    async def _heard(self, utterance: Utterance) -> None:
        """Wait for the last mark, or for the clock when the carrier forgets to return it."""
        while not utterance.done.is_set():
            if self._pieces_out <= 0:
                return
            remaining_ms = self.playout.queued_ms + self.playout.carrier_ms(self._clock()) + _MARK_GRACE_MS
            try:
                async with asyncio.timeout(remaining_ms / 1000):
                    await utterance.done.wait()
            except TimeoutError:
                if not self.playout.queued_ms:
                    return

    async def _play_out(self, utterance: Utterance) -> None:
        """The voice failed: let the caller hear what there is, so that the account of it is true."""
        self.playout.finish()
        self._wake.set()
        remaining_ms = self.playout.queued_ms + self.playout.carrier_ms(self._clock()) + FRAME_MS
        with suppress(TimeoutError):
            async with asyncio.timeout(remaining_ms / 1000):
                await utterance.done.wait()

    def _settle(self, utterance: Utterance) -> None:
        if not utterance.interrupted:
            utterance.heard_text = self.playout.heard(utterance.number, self._clock()).text
            utterance.ended_ms = self._clock()
        self.playout.forget(utterance.number)
        utterance.done.set()


def _cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
