"""What to hand to the carrier and when: a bounded lead on the clock, and an account of what was heard.

The carrier queues what it gets and paces it to the line. So audio goes out at once when the line is about
to run dry, never more than `lead_ms` ahead of what is being played, in 20 ms steps. Knows nothing of
sockets; time is an argument, milliseconds on any monotonic clock.
"""

from __future__ import annotations

import audioop
from collections import deque
from dataclasses import dataclass

from backend.core.echo import PlayedLoudness
from backend.core.g711 import BYTES_PER_MS, FRAME_BYTES, FRAME_MS, Codec
from backend.core.said import weight

_GUESS_MS_PER_CHARACTER = 62.0  # English at a telephone agent's pace, for speech whose end is not known yet
_MARK_PATIENCE_MS = 1_000.0  # a mark overdue by more is lost; the clock is believed instead
_DRY_MS = 2.0 * FRAME_MS  # with less than this at the carrier, a short frame goes out padded
_TIMER_SLACK_MS = 1.0  # a timer that wakes a hair early must not spin

_KEPT_BYTES = 3_000 * BYTES_PER_MS  # of what was sent: the lead, the carrier's lag and the way back to a word
_BACK_BYTES = 400 * BYTES_PER_MS  # a word is taken up again from its start, at most so far back
_QUIET_STEPS = 3
_STEP_BYTES = 10 * BYTES_PER_MS
_SILENT_BELOW = 300  # of 32768, −41 dB: softer than the softest consonant


@dataclass(frozen=True, slots=True)
class SendMedia:
    """Audio to send now, whole 20 ms frames in the leg's codec."""

    g711: bytes


@dataclass(frozen=True, slots=True)
class SendMark:
    """A mark to send now."""

    name: str


Send = SendMedia | SendMark


@dataclass(slots=True)
class _Piece:
    utterance: int
    text: str
    start: int  # byte offsets in everything ever pushed: its audio so far is start to stop
    stop: int
    voiced_stop: int = 0  # where its last sound ends: a voice trails off into silence that holds no word
    ended: bool = False  # no more audio comes
    last: bool = False  # of its utterance


@dataclass(frozen=True, slots=True)
class _Mark:
    offset: int
    name: str


@dataclass(frozen=True, slots=True)
class _InFlight:
    offset: int
    reckoned_ms: float  # when the carrier should reach it


@dataclass(frozen=True, slots=True)
class Heard:
    """What the caller has heard of an utterance. `complete` when it was finished and all its audio played."""

    text: str
    complete: bool


