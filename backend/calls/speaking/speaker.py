"""The agent's mouth: text → pieces → a voice → 8 kHz G.711 → playout → media socket.

Says one utterance at a time and tells what was heard of it. Does not decide what to say, nor when to stop,
nor who speaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from backend.calls.ports import Clock
from backend.calls.speaking.carrier_voice import CARRIER
from backend.calls.speaking.voice import Voice
from backend.core.g711 import FRAME_MS, Codec
from backend.core.media import CLEAR_FRAME, mark_frame, media_frame
from backend.core.playout import Playout, Send, SendMedia, words_within
from backend.core.records import SpokenBy
from backend.core.said import MS_PER_CHARACTER
from backend.core.sentences import pieces
from backend.core.speech import Piece
from backend.errors import SpeechError

_MAX_QUEUED_MS = 10_000.0  # made but not yet sent; beyond it the speech server is made to wait
_MARK_GRACE_MS = 1_500.0  # a mark this late will not come: believe the clock instead
RECORDED = "recorded"
"""Route name of a recording that was played."""


@dataclass(slots=True)
class _Segment:
    """What one route was to say of an utterance."""

    text: str
    route: str
    reason: str | None
    by_carrier_from_ms: float | None = None
    over: bool = False

    def heard_elsewhere(self, now_ms: float) -> str:
        """What of it was heard, said by the carrier: by the clock."""
        if self.by_carrier_from_ms is None:
            return ""
        took_ms = now_ms - self.by_carrier_from_ms
        return words_within(self.text, 1.0 if self.over else took_ms / (len(self.text) * MS_PER_CHARACTER))


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
    held_ms: float | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    segments: list[_Segment] = field(default_factory=list)

    @property
    def spoken(self) -> tuple[SpokenBy, ...]:
        """Which route spoke which of the words that were heard; neighbours by one route are put together."""
        heard, parts = self.heard_text.split(), list[SpokenBy]()
        for segment in self.segments:
            size = len(segment.text.split())
            text, heard = " ".join(heard[:size]), heard[size:]
            if parts and parts[-1].route == segment.route:
                text = f"{parts[-1].text} {text}".strip()
                parts[-1] = SpokenBy(segment.route, text, parts[-1].reason)
            elif text or segment.reason:
                parts.append(SpokenBy(segment.route, text, segment.reason))
        return tuple(parts)


class Speaker:
    """One call's mouth, and the outlet of its voice. `run` must be running for anything to be sent."""

    def __init__(
        self,
        send: Callable[[str], Awaitable[None]],
        voice: Voice,
        *,
        codec: Codec,
        clock: Clock,
        language: str = "en-US",
    ) -> None:
        self.playout = Playout(codec)
        self._send, self._voice, self._clock, self._language = send, voice, clock, language
        self._wake, self._room, self._all_heard = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._one_at_a_time, self._sending = asyncio.Lock(), asyncio.Lock()
        self._current: Utterance | None = None
        self._producer: asyncio.Task[None] | None = None
        self._pieces_out = 0
        self._count = 0
        self.last_audio_ms = 0.0

    @property
    def speaking(self) -> bool:
        """Whether the caller may be hearing us now."""
        if self._current is None:
            return False
        return self.playout.busy(self._clock()) or self._carrier_speaks

    @property
    def _carrier_speaks(self) -> bool:
        return self._current is not None and any(
            segment.by_carrier_from_ms is not None and not segment.over for segment in self._current.segments
        )

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

        Raises SpeechError when no voice is left; the utterance so far is then in `last`.
        """
        return await self._utter(text, lambda: self._produce(pieces(text, self._language)))

    async def say_pieces(self, script: AsyncGenerator[Piece]) -> Utterance:
        """The same with what comes bit by bit; `script` is closed in the end. None come: nothing is said.

        The utterance's `text` is what has come of it so far.
        """
        return await self._utter("", lambda: self._produce_as_it_comes(script))

    async def play(self, recording: bytes, text: str) -> Utterance:
        """The same with a recording (G.711 in the line's codec) that says `text`."""
        return await self._utter(text, lambda: self._play(recording, text))

    async def _utter(self, text: str, produce: Callable[[], Awaitable[None]]) -> Utterance:
        async with self._one_at_a_time:
            self._count += 1
            utterance = Utterance(self._count, text, self._voice.first_route, self._clock())
            self._current = utterance
            self._pieces_out = 0
            self._producer = asyncio.ensure_future(produce())
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
        if utterance is None:
            return
        if utterance.done.is_set():
            if utterance.held_ms is not None:
                utterance.held_ms = None  # it ended while it was held, as when its voice failed
                self.playout.clear(self._clock())
            return
        utterance.interrupted = True
        now_ms = self._clock() if utterance.held_ms is None else utterance.held_ms
        utterance.heard_text = self._heard_text(utterance, now_ms)
        if self._producer is not None:
            self._producer.cancel()
        if self.playout.clear(now_ms):
            # Not before the frame being sent just now, or it would be played after all.
            async with self._sending:
                await self._send(CLEAR_FRAME)
        utterance.ended_ms = now_ms
        utterance.done.set()
        self._all_heard.set()

    async def hold(self) -> bool:
        """Fall silent now, but keep what was not heard: `resume` or `interrupt` must follow.

        False when there is nothing that could be held, as when the carrier's own voice speaks.
        """
        utterance = self._current
        if utterance is None or utterance.done.is_set() or self._carrier_speaks:
            return False
        if utterance.held_ms is None:
            utterance.held_ms = self._clock()
            if self.playout.hold(utterance.held_ms):
                async with self._sending:
                    await self._send(CLEAR_FRAME)
        return True

    @property
    def heard_so_far(self) -> str:
        """What was heard of what is being said, or was said last."""
        if self._current is None:
            return ""
        if self._current.done.is_set():
            return self._current.heard_text
        return self._heard_text(self._current, self._clock())

    def resume(self) -> None:
        """Speak on from the word at which `hold` cut us."""
        if self._current is not None:
            self._current.held_ms = None
        self.playout.release(self._clock())
        self._wake.set()

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
        if self._pieces_out == 0:
            self._all_heard.set()

    # --- making speech ---------------------------------------------------------------------------------

    async def _produce(self, script: Iterable[Piece]) -> None:
        before = ""
        for piece in script:
            await self._voice.say(piece, self, before=before)
            before = f"{before} {piece.spoken}".strip()
        self.playout.finish()
        self._wake.set()

    async def _produce_as_it_comes(self, script: AsyncGenerator[Piece]) -> None:
        utterance, before = self._speaking_now(), ""
        async with aclosing(script):
            async for piece in script:
                utterance.text = f"{utterance.text} {piece.text}".strip()
                await self._voice.say(piece, self, before=before)
                before = f"{before} {piece.spoken}".strip()
        self.playout.finish()
        self._wake.set()

    async def _play(self, recording: bytes, text: str) -> None:
        self.begin(text, RECORDED, None)
        await self.put(recording)
        self.end()
        self.playout.finish()
        self._wake.set()

    # --- the voice's outlet: see `voice` ------------------------------------------------------------------

    def begin(self, text: str, route: str, reason: str | None) -> None:
        """See Outlet.begin."""
        utterance = self._speaking_now()
        if not utterance.segments:
            utterance.route = route
        utterance.segments.append(_Segment(text, route, reason))
        self.playout.begin(utterance.number, text)
        self._pieces_out += 1
        self._all_heard.clear()

    async def put(self, g711: bytes) -> None:
        """See Outlet.put."""
        utterance = self._speaking_now()
        if utterance.first_chunk_ms is None:
            utterance.first_chunk_ms = self._clock()
        self.playout.push(g711)
        self._wake.set()
        while self.playout.queued_ms > _MAX_QUEUED_MS:
            self._room.clear()
            await self._room.wait()

    def amend(self, text: str) -> None:
        """See Outlet.amend."""
        self._speaking_now().segments[-1].text = text
        self.playout.amend(text)

    def take_back(self, ms: float) -> float:
        """See Outlet.take_back."""
        return self.playout.take_back(ms)

    def end(self) -> None:
        """See Outlet.end."""
        self.playout.end()
        self._wake.set()

    def lead_ms(self) -> float:
        """See Outlet.lead_ms."""
        return self.playout.queued_ms + self.playout.carrier_ms(self._clock())

    async def elsewhere(self, text: str, reason: str | None, speak: Callable[[], Awaitable[None]]) -> None:
        """See Outlet.elsewhere."""
        utterance = self._speaking_now()
        self.playout.finish()
        self._wake.set()
        await self._heard(utterance)
        self._pieces_out = 0
        segment = _Segment(text, CARRIER, reason, by_carrier_from_ms=self._clock())
        if not utterance.segments:
            utterance.route = CARRIER
        utterance.segments.append(segment)
        utterance.heard_from_ms = utterance.heard_from_ms or self._clock()
        try:
            await speak()
        except SpeechError:
            utterance.segments.remove(segment)  # nobody heard any of it
            raise
        segment.over = True

    def _speaking_now(self) -> Utterance:
        assert self._current is not None
        return self._current

    # --- sending ---------------------------------------------------------------------------------------

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
        while self._pieces_out > 0 and not utterance.done.is_set():
            try:
                async with asyncio.timeout((self.lead_ms() + _MARK_GRACE_MS) / 1000):
                    await self._all_heard.wait()
            except TimeoutError:
                if not self.playout.queued_ms:
                    return

    async def _play_out(self, utterance: Utterance) -> None:
        """The voice failed: let the caller hear what there is, so that the account of it is true."""
        self.playout.finish()
        self._wake.set()
        with suppress(TimeoutError):
            async with asyncio.timeout((self.lead_ms() + FRAME_MS) / 1000):
                await self._all_heard.wait()

    def _settle(self, utterance: Utterance) -> None:
        if not utterance.interrupted:
            utterance.heard_text = self._heard_text(utterance, self._clock())
            utterance.ended_ms = self._clock()
        self.playout.forget(utterance.number)
        utterance.done.set()

    def _heard_text(self, utterance: Utterance, now_ms: float) -> str:
        """In the order of the segments: our own voices may go on after the carrier's."""
        ours, parts = self.playout.heard(utterance.number, now_ms).text.split(), list[str]()
        for segment in utterance.segments:
            if segment.by_carrier_from_ms is not None:
                parts.append(segment.heard_elsewhere(now_ms))
                continue
            size = len(segment.text.split())
            parts += ours[:size]
            ours = ours[size:]
        return " ".join(filter(None, [*parts, *ours]))


def _cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
