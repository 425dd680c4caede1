"""The agent's ears: scripted detectors and recognisers for the edges, the real ones on telephone speech."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from backend.calls.hearing.listener import Listener
from backend.calls.ports import MelodyJudge, Transcriber, VoiceDetector
from backend.core.g711 import Codec
from backend.core.resample import Resampler
from backend.core.turns import (
    BargeIn,
    SpeechResumed,
    SpeechStarted,
    TurnEnded,
    TurnEvent,
    TurnPolicy,
)
from backend.errors import HearingError
from backend.simulator.wordcount import word_errors
from tests.backend.calls.fakes import until

LOUD, QUIET = struct.pack("<160h", *[8000, -8000] * 80), bytes(320)


class Loudness:
    """A detector that takes loud for speech."""

    def __init__(self) -> None:
        self._rest = b""

    def push(self, pcm16: bytes) -> list[float]:
        self._rest += pcm16
        windows = []
        while len(self._rest) >= 512:
            window, self._rest = self._rest[:512], self._rest[512:]
            windows.append(1.0 if max(struct.unpack("<256h", window)) > 1000 else 0.0)
        return windows


class Recogniser:
    """Gives the scripted texts one after another, each once its gate is open."""

    def __init__(self, *answers: str | HearingError) -> None:
        self._answers = iter(answers)
        self.given: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def transcribe(self, pcm16_8k: bytes) -> str:
        self.given.append(pcm16_8k)
        answer = next(self._answers)
        await self.gate.wait()
        if isinstance(answer, HearingError):
            raise answer
        return answer


class Ears:
    """A listener on a clock that moves 20 ms with every frame."""

    def __init__(
        self,
        transcriber: Transcriber,
        tasks: asyncio.TaskGroup,
        detector: VoiceDetector,
        judge_melody: MelodyJudge | None = None,
    ) -> None:
        self.now_ms = 1000.0
        self.events: list[TurnEvent] = []
        self.deaf: list[HearingError] = []
        self.agent_speaks = False
        self.codec = Codec.PCMU
        self.listener = Listener(
            codec=self.codec,
            detector=detector,
            transcriber=transcriber,
            policy=TurnPolicy(),
            clock=lambda: self.now_ms,
            tasks=tasks,
            agent_speaking=lambda: self.agent_speaks,
            on_event=self.events.append,
            on_deaf=self.deaf.append,
            judge_melody=judge_melody,
        )

    async def hear(self, pcm16: bytes, ms: float | None = None) -> None:
        """`ms` of a 20 ms sound again and again, or a sound of any length."""
        sound = pcm16 * int(ms / 20) if ms is not None else pcm16
        for at in range(0, len(sound), 320):
            self.now_ms += 20
            self.listener.push(self.codec.encode(sound[at : at + 320]))
            await asyncio.sleep(0)

    async def until_ended(self) -> TurnEnded:
        """The next end of a turn, in silence."""
        count = len(self.ended)
        for _ in range(500):
            if len(self.ended) > count:
                return self.ended[-1]
            await self.hear(QUIET, 20)
            await asyncio.sleep(0.002)
        raise AssertionError(f"no turn ended: {self.events}")

    @property
    def ended(self) -> list[TurnEnded]:
        return [event for event in self.events if isinstance(event, TurnEnded)]

    @property
    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


@asynccontextmanager
async def ears(
    transcriber: Transcriber, detector: VoiceDetector | None = None, judge_melody: MelodyJudge | None = None
) -> AsyncIterator[Ears]:
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        listening = Ears(transcriber, tasks, detector or Loudness(), judge_melody)
        try:
            yield listening
        finally:
            listening.listener.close()


async def test_a_turn_ends_after_the_pause_its_words_ask_for() -> None:
    async with ears(Recogniser("Yes please.")) as e:
        await e.hear(QUIET, 500)
        started_ms = e.now_ms
        await e.hear(LOUD, 600)
        stopped_ms = e.now_ms
        ended = await e.until_ended()
    assert e.kinds == ["SpeechStarted", "TurnEnded"]
    assert ended.text == "Yes please."
    assert abs(ended.started_ms - started_ms) <= 40
    assert abs(ended.speech_ended_ms - stopped_ms) <= 40
    assert stopped_ms < ended.recognised_ms < e.now_ms
    assert 320 <= ended.waited_ms <= 320 + 60


async def test_what_is_recognised_has_the_onset_and_not_the_silence_before() -> None:
    recogniser = Recogniser("Yes please.")
    async with ears(recogniser) as e:
        await e.hear(QUIET, 5000)
        await e.hear(LOUD, 600)
        await e.until_ended()
    (audio,) = recogniser.given
    assert audio.count(b"\x00\x00") < len(audio) / 2
    assert 600 + 160 <= len(audio) / 16 <= 600 + 320 + 200 + 40
    assert audio[: 16 * 200].strip(b"\x00") == b"", "a soft onset may lie before the loud one"


async def test_speech_that_goes_on_voids_what_was_recognised_for_the_pause() -> None:
    recogniser = Recogniser("I would like", "I would like a table.")
    async with ears(recogniser) as e:
        await e.hear(LOUD, 400)
        await e.hear(QUIET, 240)
        await e.hear(LOUD, 400)
        ended = await e.until_ended()
    assert e.kinds == ["SpeechStarted", "SpeechResumed", "TurnEnded"]
    assert ended.text == "I would like a table."
    assert len(recogniser.given[1]) > len(recogniser.given[0]) + 16 * 500, "the whole turn, not its rest"


async def test_a_melody_that_goes_on_is_waited_for_longer() -> None:
    judged: list[bytes] = []

    async def judge(pcm16_8k: bytes) -> float | None:
        judged.append(pcm16_8k)
        return 0.01

    recogniser = Recogniser("I have a question.")
    async with ears(recogniser, judge_melody=judge) as e:
        await e.hear(LOUD, 400)
        assert (await e.until_ended()).waited_ms >= TurnPolicy().unsure_ms
    assert judged == recogniser.given


@pytest.mark.parametrize("text", ["I have a question.", ""])
async def test_a_judge_who_takes_too_long_is_not_waited_for(text: str) -> None:
    never = asyncio.Event()

    async def judge(_: bytes) -> float | None:
        await never.wait()
        return 0.01

    async with ears(Recogniser(text), judge_melody=judge) as e:
        await e.hear(LOUD, 400)
        ended = await e.until_ended()
    assert ended.text == text


async def test_a_sentence_that_trails_off_is_waited_for_longer() -> None:
    async with ears(Recogniser("I would like to")) as e:
        await e.hear(LOUD, 400)
        assert (await e.until_ended()).waited_ms >= 900


async def test_a_slow_recogniser_ends_the_turn_late_not_never() -> None:
    recogniser = Recogniser("Yes please.")
    recogniser.gate.clear()
    async with ears(recogniser) as e:
        await e.hear(LOUD, 400)
        await e.hear(QUIET, 2000)
        assert e.ended == []
        recogniser.gate.set()
        ended = await e.until_ended()
    assert ended.text == "Yes please."
    assert ended.waited_ms >= 2000


async def test_a_slow_recogniser_overtaken_by_more_speech_is_not_believed() -> None:
    recogniser = Recogniser("I would", "I would like a table.")
    recogniser.gate.clear()
    async with ears(recogniser) as e:
        await e.hear(LOUD, 400)
        await e.hear(QUIET, 240)
        await e.hear(LOUD, 400)
        recogniser.gate.set()
        await e.hear(LOUD, 100)
        ended = await e.until_ended()
    assert [turn.text for turn in e.ended] == ["I would like a table."]
    assert isinstance(ended, TurnEnded)


async def test_a_recogniser_that_fails_is_told_and_the_turn_ends_empty() -> None:
    failure = HearingError("out of order")
    async with ears(Recogniser(failure, "Yes please.")) as e:
        await e.hear(LOUD, 400)
        assert (await e.until_ended()).text == ""
        assert e.deaf == [failure]
        await e.hear(LOUD, 400)
        assert (await e.until_ended()).text == "Yes please.", "deaf once is not deaf for ever"


async def test_the_caller_interrupts() -> None:
    async with ears(Recogniser("Stop.")) as e:
        e.agent_speaks = True
        await e.hear(QUIET, 500)
        at_ms = e.now_ms
        await e.hear(LOUD, 300)
        (barge_in,) = (event for event in e.events if isinstance(event, BargeIn))
        assert abs(barge_in.speech_started_ms - at_ms) <= 40
        e.agent_speaks = False
        assert (await e.until_ended()).text == "Stop."


async def test_a_click_is_no_interruption() -> None:
    async with ears(Recogniser("")) as e:
        e.agent_speaks = True
        await e.hear(QUIET, 500)
        await e.hear(LOUD, 40)
        await e.hear(QUIET, 500)
        assert "BargeIn" not in e.kinds


async def test_a_turn_that_goes_on_and_on_keeps_its_last_minute() -> None:
    recogniser = Recogniser("A long story.")
    async with ears(recogniser) as e:
        await e.hear(LOUD, 70_000)
        await e.until_ended()
    assert len(recogniser.given[0]) <= 16 * 60_000


async def test_silence_is_not_hoarded() -> None:
    async with ears(Recogniser()) as e:
        await e.hear(QUIET, 20_000)
        assert len(e.listener._audio) <= 16 * 400
        assert e.events == []


async def test_frames_of_any_length_and_codec() -> None:
    async with ears(Recogniser("Yes please.")) as e:
        e.listener._codec = Codec.PCMA
        sound = Codec.PCMA.encode(LOUD * 20 + QUIET * 30)
        while sound:
            size = min(len(sound), 7)
            e.now_ms += size / 8
            e.listener.push(sound[:size])
            sound = sound[size:]
        e.listener.push(b"")
        await until(lambda: True)
        e.codec = Codec.PCMA
        assert (await e.until_ended()).text == "Yes please."


async def test_a_line_that_falls_silent_in_the_pause_still_ends_the_turn() -> None:
    """No frames at all: a carrier may send no silence."""
    async with ears(Recogniser("Yes please.")) as e:
        await e.hear(LOUD, 400)
        await e.hear(QUIET, 200)
        loop, frozen_ms, at_s = asyncio.get_running_loop(), e.now_ms, asyncio.get_running_loop().time()
        e.listener._clock = lambda: frozen_ms + (loop.time() - at_s) * 1000
        await until(lambda: e.ended, "the turn's end")
    assert e.ended[0].text == "Yes please."


async def test_a_line_that_falls_silent_in_mid_word_still_ends_the_turn() -> None:
    async with ears(Recogniser("Yes please.")) as e:
        await e.hear(LOUD, 400)
        loop, frozen_ms, at_s = asyncio.get_running_loop(), e.now_ms, asyncio.get_running_loop().time()
        e.listener._clock = lambda: frozen_ms + (loop.time() - at_s) * 1000
        await until(lambda: e.ended, "the turn's end")
    assert e.ended[0].text == "Yes please."


async def test_a_short_stall_of_the_line_does_not_cut_a_word() -> None:
    async with ears(Recogniser("Yes please.")) as e:
        await e.hear(LOUD, 400)
        await asyncio.wait([asyncio.create_task(asyncio.sleep(0.3))])
        e.now_ms += 300
        frame = Codec.PCMU.encode(LOUD)
        for _ in range(15):  # all that was held up comes at once
            e.listener.push(frame)
        await e.hear(LOUD, 100)
        assert e.kinds == ["SpeechStarted"]
        await e.until_ended()
    assert e.kinds == ["SpeechStarted", "TurnEnded"]


async def test_after_closing_nothing_is_told_and_nothing_runs() -> None:
    recogniser = Recogniser("Yes please.")
    recogniser.gate.clear()
    async with ears(recogniser) as e:
        await e.hear(LOUD, 400)
        await e.hear(QUIET, 240)
        e.listener.close()
        recogniser.gate.set()
        before = list(e.events)
        await e.hear(LOUD, 400)
        await e.hear(QUIET, 1000)
        assert e.events == before == [SpeechStarted(before[0].at_ms)]  # type: ignore[union-attr]
        assert e.listener._timer is None
        assert e.listener._line_timer is None


# --- the real thing ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_ears() -> Iterator[Transcriber]:
    local = pytest.importorskip("backend.stt.local")
    transcriber = local.LocalTranscriber()
    yield transcriber
    transcriber.close()


@pytest.fixture(scope="module")
def speech() -> Callable[[str], bytes]:
    voice = pytest.importorskip("hibari").Hibari(threads=1)

    def spoken(text: str) -> bytes:
        wave = np.clip(np.asarray(voice(text)), -1, 1)
        resampler = Resampler(24_000, 8_000)
        return resampler.push((wave * 32_767).astype("<i2").tobytes()) + resampler.flush()

    return spoken


async def test_real_speech_real_detector_real_recogniser(
    real_ears: Transcriber, speech: Callable[[str], bytes]
) -> None:
    from backend.stt.vad import VoiceActivity

    # Nothing the recogniser may spell in two ways ("To-morrow"): hearing is what is judged here.
    said = ["I would like to book an appointment, please.", "Can I speak to a human being?"]
    async with ears(real_ears, VoiceActivity()) as e:
        await e.hear(QUIET, 600)
        for text in said:
            await e.hear(speech(text))
            await e.until_ended()
            await e.hear(QUIET, 400)
    heard = [turn.text for turn in e.ended if turn.text]
    assert word_errors(" ".join(said), " ".join(heard)).rate <= 0.1, heard
    assert e.deaf == []


async def test_real_speech_over_the_agent_is_an_interruption_within_a_quarter_of_a_second(
    real_ears: Transcriber, speech: Callable[[str], bytes]
) -> None:
    from backend.stt.vad import VoiceActivity

    async with ears(real_ears, VoiceActivity()) as e:
        e.agent_speaks = True
        await e.hear(QUIET, 600)
        samples = np.frombuffer(speech("Wait, can I speak to a person?"), "<i2")
        onset = int(np.argmax(np.abs(samples.astype(np.int32)) > 600))
        at_ms = e.now_ms + onset / 8
        told_ms: list[float] = []
        e.listener._on_event = lambda event: (
            told_ms.append(e.now_ms) if isinstance(event, BargeIn) else e.events.append(event)
        )
        await e.hear(samples.tobytes())
        assert told_ms
        assert told_ms[0] - at_ms <= 250
        await e.until_ended()
        assert "person" in e.ended[0].text.lower()
        assert not any(isinstance(event, SpeechResumed) and not e.ended for event in e.events)


async def test_real_silence_and_hiss_are_no_turn(real_ears: Transcriber) -> None:
    from backend.stt.vad import VoiceActivity

    hiss = np.random.default_rng(1).normal(0, 60, 8000 * 4).astype("<i2").tobytes()
    async with ears(real_ears, VoiceActivity()) as e:
        await e.hear(QUIET, 1000)
        await e.hear(hiss)
        assert e.events == []


async def test_a_monologue_keeps_the_recogniser_busy_once_at_most() -> None:
    recogniser = Recogniser("one", "one two", "one two three")
    recogniser.gate.clear()
    async with ears(recogniser) as listening:
        for _ in range(3):
            await listening.hear(LOUD, 600)
            await listening.hear(QUIET, 240)
        waiting = [task for task in asyncio.all_tasks() if task.get_name() == "recognise" and not task.done()]
        assert len(waiting) == 1
        recogniser.gate.set()
        assert (await listening.until_ended()).text == "one two three"


async def test_the_last_words_of_a_line_that_ended_are_recognised() -> None:
    recogniser = Recogniser("please call me back")
    async with ears(recogniser) as listening:
        assert await listening.listener.last_words() is None
        await listening.hear(LOUD, 700)
        last = await listening.listener.last_words()
        assert last is not None and last.text == "please call me back"
        assert 0 <= last.started_ms < last.speech_ended_ms <= listening.now_ms


class Streaming(Recogniser):
    """Keeps what it is fed, by turns."""

    def __init__(self, *answers: str | HearingError) -> None:
        super().__init__(*answers)
        self.fed: list[bytes] = []

    async def connect(self) -> None: ...

    def hear(self, pcm16_8k: bytes, *, begins: bool) -> None:
        self.fed = [*self.fed, b""] if begins else self.fed
        self.fed[-1] += pcm16_8k

    async def aclose(self) -> None: ...


async def test_a_turn_is_streamed_as_it_comes_and_is_the_beginning_of_what_is_asked() -> None:
    recogniser = Streaming("I would like", "I would like a table.", "No.")
    async with ears(recogniser) as e:
        await e.hear(QUIET, 1000)
        assert recogniser.fed == [], "silence costs nothing"
        await e.hear(LOUD, 400)
        assert len(recogniser.fed[0]) >= 16 * (400 + 160)
        await e.hear(QUIET, 240)
        await e.hear(LOUD, 400)
        await e.until_ended()
        await e.hear(QUIET, 500)
        await e.hear(LOUD, 400)
        await e.until_ended()
    assert len(recogniser.fed) == 2, "a turn, a stream"
    first, whole, second = recogniser.given
    assert recogniser.fed[0].startswith(first)
    assert recogniser.fed[0].startswith(whole)
    assert recogniser.fed[1].startswith(second)
