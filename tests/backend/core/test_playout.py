"""Playout against a carrier that plays what it was sent at the pace of the line, on a clock of its own.

Time is simulated. Audio bytes are never the silence byte, so that padding can be told from speech.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.g711 import BYTES_PER_MS, FRAME_BYTES, FRAME_MS, Codec
from backend.core.playout import Heard, Playout, Send, SendMark, SendMedia, words_within

MS_PER_CHARACTER = 62.0
SENTENCES = [
    "Thank you for calling Harbor Dental.",
    "How can I help you today?",
    "Our office on Maple Street opens tomorrow morning.",
    "Yes.",
    "Please tell me your date of birth, beginning with the month.",
]


@dataclass
class Carrier:
    """Gets audio `latency_ms` after it was sent, starts on a 20 ms grid, returns marks `return_ms` later."""

    latency_ms: float = 0.0
    return_ms: float = 0.0
    runs: list[tuple[float, int, int]] = field(default_factory=list)  # from ms, bytes from-to of all received
    received: int = 0
    end_ms: float = 0.0

    def audio(self, sent_ms: float, size: int) -> None:
        arrival_ms = sent_ms + self.latency_ms
        if self.end_ms < arrival_ms:
            self.end_ms = -(-arrival_ms // FRAME_MS) * FRAME_MS
        self.runs.append((self.end_ms, self.received, self.received + size))
        self.received += size
        self.end_ms += size / BYTES_PER_MS

    def mark_back_ms(self, sent_ms: float) -> float:
        return max(self.end_ms, sent_ms + self.latency_ms) + self.return_ms

    def played(self, now_ms: float) -> int:
        """Bytes heard by now, of all received."""
        begun = [run for run in self.runs if run[0] <= now_ms]
        return max((min(to, at + int((now_ms - ms) * BYTES_PER_MS)) for ms, at, to in begun), default=0)

    def holes(self) -> list[float]:
        """Moments when it had run dry and more came later."""
        ends = [from_ms + (to - at) / BYTES_PER_MS for from_ms, at, to in self.runs]
        return [end for end, (start, _, _) in zip(ends, self.runs[1:], strict=False) if start > end + 1e-6]

    def clear(self, now_ms: float) -> None:
        played = self.played(now_ms)
        self.runs = [(f, a, min(to, played)) for f, a, to in self.runs if a < played]
        self.end_ms = now_ms


@dataclass
class Piece:
    utterance: int
    text: str
    audio: bytes
    start: int = 0  # in the stream as pushed, without padding
    end: int | None = None


class Rig:
    """A playout, its carrier, a sender that sleeps as `next_due_ms` says, and a plan of what happens when."""

    def __init__(
        self, playout: Playout, carrier: Carrier, *, start_ms: float = 0.0, late_ms: float = 0.0
    ) -> None:
        self.playout, self.carrier = playout, carrier
        self.now_ms, self.timer_late_ms = start_ms, late_ms
        self.plan: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()
        self.sent = bytearray()
        self.marks: list[tuple[str, int]] = []  # name, bytes sent before it
        self.returned: list[tuple[str, int]] = []
        self.pieces: list[Piece] = []
        self.pushed = bytearray()
        self.most_ahead_ms = 0.0
        self.wakes = 0

    def at(self, when_ms: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.plan, (when_ms, next(self.order), action))

    def run(self, until_ms: float = 1e9) -> None:
        """Everything planned, and all sending that follows, up to a moment."""
        self._send(self.playout.due(self.now_ms))
        while True:
            due_ms = self.playout.next_due_ms(self.now_ms)
            self._check_wait(due_ms)
            wake_ms = 1e12 if due_ms is None else due_ms + self.timer_late_ms
            action_ms = self.plan[0][0] if self.plan else 1e12
            if min(wake_ms, action_ms) > until_ms:
                self.now_ms = max(self.now_ms, min(until_ms, 1e8))
                return
            if action_ms <= wake_ms:
                self.now_ms = max(self.now_ms, action_ms)
                heapq.heappop(self.plan)[2]()
                self._send(self.playout.due(self.now_ms))
            else:
                self.now_ms = wake_ms
                sends = self.playout.due(self.now_ms)
                assert sends, "woken for nothing"
                self.wakes += 1
                self._send(sends)

    def _check_wait(self, due_ms: float | None) -> None:
        queued_ms = self.playout.queued_ms
        if due_ms is None:
            over = bool(self.pieces) and self.pieces[-1].end is not None
            assert queued_ms < FRAME_MS and not (queued_ms and over), "nobody will send the rest"
            return
        assert due_ms > self.now_ms, "a busy loop: what is due was not sent"
        dry_ms = self.now_ms + self.playout.carrier_ms(self.now_ms)
        assert due_ms <= dry_ms - FRAME_MS, "would sleep until the line is dry"

    def _send(self, sends: list[Send]) -> None:
        for send in sends:
            if isinstance(send, SendMedia):
                assert len(send.g711) >= FRAME_BYTES and len(send.g711) % FRAME_BYTES == 0
                self.sent += send.g711
                self.carrier.audio(self.now_ms, len(send.g711))
                ahead_ms = (self.carrier.received - self.carrier.played(self.now_ms)) / BYTES_PER_MS
                self.most_ahead_ms = max(self.most_ahead_ms, ahead_ms)
            else:
                self.marks.append((send.name, len(self.sent)))
                self.at(self.carrier.mark_back_ms(self.now_ms), self._mark_back(send))

    def _mark_back(self, send: SendMark) -> Callable[[], None]:
        def back() -> None:
            told = self.playout.mark_returned(send.name, self.now_ms)
            if told is not None:
                self.returned.append(told)

        return back

    # --- what a speaker does ---

    def begin(self, utterance: int, text: str) -> None:
        self.playout.begin(utterance, text)
        self.pieces.append(Piece(utterance, text, b"", len(self.pushed)))

    def push(self, audio: bytes) -> None:
        self.playout.push(audio)
        self.pushed += audio

    def end(self) -> None:
        self.playout.end()
        self.pieces[-1].end = len(self.pushed)

    def say(
        self, at_ms: float, utterance: int, texts: list[str], *, pace: float = 0.25, chunk: int = 1_600
    ) -> float:
        """Plan an utterance made `pace` times as long as it lasts; when all of it is made."""
        for text in texts:
            self.at(at_ms, lambda text=text: self.begin(utterance, text))  # type: ignore[misc]
            audio = speech(text)
            for cut in range(0, len(audio), chunk):
                part = audio[cut : cut + chunk]
                self.at(at_ms, lambda part=part: self.push(part))  # type: ignore[misc]
                at_ms += pace * len(part) / BYTES_PER_MS
            self.at(at_ms, self.end)
        self.at(at_ms, self.playout.finish)
        return at_ms

    def clear(self) -> bool:
        told = self.playout.clear(self.now_ms)
        if told:
            self.carrier.clear(self.now_ms)
        self.pieces.clear()
        return told

    def position(self, spoken: int) -> int:
        """Where the `spoken`-th byte of speech stands in the sent stream, padding counted."""
        at = 0
        for run in re.finditer(rb"[^\xff]+|\xff+", bytes(self.sent)):
            if run.group()[0] != 0xFF:
                if spoken <= at + len(run.group()):
                    return run.start() + spoken - at
                at += len(run.group())
        return len(self.sent)

    def really_heard(self, utterance: int, now_ms: float) -> int:
        """Words of an utterance that the carrier has played, by the audio's share of the text."""
        played = self.carrier.played(now_ms)
        words = 0
        for piece in (p for p in self.pieces if p.utterance == utterance):
            share = (played - self.position(piece.start)) / len(speech(piece.text))
            limit, at = share * len(piece.text), 0
            for word in piece.text.split():
                at = piece.text.index(word, at)
                words += at + len(word) / 2 <= limit
                at += len(word)
        return words


