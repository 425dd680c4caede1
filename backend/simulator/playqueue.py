"""The carrier's playout queue: what the backend sent, played 20 ms a tick, with Telnyx's marks and clear.

Time is counted in played samples, so the queue needs no clock. Knows nothing of sockets or codecs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

FRAME_SAMPLES = 160
SAMPLES_PER_MS = 8
_FRAME_BYTES = 2 * FRAME_SAMPLES
# A pause longer than this is taken for the next utterance, not for a hole in one.
_UNDERRUN_LIMIT_SAMPLES = 3_000 * SAMPLES_PER_MS


@dataclass(frozen=True, slots=True)
class Played:
    """One tick: 20 ms of int16 for the line, the marks that are due now, and a hole just closed (or 0)."""

    pcm16: bytes
    marks: tuple[str, ...]
    underrun_ms: float


@dataclass(frozen=True, slots=True)
class Cleared:
    """What `clear` threw away: every queued mark comes back, and this much audio is never heard."""

    marks: tuple[str, ...]
    dropped_ms: float


class PlayQueue:
    """Audio and marks in the order they were sent.

    A mark is due when the last sample before it was played, at once if the queue is idle. When the queue
    runs dry after audio with no mark behind it, and more audio comes within 3 s, that was a hole inside an
    utterance: an underrun.
    """

    def __init__(self) -> None:
        self._items: deque[bytes | str] = deque()
        self._played_out: list[str] = []  # marks whose audio ends within the frame now playing
        self._playing = False
        self._open = False  # the newest thing sent or played is audio, not a mark
        self._dry_at: int | None = None
        self._clock = 0

    @property
    def queued_ms(self) -> float:
        """Audio waiting to be played, without the frame now playing."""
        samples = sum(len(item) // 2 for item in self._items if isinstance(item, bytes))
        return samples / SAMPLES_PER_MS

    def push_audio(self, pcm16: bytes) -> None:
        """Queue int16 at 8 kHz, any number of whole samples."""
        if pcm16:
            self._items.append(pcm16)

    def push_mark(self, name: str) -> bool:
        """Queue a mark. True: nothing was playing, it is due now and was not queued."""
        if self._items:
            self._items.append(name)
            return False
        self._open, self._dry_at = False, None
        if self._playing:
            self._played_out.append(name)
            return False
        return True

    def clear(self) -> Cleared:
        """Empty the queue. The frame now playing, up to 20 ms, still ends."""
        marks = (*self._played_out, *(item for item in self._items if isinstance(item, str)))
        dropped_ms = self.queued_ms
        self._items.clear()
        self._played_out.clear()
        self._open, self._dry_at = False, None
        return Cleared(marks, dropped_ms)

    def tick(self) -> Played:
        """The next 20 ms of the line, silence where there is nothing to play."""
        marks, self._played_out = self._played_out, []
        frame = bytearray()
        underrun_ms = 0.0
        while self._items:
            item = self._items[0]
            if isinstance(item, str):
                (self._played_out if frame else marks).append(item)
                self._open, self._dry_at = False, None
                self._items.popleft()
                continue
            if len(frame) == _FRAME_BYTES:
                break
            underrun_ms = max(underrun_ms, self._end_drought())
            self._take(frame, item)
        if self._open and not self._items and frame:
            self._dry_at = self._clock + len(frame) // 2
        self._playing = bool(frame)
        self._clock += FRAME_SAMPLES
        return Played(bytes(frame).ljust(_FRAME_BYTES, b"\0"), tuple(marks), underrun_ms)

    def _take(self, frame: bytearray, item: bytes) -> None:
        room = _FRAME_BYTES - len(frame)
        frame += item[:room]
        self._open = True
        if len(item) > room:
            self._items[0] = item[room:]
        else:
            self._items.popleft()

    def _end_drought(self) -> float:
        dry_at, self._dry_at = self._dry_at, None
        if dry_at is None or self._clock - dry_at >= _UNDERRUN_LIMIT_SAMPLES:
            return 0.0
        return (self._clock - dry_at) / SAMPLES_PER_MS
