"""One telephone line, 20 ms a tick: what the person hears and says, sample by sample, and what that shows.

Pure: `tick()` moves the line's clock by 20 ms. Both directions are recorded aligned on that clock, as G.711
leaves them. Knows nothing of sockets, scripts or words.
"""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.core.g711 import Codec
from backend.simulator.hearing import RATE_HZ, audible_span
from backend.simulator.playqueue import FRAME_SAMPLES, SAMPLES_PER_MS, PlayQueue
from backend.simulator.record import EventKind, LineEvent
from backend.simulator.shelf import Shelf

TICK_MS = FRAME_SAMPLES / SAMPLES_PER_MS
_FRAME_BYTES = 2 * FRAME_SAMPLES
# After an interruption the agent counts as silent once this much silence follows its last sound.
_FELL_SILENT_MS = 500.0
_TAIL_BYTES = 80_000  # 5 s


@dataclass(frozen=True, slots=True)
class Utterance:
    """Speech ready for the line: int16 at 8 kHz, and where in it the first and last audible samples lie.

    `pcm16` may begin and end with background noise that is not speech.
    """

    text: str
    pcm16: bytes
    speech_start: int
    speech_end: int


@dataclass(frozen=True, slots=True)
class Ticked:
    """One tick. `caller_g711` was said in the 20 ms before (None at the first tick, nothing was said yet);
    `heard_pcm16` is heard in the 20 ms that follow."""

    caller_g711: bytes | None
    heard_pcm16: bytes
    marks: tuple[str, ...]
    events: tuple[LineEvent, ...]


@dataclass(slots=True)
class _Speaking:
    utterance: Utterance
    start: int  # the sample of the line at which the utterance's first one lies
    at: int = 0

    def span(self, until: int) -> tuple[float, float]:
        end = min(
            self.start + self.utterance.speech_end, max(until, self.start + self.utterance.speech_start)
        )
        return (self.start + self.utterance.speech_start) / SAMPLES_PER_MS, end / SAMPLES_PER_MS