def speech(text: str) -> bytes:
    """As long as the text is, and never silence."""
    return bytes(i % 251 for i in range(int(len(text) * MS_PER_CHARACTER * BYTES_PER_MS)))


def noise(size: int) -> bytes:
    return bytes(i % 253 for i in range(size))


# --- pacing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timer_late_ms", [-0.9, 0.0, 3.0])
@pytest.mark.parametrize("chunk", [160, 1_600, 777, 24_000])
def test_speech_made_faster_than_it_plays_never_runs_dry_and_is_never_far_ahead(
    chunk: int, timer_late_ms: float
) -> None:
    rig = Rig(Playout(Codec.PCMU), Carrier(), late_ms=timer_late_ms)
    rig.say(0, 1, SENTENCES, pace=0.5, chunk=chunk)
    rig.run()
    assert rig.carrier.holes() == [] and rig.playout.underruns == 0
    assert rig.most_ahead_ms <= rig.playout.lead_ms + FRAME_MS + 1
    assert rig.sent.rstrip(b"\xff") == b"".join(speech(text) for text in SENTENCES).rstrip(b"\xff")
    # Few large frames once playing, not fifty a second.
    assert rig.wakes <= len(rig.sent) / BYTES_PER_MS / (chunk / BYTES_PER_MS if chunk < 1_600 else 100) + 20


