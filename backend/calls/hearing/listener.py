"""The agent's ears: G.711 from the line → voice activity → turns → words.

Tells `on_event` of speech, interruptions and finished turns. Does not decide what they mean.
"""

from __future__ import annotations

import asyncio
import audioop
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from backend.calls.ports import Clock, MelodyJudge, StreamingTranscriber, Transcriber, VoiceDetector
from backend.core.echo import LATEST_MS, EchoGuard, are_our_words, dbfs
from backend.core.g711 import BYTES_PER_MS, RATE_HZ, Codec
from backend.core.loudness import NoiseFloor
from backend.core.turns import (
    SpeechPaused,
    SpeechResumed,
    TurnEnded,
    TurnEvent,
    TurnPolicy,
    TurnTaker,
)
from backend.errors import HearingError

WINDOW_MS = 32.0
_BYTES_PER_MS = BYTES_PER_MS * 2  # int16
_PRE_ROLL_MS = 320.0  # kept from before the detected start: soft onsets carry consonants
_MAX_TURN_MS = 60_000.0
_LIKELY_END_MS = 700.0  # words after which we would wait no longer than this are probably the last
_MELODY_S = 0.15  # it takes about 60 ms, and the words some 90
_MISSING_MS = 500.0  # audio this late, while a turn is open, is not coming: a carrier may send no silence


@dataclass(frozen=True, slots=True)
class OwnVoice:
    """What the agent itself is heard to say, so that its echo is not taken for the caller."""

    loudest_dbfs: Callable[[float, float], float]
    """See PlayedLoudness.loudest_dbfs."""
    said: Callable[[], str]
    """What it is saying or said last."""


