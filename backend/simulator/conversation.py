"""One answered call in real time: ticks the line, listens with the caller's ears, plays their script.

The tick stands on an absolute schedule of the monotonic clock, so it never drifts. Decisions are made in
`line`, `hearing` and `caller`; here they meet the clock, the recogniser and the media stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from backend.core.g711 import Codec
from backend.errors import HearingError
from backend.simulator.caller import EndCall, PressKey, ScriptedCaller, Speak
from backend.simulator.hearing import SpeechBegan, SpeechEnded, SpeechFinder
from backend.simulator.line import TICK_MS, Line, Utterance
from backend.simulator.record import EventKind, LineEvent
from backend.simulator.script import Interrupt, Say, Script
from backend.simulator.shelf import Shelf
from backend.stt.vad import VoiceActivity

log = logging.getLogger(__name__)

_MAX_UNRECOGNISED = 64
_RECOGNISE_WITHIN_S = 20.0
# Handed over to somebody else, a caller with nothing left to do soon says goodbye.
_AFTER_TRANSFER_MS = 1_000.0


class Transcriber(Protocol):
    """The caller's ears."""

    async def transcribe(self, pcm16_8k: bytes) -> str:
        """Words of one utterance. Raises HearingError."""
        ...


class Activity(Protocol):
    """Voice activity on what the caller hears."""

    def push(self, pcm16: bytes) -> list[float]:
        """Speech probabilities of the 256-sample windows completed."""
        ...


class Leg(Protocol):
    """The stream that carries the line to the backend."""

    def send_audio(self, g711: bytes, timestamp_ms: int, *, track: str = "inbound") -> None: ...

    def send_mark(self, name: str) -> None: ...

    def send_dtmf(self, digit: str) -> None: ...


Said = Mapping[tuple[str, float | None], Utterance]
"""The script's utterances, made before the call, by text and noise."""