def test_the_first_audio_goes_out_at_once_and_fills_the_lead() -> None:
    playout = Playout(Codec.PCMU, lead_ms=600, chunk_ms=200)
    playout.begin(1, "Hello")
    playout.push(noise(40_000))
    sends = playout.due(123_456.7)
    assert isinstance(sends[0], SendMedia) and len(sends[0].g711) == FRAME_BYTES
    assert sends[1] == SendMark("0:start:1")
    assert 400 < playout.carrier_ms(123_456.7) <= 601


def test_one_frame_alone_is_not_held_back() -> None:
    playout = Playout(Codec.PCMU)
    playout.begin(1, "Hello")
    playout.push(noise(160))
    assert SendMedia(noise(160)) in playout.due(5.0)


@pytest.mark.parametrize(
    ("lead_ms", "chunk_ms"), [(100, 200), (200, 200), (40, 200), (600, 1), (600, 5_000), (60, 50)]
)
def test_any_lead_and_chunk_play_through(lead_ms: float, chunk_ms: float) -> None:
    rig = Rig(Playout(Codec.PCMU, lead_ms=lead_ms, chunk_ms=chunk_ms), Carrier())
    rig.say(7, 1, SENTENCES[:2])
    rig.run()
    assert rig.carrier.holes() == [] and rig.most_ahead_ms <= lead_ms + FRAME_MS + 1
    assert rig.sent.replace(b"\xff", b"") == bytes(rig.pushed)


def test_a_voice_that_is_too_slow_is_counted_not_hidden() -> None:
    rig = Rig(Playout(Codec.PCMU), Carrier())
    rig.say(0, 1, ["A sentence that is made slower than it plays."], pace=1.5)
    rig.run()
    assert rig.playout.underruns == len(rig.carrier.holes()) > 0


def test_a_pause_between_pieces_and_between_utterances_is_no_underrun() -> None:
    rig = Rig(Playout(Codec.PCMU), Carrier())
    for utterance, at_ms in ((1, 0.0), (2, 5_000.0), (3, 12_345.6)):
        rig.say(at_ms, utterance, SENTENCES[:1])
    rig.at(20_000, lambda: rig.begin(4, "One."))
    rig.at(20_000, lambda: rig.push(noise(3_333)))
    rig.at(20_010, rig.end)
    rig.at(22_000, lambda: rig.begin(4, "Two."))
    rig.at(22_000, lambda: rig.push(noise(2_222)))
    rig.at(22_010, rig.end)
    rig.run()
    assert rig.playout.underruns == 0 and len(rig.carrier.holes()) == 4


def test_an_abandoned_piece_is_not_an_underrun_for_ever() -> None:
    playout = Playout(Codec.PCMU)
    playout.begin(1, "This voice failed in the middle")
    playout.push(noise(800))
    playout.due(0)
    playout.begin(2, "Another voice says this.")
    playout.push(noise(800))
    playout.due(10_000)
    playout.end()
    playout.begin(2, "And this.")
    playout.push(noise(800))
    playout.due(20_000)
    assert playout.underruns == 0


# --- whatever is pushed, whenever ----------------------------------------------------------------------