class Playout:
    """One call's outgoing audio. Utterances are made of pieces (sentences); pieces follow without a seam.

    Use: `begin(utterance, text)`, `push(audio)`…, `end()` per piece and `finish()` after an utterance's last
    piece; send what `due(now_ms)` gives, and ask again at `next_due_ms(now_ms)`.
    """

    def __init__(self, codec: Codec, *, lead_ms: float = 600.0, chunk_ms: float = 200.0) -> None:
        self.codec = codec
        self.lead_ms = lead_ms
        # At most half the lead, so that the line is never empty when the next chunk is due.
        self.chunk_ms = max(FRAME_MS, min(chunk_ms, lead_ms / 2))
        self.generation = 0
        self.underruns = 0
        self.loudness = PlayedLoudness()
        self._pending = bytearray()
        self._marks: deque[_Mark] = deque()
        self._in_flight: dict[str, _InFlight] = {}  # marks the carrier holds, by name
        self._pieces: list[_Piece] = []
        self._pushed = self._sent = 0
        self._played = 0.0  # at least this much was played
        self._recent = bytearray()  # the last of what was sent
        self._held = False
        self._sealed = False  # nothing more comes: a tail under 20 ms may be padded
        self._line_end_ms = 0.0  # when the carrier runs dry
        self._late_ms = 0.0  # how much later than reckoned the carrier plays, by its marks

    # --- filling ---------------------------------------------------------------------------------------

    def begin(self, utterance: int, text: str) -> None:
        """The next audio says `text`; `utterance` numbers the turn it belongs to."""
        self._sealed = False
        if not any(piece.utterance == utterance for piece in self._pieces):
            # Its return tells when the caller began to hear this utterance: one frame after the start.
            self._marks.append(_Mark(self._pushed + FRAME_BYTES, self._name("start", utterance)))
        self._pieces.append(_Piece(utterance, text, self._pushed, self._pushed))

    def push(self, g711: bytes) -> None:
        """Audio of the current piece, any length. Dropped when `clear` came since `begin`: it is stale."""
        if not self._pieces:
            return
        self._pending += g711
        self._pushed += len(g711)
        piece = self._pieces[-1]
        if not piece.ended:
            piece.stop = self._pushed
            if voiced := self._voiced_bytes(g711):
                piece.voiced_stop = self._pushed - len(g711) + voiced

    def amend(self, text: str) -> None:
        """The audio of the current piece says this, after all: the voice broke off, another will go on."""
        if self._pieces and not self._pieces[-1].ended:
            self._pieces[-1].text = text

    def take_back(self, ms: float) -> float:
        """Forget up to so much of the current piece's last audio, as far as it was not sent. → how much."""
        if not self._pieces or self._pieces[-1].ended:
            return 0.0
        piece = self._pieces[-1]
        size = min(round(ms * BYTES_PER_MS), len(self._pending), piece.stop - piece.start)
        if size <= 0:
            return 0.0
        del self._pending[-size:]
        self._pushed -= size
        piece.stop = self._pushed
        piece.voiced_stop = min(piece.voiced_stop, piece.stop)
        return size / BYTES_PER_MS

    def end(self) -> None:
        """The current piece has all its audio; a mark follows it. Without one, as after `clear`: nothing."""
        if not self._pieces or self._pieces[-1].ended:
            return
        self._pieces[-1].ended = True
        mark = _Mark(self._pushed, self._name("end", len(self._pieces) - 1))
        # A start mark, one frame on, may still lie ahead of an end without much audio.
        place = next(
            (i for i, other in enumerate(self._marks) if other.offset > mark.offset), len(self._marks)
        )
        self._marks.insert(place, mark)

    def finish(self) -> None:
        """No further piece follows for now: what is left is sent even if it fills no frame."""
        self._sealed = True
        if self._pieces:
            self._pieces[-1].last = True
        # An utterance shorter than a frame starts where it ends; one without audio never does.
        marks = (m for m in self._marks if m.offset - FRAME_BYTES < self._pushed)
        clamped = (_Mark(min(m.offset, self._pushed), m.name) for m in marks)
        self._marks = deque(sorted(clamped, key=lambda m: (m.offset, ":end:" in m.name)))

    # --- sending ---------------------------------------------------------------------------------------

    @property
    def queued_ms(self) -> float:
        """Audio not yet handed to the carrier."""
        return len(self._pending) / BYTES_PER_MS

    def carrier_ms(self, now_ms: float) -> float:
        """Audio the carrier still has to play."""
        return max(0.0, self._line_end_ms - now_ms)

    def busy(self, now_ms: float) -> bool:
        """Whether anything is still to be played, by our reckoning; not while it is held."""
        return not self._held and (bool(self._pending) or self._unplayed_ms(now_ms) > 0)

    def due(self, now_ms: float) -> list[Send]:
        """What to send now, in order."""
        sends: list[Send] = []
        if self._held:
            return sends
        self._pop_marks(now_ms, sends)
        self._pad_tail(now_ms)
        while (size := self._sendable(now_ms)) > 0:
            self._take(size, now_ms, sends)
            self._pad_tail(now_ms)
        return sends

    def next_due_ms(self, now_ms: float) -> float | None:
        """When `due` will next have something to send; None when more audio or `release` must come first."""
        if self._held:
            return None
        if self._marks and self._marks[0].offset <= self._sent:
            return now_ms
        whole_ms = len(self._pending) // FRAME_BYTES * FRAME_MS
        if self._pending and self._sealed:
            whole_ms = max(FRAME_MS, whole_ms)
        if whole_ms:
            return max(now_ms, self._line_end_ms - self.lead_ms + min(self.chunk_ms, whole_ms))
        if self._pending and self._piece_over:
            return max(now_ms, self._line_end_ms - _DRY_MS)
        return None

    def _sendable(self, now_ms: float) -> int:
        """Bytes to send in one frame: whole 20 ms steps, at most a chunk, only when the lead has room."""
        queued_ms = len(self._pending) // FRAME_BYTES * FRAME_MS
        room_ms = self.lead_ms - self.carrier_ms(now_ms)
        if queued_ms == 0 or room_ms + _TIMER_SLACK_MS < min(self.chunk_ms, queued_ms):
            return 0
        size = int(min(self.chunk_ms, queued_ms)) // FRAME_MS * FRAME_BYTES
        if self._marks and self._sent < self._marks[0].offset < self._sent + size:
            # Stop at the first frame border past the mark, so that the mark says what it means.
            size = -(-(self._marks[0].offset - self._sent) // FRAME_BYTES) * FRAME_BYTES
        return size

    def _take(self, size: int, now_ms: float, sends: list[Send]) -> None:
        if self._line_end_ms < now_ms:
            if self._mid_piece(self._sent):
                self.underruns += 1
            self._played = self._played_bytes(now_ms)
            self._line_end_ms = now_ms
        sends.append(SendMedia(bytes(self._pending[:size])))
        self._recent += self._pending[:size]
        self.loudness.played(
            self.codec.decode(bytes(self._pending[:size])), self._line_end_ms + self._late_ms
        )
        del self._recent[:-_KEPT_BYTES]
        del self._pending[:size]
        self._sent += size
        self._line_end_ms += size / BYTES_PER_MS
        self._pop_marks(now_ms, sends)

    def _pop_marks(self, now_ms: float, sends: list[Send]) -> None:
        while self._marks and self._marks[0].offset <= self._sent:
            mark = self._marks.popleft()
            # On an idle line it comes back at once: that is no lateness.
            self._in_flight[mark.name] = _InFlight(self._sent, max(now_ms, self._line_end_ms))
            sends.append(SendMark(mark.name))

    def _pad_tail(self, now_ms: float) -> None:
        """Complete a last, short frame: the carrier takes no less than 20 ms."""
        tail = len(self._pending) % FRAME_BYTES
        if tail and (self._sealed or (tail == len(self._pending) and self._about_to_run_dry(now_ms))):
            pad = FRAME_BYTES - tail
            self._pending += self.codec.silence * pad
            self._pushed += pad

    @property
    def _piece_over(self) -> bool:
        return bool(self._pieces) and self._pieces[-1].ended

    def _about_to_run_dry(self, now_ms: float) -> bool:
        return self._piece_over and self.carrier_ms(now_ms) <= _DRY_MS + _TIMER_SLACK_MS

    def _mid_piece(self, offset: int) -> bool:
        return any(p.start < offset < p.stop for p in self._pieces) or (
            bool(self._pieces) and not self._pieces[-1].ended and self._pieces[-1].start < offset
        )

    # --- hearing ---------------------------------------------------------------------------------------

    def mark_returned(self, name: str, now_ms: float) -> tuple[str, int] | None:
        """("start", utterance) or ("end", utterance of the piece) that was played; None for a stale mark.

        A mark of an earlier generation came back because it was cleared: it proves nothing.
        """
        mark = self._in_flight.pop(name, None)
        if mark is None:
            return None
        self._late_ms = max(0.0, now_ms - mark.reckoned_ms)
        self._played = max(self._played, mark.offset)
        _, kind, number = name.split(":")
        return kind, int(number) if kind == "start" else self._pieces[int(number)].utterance

    def heard(self, utterance: int, now_ms: float) -> Heard:
        """What of an utterance has been played by now, cut at a word."""
        played = self._played_bytes(now_ms)
        pieces = [piece for piece in self._pieces if piece.utterance == utterance]
        words = (words_within(piece.text, self._share(piece, played)) for piece in pieces)
        complete = bool(pieces) and pieces[-1].last and all(p.ended and p.stop <= played for p in pieces)
        return Heard(" ".join(filter(None, words)), complete)

    def clear(self, now_ms: float) -> bool:
        """Forget everything unplayed, as on barge-in. True when the carrier must be told to clear, too.

        Ask `heard` first: afterwards nothing more is heard of the utterances known so far.
        """
        tell_carrier = bool(self._in_flight) or self._unplayed_ms(now_ms) > 0
        self._held = False
        self.generation += 1
        self._pending.clear()
        self._marks.clear()
        self._in_flight.clear()
        self._pieces.clear()
        self._pushed = self._sent
        self._played = float(self._sent)
        self._line_end_ms = min(self._line_end_ms, now_ms - self._late_ms)
        self.loudness.cut(now_ms)
        self._sealed = True
        return tell_carrier

    def hold(self, now_ms: float) -> bool:
        """Take back what was not played yet, as when the caller makes a sound that may be an interruption.

        `release` plays on from where it was cut, from the start of the word; `clear` gives it up. True when
        the carrier must be told to clear what it holds. More audio may be pushed meanwhile.
        """
        if self._held:
            return False
        tell_carrier = bool(self._in_flight) or self._unplayed_ms(now_ms) > 0
        played = min(self._sent, int(self._played_bytes(now_ms)))
        back = min(self._sent - self._word_start(played), len(self._recent))
        again = sorted((mark.offset, name) for name, mark in self._in_flight.items())
        self.generation += 1
        self._in_flight.clear()
        self._marks.extendleft(
            _Mark(offset, self._renamed(name))
            for offset, name in reversed(again)
            if offset > self._sent - back
        )
        kept = len(self._recent) - back
        self._pending[:0] = self._recent[kept:]
        del self._recent[kept:]
        self._sent -= back
        self._played = max(self._played, float(played))
        self._line_end_ms = min(self._line_end_ms, now_ms - self._late_ms)
        self.loudness.cut(now_ms)
        self._held = True
        return tell_carrier

    def release(self, now_ms: float) -> None:
        """Play on what is held."""
        if self._held:
            self._held = False
            self._line_end_ms = max(self._line_end_ms, now_ms)

    def _word_start(self, played: int) -> int:
        """Where to take up speech that was cut at `played`: at the last pause or, without one, the quietest
        spot not far back. A word of which only the end is heard is none."""
        begins = max((p.start for p in self._pieces if p.start <= played), default=played)
        reach = min(_BACK_BYTES, played - begins, len(self._recent) - (self._sent - played))
        if reach < _QUIET_STEPS * _STEP_BYTES:
            return played - max(0, reach)
        end = len(self._recent) - (self._sent - played)
        pcm16 = self.codec.decode(bytes(self._recent[end - reach : end]))
        step = 2 * _STEP_BYTES
        peaks = [audioop.max(pcm16[at : at + step], 2) for at in range(0, len(pcm16) - step + 1, step)]
        runs = [max(peaks[at : at + _QUIET_STEPS]) for at in range(len(peaks) - _QUIET_STEPS + 1)]
        quiet = [at for at, peak in enumerate(runs) if peak <= max(_SILENT_BELOW, min(runs))]
        return played - reach + (quiet[-1] + _QUIET_STEPS) * _STEP_BYTES

    def _renamed(self, name: str) -> str:
        """The carrier returns a cleared mark, too: under its old name it proves nothing."""
        _, kind, number = name.split(":")
        return self._name(kind, int(number))

    def forget(self, utterance: int) -> None:
        """An utterance's account is settled; its texts need not be kept. Offsets and marks stay valid."""
        for piece in self._pieces:
            if piece.utterance == utterance:
                piece.text = ""

    def _unplayed_ms(self, now_ms: float) -> float:
        """Audio sent and not yet played, the carrier's lag included."""
        return max(0.0, self._line_end_ms + self._late_ms - now_ms)

    def _played_bytes(self, now_ms: float) -> float:
        """By the clock, but never past a mark that is overdue, nor before one that came back."""
        reckoned = self._sent - self._unplayed_ms(now_ms) * BYTES_PER_MS
        awaited = (
            mark.offset
            for mark in self._in_flight.values()
            if mark.offset > self._played and now_ms - mark.reckoned_ms <= _MARK_PATIENCE_MS
        )
        return max(self._played, min(reckoned, *awaited, self._sent))

    def _share(self, piece: _Piece, played: float) -> float:
        """How much of a piece's text was heard, 0-1; its length is a guess while its audio still comes."""
        total = float((piece.voiced_stop or piece.stop) - piece.start)
        if not piece.ended:
            total = max(total, len(piece.text) * _GUESS_MS_PER_CHARACTER * BYTES_PER_MS)
        heard = min(played, piece.stop) - piece.start
        return heard / total if heard > 0 else 0.0

    def _voiced_bytes(self, g711: bytes) -> int:
        """How far into this audio its last sound is, in steps of 10 ms; 0 where there is none."""
        pcm16 = self.codec.decode(g711)
        for at in range(len(g711) - 1 - (len(g711) - 1) % _STEP_BYTES, -1, -_STEP_BYTES):
            if audioop.max(pcm16[2 * at : 2 * (at + _STEP_BYTES)], 2) > _SILENT_BELOW:
                return min(len(g711), at + _STEP_BYTES)
        return 0

    def _name(self, kind: str, number: int) -> str:
        return f"{self.generation}:{kind}:{number}"


def words_within(text: str, share: float) -> str:
    """The words of `text` whose larger part lies within its first `share` (0-1) of its sound."""
    if share >= 1.0:
        return text
    words = text.split()
    weights = [weight(word) for word in words]
    trailing = weight(words[-1]) - len(words[-1]) if words else 0.0  # nobody waits after the end
    limit = share * (sum(weights) - trailing)
    kept, at = [], 0.0
    for word, size in zip(words, weights, strict=True):
        if at + len(word) / 2 > limit:
            break
        kept.append(word)
        at += size
    return " ".join(kept)