class Line:
    """Both directions of one call."""

    def __init__(self, codec: Codec, shelf: Shelf | None = None) -> None:
        """`shelf`: bounds what all lines keep together."""
        self.codec = codec
        self.over = False
        self.sound_kept = True
        """False once its sound was given up: nothing of it is kept any more."""
        self._shelf = shelf
        self.queue = PlayQueue()
        self._announcement = bytearray()
        self._speaking: _Speaking | None = None
        self._ticks = 0
        self._said = 0  # samples the caller has sent
        self._caller = bytearray()
        self._agent = bytearray()
        self._agent_gone = 0  # bytes of it given up
        self._heard_until_ms: float | None = None
        self._interrupted_at_ms: float | None = None

    @property
    def now_ms(self) -> float:
        """The line's clock: the audio played so far."""
        return self._ticks * TICK_MS

    @property
    def caller_speaking(self) -> bool:
        return self._speaking is not None

    def say(self, utterance: Utterance, *, interrupting: bool = False) -> float:
        """The caller begins to speak now, dropping what they were saying. → first audible sample, in ms."""
        start = self._said
        self._speaking = _Speaking(utterance, start)
        speech_start_ms = (start + utterance.speech_start) / SAMPLES_PER_MS
        if interrupting:
            self._interrupted_at_ms = speech_start_ms
        return speech_start_ms

    def announce(self, pcm16: bytes) -> None:
        """Play the carrier's own speech to the caller, mixed with whatever the stream plays."""
        self._announcement += pcm16

    @property
    def announcing(self) -> bool:
        return bool(self._announcement)

    def hush(self) -> None:
        """The carrier's own speech ends here."""
        self._announcement.clear()

    def tick(self) -> Ticked:
        """20 ms pass."""
        events: list[LineEvent] = []
        caller = self._caller_frame(events) if self._ticks else None
        played = self.queue.tick()
        heard = self._on_the_wire(self._mix(played.pcm16))
        if played.underrun_ms:
            events.append(self._event("underrun", ms=played.underrun_ms))
        self._listen(heard, events)
        self._agent += heard
        if not self.sound_kept:
            if len(self._agent) > 2 * _TAIL_BYTES:
                self._drop_agent(len(self._agent) - _TAIL_BYTES)
        elif self._shelf is not None:
            self._shelf.grew(self, 2 * _FRAME_BYTES)
        self._ticks += 1
        return Ticked(caller, heard, played.marks, tuple(events))

    def hang_up(self) -> list[LineEvent]:
        """What was still under way when the line went dead."""
        self.over = True
        events = self._end_speech()
        if self._interrupted_at_ms is not None:
            events.append(self._fell_silent(self._interrupted_at_ms))
        return events

    def heard_from(self, ms: float) -> bytes:
        """What the person has heard since then, int16 at 8 kHz; sound given up is missing but for a tail."""
        return bytes(self._agent[max(0, 2 * int(ms * SAMPLES_PER_MS) - self._agent_gone) :])

    def forget_audio(self) -> None:
        """Free the line's sound, of which nothing more is kept then."""
        self.sound_kept = False
        self._caller = bytearray()
        self._drop_agent(len(self._agent))
        if self._shelf is not None:
            self._shelf.forgotten(self)

    def _drop_agent(self, count: int) -> None:
        self._agent = self._agent[count:]  # anew: somebody may be reading it
        self._agent_gone += count

    def wav(self) -> bytes:
        """Stereo 16-bit WAV at 8 kHz from the line's zero: left the caller, right the agent as heard."""
        return wav(self.stereo())

    def stereo(self, from_ms: float = 0.0, until_ms: float | None = None) -> NDArray[np.int16]:
        """int16 (samples, 2) of the line's time: the caller, and the agent as heard."""
        sides = self._caller, self._agent
        samples = min(len(side) for side in sides) // 2
        until = samples if until_ms is None else min(samples, int(until_ms * SAMPLES_PER_MS))
        first = min(int(from_ms * SAMPLES_PER_MS), until)
        stereo = np.empty((until - first, 2), "<i2")
        for channel, side in enumerate(sides):
            # A copy: the line may go on meanwhile.
            stereo[:, channel] = np.frombuffer(side[2 * first : 2 * until], "<i2")
        return stereo

    def _caller_frame(self, events: list[LineEvent]) -> bytes:
        frame = b""
        if self._speaking is not None:
            pcm16 = self._speaking.utterance.pcm16
            frame = pcm16[self._speaking.at : self._speaking.at + _FRAME_BYTES]
            self._speaking.at += _FRAME_BYTES
        g711 = self.codec.encode(frame.ljust(_FRAME_BYTES, b"\0"))
        if self.sound_kept:
            self._caller += self.codec.decode(g711)
        self._said += FRAME_SAMPLES
        if self._speaking is not None and self._speaking.at >= len(self._speaking.utterance.pcm16):
            events += self._end_speech()
        return g711

    def _end_speech(self) -> list[LineEvent]:
        speaking, self._speaking = self._speaking, None
        if speaking is None:
            return []
        start_ms, end_ms = speaking.span(self._said)
        text = speaking.utterance.text
        data = {"text": text, "start_ms": start_ms, "end_ms": end_ms}
        return [LineEvent(start_ms, "caller_speech", data)]

    def _mix(self, pcm16: bytes) -> bytes:
        if not self._announcement:
            return pcm16
        extra = bytes(self._announcement[:_FRAME_BYTES]).ljust(_FRAME_BYTES, b"\0")
        del self._announcement[:_FRAME_BYTES]
        both = np.frombuffer(pcm16, "<i2").astype(np.int32) + np.frombuffer(extra, "<i2")
        return bytes(np.clip(both, -32768, 32767).astype("<i2").tobytes())

    def _on_the_wire(self, pcm16: bytes) -> bytes:
        return self.codec.decode(self.codec.encode(pcm16))

    def _listen(self, heard: bytes, events: list[LineEvent]) -> None:
        span = audible_span(heard)
        if span is not None:
            if self._heard_until_ms is None:
                events.append(self._event("first_audio", ms=self.now_ms + span[0] / SAMPLES_PER_MS))
            self._heard_until_ms = self.now_ms + span[1] / SAMPLES_PER_MS
        if self._interrupted_at_ms is None:
            return
        silent_since_ms = max(self._interrupted_at_ms, self._heard_until_ms or 0.0)
        if self.now_ms + TICK_MS - silent_since_ms >= _FELL_SILENT_MS:
            events.append(self._fell_silent(self._interrupted_at_ms))

    def _fell_silent(self, speech_start_ms: float) -> LineEvent:
        self._interrupted_at_ms = None
        last_ms = self._heard_until_ms if self._heard_until_ms is not None else 0.0
        data = {"speech_start_ms": speech_start_ms, "last_agent_audio_ms": last_ms}
        return LineEvent(speech_start_ms, "interrupt", data)

    def _event(self, kind: EventKind, **data: Any) -> LineEvent:
        return LineEvent(self.now_ms, kind, data)


def wav(pcm16: NDArray[np.int16]) -> bytes:
    """A WAV at 8 kHz of int16 (samples, channels)."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(pcm16.shape[1])
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(pcm16.tobytes())
    return out.getvalue()