@st.composite
def plans(draw: st.DrawFn) -> list[list[tuple[list[tuple[float, int]], float]]]:
    """Utterances of pieces of (wait before, size) chunks, with a wait before each piece's end."""
    wait = st.sampled_from([0.0, 0.0, 0.0, 5.0, 33.3, 150.0, 700.0, 3_000.0])
    chunk = st.tuples(wait, st.integers(0, 700) | st.integers(0, 12_000))
    piece = st.tuples(st.lists(chunk, max_size=5), wait)
    return draw(st.lists(st.lists(piece, max_size=4), min_size=1, max_size=4))


def played_plan(plan: list[list[tuple[list[tuple[float, int]], float]]], rig: Rig) -> list[Piece]:
    at_ms = rig.now_ms
    for number, pieces in enumerate(plan):
        for chunks, wait_ms in pieces:
            rig.at(at_ms, lambda number=number: rig.begin(number, "some words"))  # type: ignore[misc]
            for before_ms, size in chunks:
                at_ms += before_ms
                rig.at(at_ms, lambda size=size: rig.push(noise(size)))  # type: ignore[misc]
            at_ms += wait_ms
            rig.at(at_ms, rig.end)
        rig.at(at_ms, rig.playout.finish)
    rig.run()
    return rig.pieces


@given(plans(), st.floats(0, 50), st.sampled_from([0.0, 80.0, 333.0]), st.sampled_from([-0.9, 0.0, 7.0]))
def test_all_audio_comes_out_once_in_order_and_marks_say_where(
    plan: list[list[tuple[list[tuple[float, int]], float]]],
    start_ms: float,
    latency_ms: float,
    late_ms: float,
) -> None:
    rig = Rig(Playout(Codec.PCMU), Carrier(latency_ms, 20), start_ms=start_ms, late_ms=late_ms)
    pieces = played_plan(plan, rig)
    assert rig.sent.replace(b"\xff", b"") == bytes(rig.pushed)
    assert rig.most_ahead_ms <= rig.playout.lead_ms + latency_ms + FRAME_MS + 1

    ends = [p.end for p in pieces]
    for pad in re.finditer(rb"\xff+", bytes(rig.sent)):
        assert len(pad.group()) < FRAME_BYTES
        assert len(rig.sent[: pad.start()].replace(b"\xff", b"")) in ends, "padded in the middle of a piece"

    end_marks = [(name, at) for name, at in rig.marks if ":end:" in name]
    assert [name for name, _ in end_marks] == [f"0:end:{i}" for i in range(len(pieces))]
    for piece, (_, at) in zip(pieces, end_marks, strict=True):
        assert piece.end is not None
        assert 0 <= at - rig.position(piece.end) < FRAME_BYTES
    for name, at in rig.marks:
        if ":start:" in name:
            first = next(p for p in pieces if p.utterance == int(name.split(":")[2]))
            assert 0 < at - rig.position(first.start) <= 2 * FRAME_BYTES

    with_audio = [
        n for n in range(len(plan)) if sum(p.end - p.start for p in pieces if p.utterance == n and p.end)
    ]
    assert [n for kind, n in rig.returned if kind == "start"] == with_audio
    assert [n for kind, n in rig.returned if kind == "end"] == [p.utterance for p in pieces]
    assert not rig.playout.busy(rig.now_ms + 1_000)


@given(st.integers(1, 5_000))
def test_a_tail_is_padded_with_the_legs_silence(size: int) -> None:
    playout = Playout(Codec.PCMA)
    playout.begin(1, "Hello")
    playout.push(noise(size).replace(b"\xd5", b"\x00"))
    playout.end()
    playout.finish()
    sent, now_ms = b"", 0.0
    while (due_ms := playout.next_due_ms(now_ms)) is not None:
        now_ms = due_ms
        sent += b"".join(s.g711 for s in playout.due(now_ms) if isinstance(s, SendMedia))
    assert sent == noise(size).replace(b"\xd5", b"\x00") + b"\xd5" * (-size % FRAME_BYTES)


def test_a_tail_waits_for_the_next_piece_as_long_as_the_line_has_audio() -> None:
    playout = Playout(Codec.PCMU)
    playout.begin(1, "One.")
    playout.push(noise(1_700))  # 212.5 ms
    playout.end()
    assert playout.due(0)
    assert playout.queued_ms == 12.5
    due_ms = playout.next_due_ms(0)
    assert due_ms is not None and 100 < due_ms < 200  # in time before 200 ms, when the line is dry
    playout.begin(1, "Two.")
    playout.push(noise(140))
    sent = b"".join(s.g711 for s in playout.due(50) if isinstance(s, SendMedia))
    assert sent == noise(1_700)[1_600:] + noise(140)[:60]  # no padding in between