class Listener:
    """One caller's ears. `push` audio as it comes; recognition runs in `tasks`, off the audio path."""

    def __init__(
        self,
        *,
        codec: Codec,
        detector: VoiceDetector,
        transcriber: Transcriber,
        policy: TurnPolicy,
        clock: Clock,
        tasks: asyncio.TaskGroup,
        agent_speaking: Callable[[], bool],
        on_event: Callable[[TurnEvent], None],
        on_deaf: Callable[[HearingError], None],
        on_likely_end: Callable[[str], None] = lambda text: None,
        own_voice: OwnVoice | None = None,
        judge_melody: MelodyJudge | None = None,
    ) -> None:
        """`on_likely_end` is told the words of a turn that is probably over, before its wait is.
        `judge_melody`: a second opinion on whether it is, beside that of the words."""
        self.turns = TurnTaker(policy)
        self._codec, self._detector, self._transcriber = codec, detector, transcriber
        self._stream = transcriber if isinstance(transcriber, StreamingTranscriber) else None
        self._streamed = False  # whether the turn under way is
        self._clock, self._tasks = clock, tasks
        self._agent_speaking, self._on_event, self._on_deaf = agent_speaking, on_event, on_deaf
        self._on_likely_end = on_likely_end
        self._recognition: asyncio.Task[None] | None = None
        self._own_voice, self._echo = own_voice, EchoGuard()
        self._judge_melody = judge_melody
        self._level_dbfs = 0.0
        self._floor = NoiseFloor()
        self._audio = bytearray()
        self._samples = 0
        self._timer: asyncio.TimerHandle | None = None
        self._line_timer: asyncio.TimerHandle | None = None
        self._closed = False

    def push(self, g711: bytes) -> None:
        """The next audio from the line, in the leg's codec."""
        if self._closed:
            return
        pcm16 = self._codec.decode(g711)
        self._samples += len(g711)
        self._keep(pcm16)
        rms = audioop.rms(pcm16, 2)
        loud = self._floor.loud(rms, len(g711) / BYTES_PER_MS)
        before_dbfs, self._level_dbfs = self._level_dbfs, dbfs(rms)
        probabilities = self._detector.push(pcm16)
        rest_ms = (self._samples * 1000 / RATE_HZ) % WINDOW_MS
        start_ms = self._clock() - rest_ms - len(probabilities) * WINDOW_MS
        for probability in probabilities:
            end_ms = start_ms + WINDOW_MS
            speaking = self._agent_speaking()
            if self._is_echo(max(before_dbfs, self._level_dbfs), start_ms, end_ms):
                probability, loud = 0.0, False
            for event in self.turns.window(
                probability, start_ms, end_ms,
                agent_speaking=speaking, loud=loud, soft_before=self._floor.soft_before,
            ):  # fmt: skip
                self._handle(event)
            start_ms = end_ms
        self._feed(pcm16)
        self._check()
        self._watch_line()

    def _is_echo(self, level_dbfs: float, start_ms: float, end_ms: float) -> bool:
        if self._own_voice is None:
            return False
        if not self.turns.speaking:
            self._echo.new_turn()
        played_dbfs = self._own_voice.loudest_dbfs(start_ms - LATEST_MS, end_ms)
        return self._echo.explains(level_dbfs, played_dbfs, end_ms - start_ms)

    def _without_echo(self, text: str) -> str:
        """The words, unless they are our own, come back louder than an echo should."""
        if self._own_voice is None or not (text and self.turns.over_agent and self._echo.doubtful):
            return text
        if not are_our_words(text, self._own_voice.said()):
            return text
        self._echo.was_echo()
        return ""

    async def last_words(self) -> TurnEnded | None:
        """What the caller was saying when the line ended; None if nothing. Raises HearingError."""
        if not self.turns.speaking:
            return None
        self._drop_recognition()
        text = await self._transcriber.transcribe(bytes(self._audio))
        started_ms, ended_ms = self.turns.span_ms
        return TurnEnded(text, started_ms, ended_ms, self._clock(), 0.0)

    def close(self) -> None:
        """No more events."""
        self._closed = True
        self._drop_recognition()
        self._stop_timer()
        self._watch_line()

    def _handle(self, event: TurnEvent) -> None:
        if isinstance(event, SpeechPaused | SpeechResumed):
            # One recognition a caller: of a monologue, each pause would otherwise add the whole once more,
            # and the recogniser serves every call.
            self._drop_recognition()
        if isinstance(event, SpeechPaused):
            work = self._recognise(event.pause, bytes(self._audio))
            self._recognition = self._tasks.create_task(work, name="recognise")
        else:
            self._on_event(event)

    async def _recognise(self, pause: int, pcm16: bytes) -> None:
        async with asyncio.TaskGroup() as both:
            melody = both.create_task(self._melody(pcm16), name="melody")
            text = await self._words(pcm16)
            if not text:
                melody.cancel()
        if self._closed:
            return
        done = None if melody.cancelled() else melody.result()
        now_ms, text = self._clock(), self._without_echo(text)
        self.turns.recognised(pause, text, now_ms, done)
        self._stop_timer()
        # The line may fall silent altogether; the wait must end all the same.
        delay_ms = self.turns.wait_ms(text)
        if text and delay_ms <= _LIKELY_END_MS and self.turns.speaking:
            self._on_likely_end(text)
        self._timer = asyncio.get_running_loop().call_later(delay_ms / 1000, self._check)
        self._check()

    async def _words(self, pcm16: bytes) -> str:
        try:
            return await self._transcriber.transcribe(pcm16)
        except HearingError as error:
            self._on_deaf(error)
            return ""

    async def _melody(self, pcm16: bytes) -> float | None:
        """How likely the caller is done, by the melody; None when nobody can tell, or not in time."""
        if self._judge_melody is None:
            return None
        with suppress(TimeoutError):
            async with asyncio.timeout(_MELODY_S):
                return await self._judge_melody(pcm16)
        return None

    def _feed(self, pcm16: bytes) -> None:
        """Pass a turn's audio on as it comes, from its onset."""
        if not self.turns.speaking:
            self._streamed = False
        elif self._stream is not None:
            self._stream.hear(pcm16 if self._streamed else bytes(self._audio), begins=not self._streamed)
            self._streamed = True

    def _drop_recognition(self) -> None:
        if self._recognition is not None:
            self._recognition.cancel()
            self._recognition = None

    def _check(self) -> None:
        ended = self.turns.due(self._clock())
        if ended is not None:
            self._stop_timer()
            self._trim(_PRE_ROLL_MS)
            self._streamed = False
            self._on_event(ended)

    def _watch_line(self) -> None:
        """While a turn is open, silence is heard even when no audio comes."""
        if self._line_timer is not None:
            self._line_timer.cancel()
            self._line_timer = None
        if self.turns.speaking and not self._closed:
            loop = asyncio.get_running_loop()
            self._line_timer = loop.call_later(_MISSING_MS / 1000, self._line_is_silent)

    def _line_is_silent(self) -> None:
        now_ms, speaking = self._clock(), self._agent_speaking()
        for event in self.turns.window(0.0, now_ms - WINDOW_MS, now_ms, agent_speaking=speaking):
            self._handle(event)
        self._check()
        self._watch_line()

    def _keep(self, pcm16: bytes) -> None:
        self._audio += pcm16
        self._trim(_MAX_TURN_MS if self.turns.speaking else _PRE_ROLL_MS)

    def _trim(self, keep_ms: float) -> None:
        surplus = len(self._audio) - int(keep_ms * _BYTES_PER_MS)
        if surplus > 0:
            del self._audio[:surplus]

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