class Conversation:
    """The person at the other end of the line, and the line itself."""

    def __init__(
        self,
        codec: Codec,
        script: Script,
        said: Said,
        ears: Transcriber,
        *,
        on_event: Callable[[LineEvent], None],
        on_key: Callable[[str], None],
        on_hang_up: Callable[[str | None], None],
        activity: Activity | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        """`activity`: how the caller notices speech, the shared model's unless given; `shelf`: the line's."""
        self.line = Line(codec, shelf)
        self.heard: list[str] = []
        """What the caller's ears made of the agent's speech, stretch by stretch."""
        self._caller = ScriptedCaller(script)
        self._said = said
        self._ears = ears
        self._on_event, self._on_key, self._on_hang_up = on_event, on_key, on_hang_up
        self._activity: Activity = activity or VoiceActivity()
        self._speech = SpeechFinder()
        self._unrecognised: asyncio.Queue[SpeechEnded | None] = asyncio.Queue(_MAX_UNRECOGNISED)
        self._leg: Leg | None = None
        self._leg_since_ms = 0.0
        self._sends_inbound_track = self._sends_outbound_track = False
        self._stream_codec = codec
        self._transferred_at_ms: float | None = None
        self._listening = 0  # stretches that are still to be recognised

    @property
    def quiet_ms(self) -> float:
        """For how long nobody has spoken; 0 also while the last words are still being recognised."""
        if self._listening:
            return 0.0
        return self._caller.quiet_ms(self.line.now_ms, speaking=self.line.caller_speaking)

    def say(self, utterance: Utterance) -> None:
        """The caller says this now, beside the script; over the agent's words it interrupts."""
        self.line.say(utterance, interrupting=self._caller.agent_speaking)

    def attach(self, leg: Leg, stream_codec: Codec, *, inbound: bool, outbound: bool) -> None:
        """From the next tick on the stream carries the line, in `stream_codec`."""
        self._leg, self._leg_since_ms = leg, self.line.now_ms
        self._stream_codec = stream_codec
        self._sends_inbound_track, self._sends_outbound_track = inbound, outbound

    def detach(self) -> None:
        """The stream is gone, and with it what it had still to play."""
        self._leg = None
        self.line.queue.clear()

    def transferred(self) -> None:
        """Somebody else is at the other end now."""
        self._transferred_at_ms = self.line.now_ms

    def press(self, digit: str) -> None:
        """The caller presses a key."""
        if self._leg is not None:
            self._leg.send_dtmf(digit)
        self._on_key(digit)

    async def run(self, ended: asyncio.Event) -> None:
        """Live until `ended` is set; returns when the last words were recognised."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._recognise(), name="caller's ears")
            await self._tick_until(ended)
            for event in self.line.hang_up():
                self._on_event(event)
            for found in self._speech.flush():
                self._found(found)
            await self._unrecognised.put(None)

    async def _tick_until(self, ended: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        ticks = 0
        while not ended.is_set():
            self._tick()
            ticks += 1
            try:
                async with asyncio.timeout_at(began + ticks * TICK_MS / 1000):
                    await ended.wait()
            except TimeoutError:
                continue

    def _tick(self) -> None:
        ticked = self.line.tick()
        if self._leg is not None:
            self._stream(self._leg, ticked.caller_g711, ticked.heard_pcm16)
            for name in ticked.marks:
                self._leg.send_mark(name)
                self._on_event(LineEvent(self.line.now_ms - TICK_MS, "mark", {"name": name}))
        for event in ticked.events:
            self._on_event(event)
        for found in self._speech.push(ticked.heard_pcm16, self._activity.push(ticked.heard_pcm16)):
            self._found(found)
        for action in self._caller.tick(self.line.now_ms, speaking=self.line.caller_speaking):
            self._act(action)
        if self._is_done_after_transfer():
            self._on_hang_up(None)

    def _stream(self, leg: Leg, caller_g711: bytes | None, heard_pcm16: bytes) -> None:
        timestamp_ms = round(self.line.now_ms - TICK_MS - self._leg_since_ms)
        if caller_g711 is not None and self._sends_inbound_track:
            if self._stream_codec is not self.line.codec:
                caller_g711 = self._stream_codec.encode(self.line.codec.decode(caller_g711))
            leg.send_audio(caller_g711, timestamp_ms)
        if self._sends_outbound_track:
            leg.send_audio(self._stream_codec.encode(heard_pcm16), timestamp_ms, track="outbound")

    def _act(self, action: Speak | PressKey | EndCall) -> None:
        match action:
            case Speak(Say() as step):
                self.line.say(self._said[step.say, step.noise_db])
            case Speak(Interrupt() as step):
                self.line.say(self._said[step.say, step.noise_db], interrupting=True)
            case PressKey(digit):
                self.press(digit)
            case EndCall(reason):
                if reason is not None:
                    self._event("script_failed", reason=reason)
                self._on_hang_up(reason)

    def _found(self, found: SpeechBegan | SpeechEnded) -> None:
        if isinstance(found, SpeechBegan):
            self._caller.agent_began(found.start_ms)
            return
        self._caller.agent_ended(found.end_ms)
        if self._unrecognised.qsize() >= _MAX_UNRECOGNISED - 1:
            log.error("the caller's ears are overloaded; some of the agent's speech stays unrecognised")
            return
        self._listening += 1
        self._unrecognised.put_nowait(found)

    async def _recognise(self) -> None:
        while (speech := await self._unrecognised.get()) is not None:
            try:
                async with asyncio.timeout(_RECOGNISE_WITHIN_S):
                    text = await self._ears.transcribe(speech.pcm16)
            except (HearingError, TimeoutError) as error:
                log.error("the caller's ears failed: %s", error)
                text = ""
            data = {"start_ms": speech.start_ms, "end_ms": speech.end_ms, "text": text}
            self._on_event(LineEvent(speech.start_ms, "agent_speech", data))
            self.heard.append(text)
            self._caller.heard(text, speech.end_ms)
            self._listening -= 1

    def _is_done_after_transfer(self) -> bool:
        return (
            self._transferred_at_ms is not None
            and self._caller.finished
            and self.line.now_ms - self._transferred_at_ms >= _AFTER_TRANSFER_MS
        )

    def _event(self, kind: EventKind, **data: object) -> None:
        self._on_event(LineEvent(self.line.now_ms, kind, dict(data)))