def test_a_piece_still_being_made_is_never_padded() -> None:
    playout = Playout(Codec.PCMU)
    playout.begin(1, "One.")
    playout.push(noise(170))
    playout.due(0)
    assert playout.due(5_000) == [] and playout.next_due_ms(5_000) is None
    playout.push(noise(150))
    assert playout.due(5_001) == [SendMedia(noise(170)[160:] + noise(150))]


# --- marks ---------------------------------------------------------------------------------------------


def test_a_mark_that_comes_after_its_audio_is_sent_at_once() -> None:
    playout = Playout(Codec.PCMU)
    playout.begin(1, "One.")
    playout.push(noise(1_600))
    playout.due(0)
    assert playout.next_due_ms(10) is None
    playout.end()
    assert playout.next_due_ms(10) == 10
    assert playout.due(10) == [SendMark("0:end:0")]
    assert playout.next_due_ms(10) is None


def test_an_idle_lines_mark_is_not_taken_for_a_late_carrier() -> None:
    playout = Playout(Codec.PCMU)
    playout.begin(1, "One.")
    playout.push(noise(1_600))
    playout.due(0)
    playout.mark_returned("0:start:1", 20)
    playout.end()  # the voice took five seconds to say that this was all
    playout.due(5_000)
    assert playout.mark_returned("0:end:0", 5_000) == ("end", 1)
    assert not playout.busy(5_000)
    playout.begin(2, "Two words.")
    playout.push(noise(1_600))
    playout.due(6_000)
    assert playout.busy(6_199) and not playout.busy(6_201)


def test_an_utterance_without_audio_ends_but_never_started() -> None:
    playout = Playout(Codec.PCMU)
    playout.begin(1, "No voice came.")
    playout.end()
    playout.finish()
    assert playout.due(0) == [SendMark("0:end:0")]
    assert playout.mark_returned("0:end:0", 1) == ("end", 1)
    assert playout.heard(1, 10) == Heard("", True)


def test_a_mark_counts_once_and_unknown_ones_never() -> None:
    playout = Playout(Codec.PCMU)
    playout.begin(7, "One.")
    playout.push(noise(1_600))
    playout.end()
    playout.due(0)
    assert playout.mark_returned("0:start:7", 20) == ("start", 7)
    assert playout.mark_returned("0:start:7", 20) is None
    for name in ("", "0:start:8", "x", "0:end:99", "1:end:0", "::", "0:end:0:0"):
        assert playout.mark_returned(name, 30) is None
    assert playout.mark_returned("0:end:0", 200) == ("end", 7)


@given(st.floats(0, 4_000), st.sampled_from([0.0, 250.0]))
def test_clear_drops_everything_and_its_marks_prove_nothing(cut_ms: float, latency_ms: float) -> None:
    rig = Rig(Playout(Codec.PCMU), Carrier(latency_ms, 30))
    rig.say(0, 1, SENTENCES)
    rig.run(until_ms=cut_ms)
    before = len(rig.returned)
    sent = len(rig.sent)
    assert rig.clear() is True
    assert not rig.playout.busy(cut_ms) and rig.playout.queued_ms == 0
    rig.plan = [item for item in rig.plan if "_mark_back" in item[2].__qualname__]  # the voice was stopped
    heapq.heapify(rig.plan)
    rig.run(until_ms=cut_ms + 60_000)
    assert len(rig.sent) == sent and len(rig.returned) == before
    assert rig.playout.heard(1, cut_ms + 1) == Heard("", False)
    assert rig.playout.clear(cut_ms + 60_000) is False  # nothing there: the carrier need not be told

    # The call goes on.
    at_ms = rig.now_ms
    rig.pushed, rig.sent = bytearray(), bytearray()
    rig.say(at_ms, 1, SENTENCES[:1])  # even with the same number
    rig.run(until_ms=at_ms + 10_000)
    assert rig.sent.replace(b"\xff", b"") == speech(SENTENCES[0])
    assert rig.returned[before:] == [("start", 1), ("end", 1)]
    assert rig.playout.heard(1, rig.now_ms) == Heard(SENTENCES[0], True)


def test_what_a_stopped_voice_still_brings_after_clear_is_dropped() -> None:
    playout = Playout(Codec.PCMU)
    playout.begin(1, "One.")
    playout.push(noise(16_000))
    playout.due(0)
    playout.clear(10)
    playout.push(noise(500))
    playout.end()
    playout.finish()
    assert playout.due(20) == [] and playout.next_due_ms(20) is None and not playout.busy(20)


def test_marks_of_the_cleared_generation_never_answer_for_the_new_one() -> None:
    playout = Playout(Codec.PCMU)
    for _ in range(2):
        playout.begin(1, "One.")
        playout.push(noise(320))
        playout.end()
        playout.finish()
        names = [s.name for s in playout.due(0) if isinstance(s, SendMark)]
        playout.clear(0)
        assert [playout.mark_returned(name, 1) for name in names] == [None, None]
    assert playout.generation == 2


# --- held and played on --------------------------------------------------------------------------------


def advance(playout: Playout, from_ms: float, to_ms: float) -> list[Send]:
    """Send what is due until then, to a carrier that plays at once and returns marks in time."""
    sends: list[Send] = []
    marks: list[tuple[float, str]] = []
    now_ms = line_end_ms = from_ms
    while now_ms <= to_ms:
        for send in playout.due(now_ms):
            sends.append(send)
            if isinstance(send, SendMedia):
                line_end_ms = max(line_end_ms, now_ms) + len(send.g711) / BYTES_PER_MS
            else:
                marks.append((max(now_ms, line_end_ms), send.name))
        due_ms = playout.next_due_ms(now_ms)
        now_ms = min([at_ms for at_ms, _ in marks] + [math.inf if due_ms is None else due_ms])
        for at_ms, name in [mark for mark in marks if mark[0] <= min(now_ms, to_ms)]:
            playout.mark_returned(name, at_ms)
            marks.remove((at_ms, name))
    return sends


def audio(sends: list[Send]) -> bytes:
    return b"".join(send.g711 for send in sends if isinstance(send, SendMedia))


def spoken(playout: Playout, texts: list[str]) -> bytes:
    for text in texts:
        playout.begin(1, text)
        playout.push(speech(text))
        playout.end()
    playout.finish()
    return b"".join(map(speech, texts))


@given(st.floats(0, 9_000), st.floats(0, 2_000))
def test_what_is_held_is_played_on_from_where_it_was_cut(cut_ms: float, held_ms: float) -> None:
    playout = Playout(Codec.PCMU)
    script = spoken(playout, SENTENCES[:3])
    advance(playout, 0, cut_ms)
    before = playout.heard(1, cut_ms)
    played = min(len(script), int(cut_ms * BYTES_PER_MS))
    padded = -(-len(script) // FRAME_BYTES) * FRAME_BYTES
    assert playout.hold(cut_ms) is (cut_ms * BYTES_PER_MS < padded)
    assert not playout.busy(cut_ms) and playout.carrier_ms(cut_ms) == 0
    assert playout.due(cut_ms + held_ms) == [] and playout.next_due_ms(cut_ms + held_ms) is None
    assert playout.heard(1, cut_ms + held_ms) == before
    assert not playout.hold(cut_ms + held_ms), "held already"
    again_ms = cut_ms + held_ms
    playout.release(again_ms)
    rest = audio(advance(playout, again_ms, again_ms + 20_000)).rstrip(b"\xff")
    assert script.endswith(rest)
    assert 0 <= len(rest) - (len(script) - played) <= 400 * BYTES_PER_MS + 1
    assert playout.heard(1, again_ms + 20_000) == Heard(" ".join(SENTENCES[:3]), True)
    assert playout.underruns == 0


@given(st.floats(0, 9_000), st.floats(0, 2_000))
def test_what_is_held_can_be_given_up(cut_ms: float, held_ms: float) -> None:
    playout = Playout(Codec.PCMU)
    spoken(playout, SENTENCES[:3])
    advance(playout, 0, cut_ms)
    playout.hold(cut_ms)
    assert playout.clear(cut_ms + held_ms) is False, "the carrier was told already"
    assert playout.due(cut_ms + held_ms) == [] and not playout.busy(cut_ms + held_ms)
    playout.release(cut_ms + held_ms)
    assert playout.due(cut_ms + held_ms) == []


def test_a_voice_goes_on_while_held() -> None:
    playout = Playout(Codec.PCMU)
    playout.begin(1, SENTENCES[0])
    script = speech(SENTENCES[0])
    playout.push(script[:8_000])
    advance(playout, 0, 500)
    playout.hold(500)
    playout.push(script[8_000:])
    playout.end()
    playout.finish()
    assert playout.due(600) == []
    playout.release(1_500)
    rest = audio(advance(playout, 1_500, 20_000)).rstrip(b"\xff")
    assert script.endswith(rest) and len(rest) >= len(script) - 4_000


def test_marks_of_what_was_held_come_again_and_only_then_count() -> None:
    playout = Playout(Codec.PCMU)
    playout.begin(1, "One.")
    playout.push(noise(4_000))
    playout.end()
    playout.finish()
    names = [send.name for send in playout.due(0) if isinstance(send, SendMark)]
    assert playout.mark_returned(names[0], 20) == ("start", 1)
    playout.hold(100)
    assert [playout.mark_returned(name, 101) for name in names] == [None] * len(names)
    playout.release(200)
    again = [send.name for send in advance(playout, 200, 2_000) if isinstance(send, SendMark)]
    assert [name.split(":")[1] for name in again] == ["end"]
    assert playout.mark_returned(again[0], 2_000) in (("end", 1), None)


def test_speech_is_taken_up_at_its_last_pause() -> None:
    playout = Playout(Codec.PCMU)
    playout.begin(1, "One two three.")
    loud, quiet = noise(1_600), b"\xff" * 400  # 200 ms of sound, 50 ms of none
    playout.push(loud + quiet + loud + quiet + loud)
    playout.end()
    playout.finish()
    advance(playout, 0, 350)
    playout.hold(350)  # 100 ms into the second sound
    playout.release(400)
    rest = audio(advance(playout, 400, 5_000)).rstrip(b"\xff")
    assert rest == loud + quiet + loud


# --- hearing -------------------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=4),
    st.floats(0, 14_000),
    st.sampled_from([(0.0, 0.0), (60.0, 40.0), (150.0, 50.0), (400.0, 60.0)]),
    st.sampled_from([0.0, 0.1, 0.6]),
)
def test_what_was_heard_is_what_the_carrier_played_to_a_word(
    texts: list[str], cut_ms: float, delays: tuple[float, float], pace: float
) -> None:
    rig = Rig(Playout(Codec.PCMU), Carrier(*delays))
    rig.say(0, 1, texts, pace=pace)
    rig.run(until_ms=cut_ms)
    heard = rig.playout.heard(1, rig.now_ms)
    assert abs(len(heard.text.split()) - rig.really_heard(1, rig.now_ms)) <= 1
    assert " ".join(texts).startswith(heard.text)
    if heard.complete:
        assert rig.carrier.played(rig.now_ms) >= rig.position(len(rig.pushed))


@given(
    st.lists(st.tuples(st.floats(0, 3_000), st.floats(0, 6_000)), min_size=2, max_size=4),
    st.sampled_from([(0.0, 0.0), (200.0, 50.0)]),
)
def test_several_utterances_some_cut_off(
    turns: list[tuple[float, float]], delays: tuple[float, float]
) -> None:
    rig = Rig(Playout(Codec.PCMU), Carrier(*delays))
    for number, (pause_ms, cut_ms) in enumerate(turns):
        started_ms = rig.now_ms + pause_ms
        texts = [SENTENCES[number % 5], SENTENCES[(number + 1) % 5]]
        if number % 2:
            rig.say(started_ms, number, texts)
            rig.run(until_ms=started_ms + cut_ms)
            heard = rig.playout.heard(number, rig.now_ms)
            assert abs(len(heard.text.split()) - rig.really_heard(number, rig.now_ms)) <= 1
            rig.clear()
            rig.plan, rig.pushed, rig.sent = [], bytearray(), bytearray()
            rig.carrier.runs, rig.carrier.received = [], 0
        else:
            rig.say(started_ms, number, texts)
            rig.run(until_ms=started_ms + 12_000)
            assert rig.playout.heard(number, rig.now_ms) == Heard(" ".join(texts), True)
            assert not rig.playout.busy(rig.now_ms)
            rig.playout.forget(number)
            assert rig.playout.heard(number, rig.now_ms) == Heard("", True)
    assert rig.playout.underruns == 0


@given(st.data())
def test_what_was_heard_only_grows(data: st.DataObject) -> None:
    delays = data.draw(st.sampled_from([(0.0, 0.0), (300.0, 60.0)]))
    rig = Rig(Playout(Codec.PCMU), Carrier(*delays))
    rig.say(0, 1, SENTENCES[:2], pace=0.0)
    rig.say(data.draw(st.floats(4_000, 5_500)), 2, SENTENCES[2:3], pace=0.0)
    before = {1: 0, 2: 0}
    for moment in sorted(data.draw(st.lists(st.floats(0, 9_000), max_size=12))):
        rig.run(until_ms=moment)
        for utterance, words in before.items():
            before[utterance] = len(rig.playout.heard(utterance, rig.now_ms).text.split())
            assert before[utterance] >= words


def test_a_carrier_that_is_late_from_the_start_is_not_believed_to_have_played() -> None:
    rig = Rig(Playout(Codec.PCMU), Carrier(latency_ms=700))
    rig.say(0, 1, SENTENCES[:1], pace=0)
    rig.run(until_ms=690)
    assert rig.playout.heard(1, 690) == Heard("", False)


def test_a_carrier_that_returns_no_marks_is_judged_by_the_clock() -> None:
    playout = Playout(Codec.PCMU)
    playout.begin(1, SENTENCES[0])
    playout.push(speech(SENTENCES[0]))
    playout.end()
    playout.finish()
    now_ms = 0.0
    while (due_ms := playout.next_due_ms(now_ms)) is not None:
        now_ms = due_ms
        playout.due(now_ms)
    assert playout.heard(1, now_ms + 600 + 1_500) == Heard(SENTENCES[0], True)


def test_a_voice_that_fails_in_the_middle_leaves_what_it_said() -> None:
    playout = Playout(Codec.PCMU)
    text = SENTENCES[4]
    playout.begin(1, text)
    playout.push(speech(text)[:12_000])  # 1.5 s of 3.7
    playout.finish()
    now_ms = 0.0
    while (due_ms := playout.next_due_ms(now_ms)) is not None:
        now_ms = due_ms
        playout.due(now_ms)
    playout.mark_returned("0:start:1", 20)
    heard = playout.heard(1, 5_000)
    assert not heard.complete and 3 <= len(heard.text.split()) <= 6 and text.startswith(heard.text)
    playout.begin(2, "Sorry.")  # later audio does not lengthen what was said
    playout.push(noise(40_000))
    playout.due(5_000)
    assert playout.heard(1, 9_000).text == heard.text


def test_an_utterance_nobody_began_was_not_heard() -> None:
    assert Playout(Codec.PCMU).heard(1, 0) == Heard("", False)


def test_between_two_pieces_an_utterance_is_not_complete() -> None:
    playout = Playout(Codec.PCMU)
    playout.begin(1, "One.")
    playout.push(noise(160))
    playout.end()
    playout.due(0)
    playout.mark_returned("0:start:1", 20)
    playout.mark_returned("0:end:0", 20)
    assert playout.heard(1, 500) == Heard("One.", False)
    playout.finish()
    assert playout.heard(1, 500) == Heard("One.", True)


@given(st.text(max_size=80), st.floats(-1, 2), st.floats(-1, 2))
def test_words_within_are_the_first_words_and_more_of_them_with_more_sound(
    text: str, a: float, b: float
) -> None:
    fewer, more = (words_within(text, share).split() for share in sorted((a, b)))
    assert text.split()[: len(more)] == more and more[: len(fewer)] == fewer
    assert words_within(text, 1.0) == text and words_within(text, 0.0) == ""


def test_a_comma_takes_its_time() -> None:
    assert (
        words_within("Wait, please wait now", 0.26) == words_within("Wait, please wait now", 0.40) == "Wait,"
    )
