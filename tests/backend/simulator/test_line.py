"""The line, tick by tick: alignment, exact beginnings and ends, interruptions, the recording."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest

from backend.core.g711 import Codec
from backend.simulator.line import Line, Utterance


def tone(ms: int) -> bytes:
    return np.rint(8000 * np.cos(2 * np.pi * 440 * np.arange(ms * 8) / 8000)).astype("<i2").tobytes()


def utterance(ms: int, text: str = "words") -> Utterance:
    return Utterance(text, tone(ms), 0, ms * 8)


def run(line: Line, ticks: int):
    ticked = [line.tick() for _ in range(ticks)]
    return ticked, [event for one in ticked for event in one.events]


def channels(line: Line):
    with wave.open(io.BytesIO(line.wav())) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2).T


def test_the_first_tick_has_nothing_said_yet_then_silence_is_sent():
    ticked, _ = run(Line(Codec.PCMU), 3)
    assert [one.caller_g711 for one in ticked] == [None, b"\xff" * 160, b"\xff" * 160]


@pytest.mark.parametrize("codec", list(Codec))
def test_both_directions_lie_on_one_clock_as_g711_leaves_them(codec):
    line = Line(codec)
    run(line, 5)
    line.queue.push_audio(tone(100))
    line.say(utterance(90))
    _, events = run(line, 10)
    left, right = channels(line)
    assert bytes(right.astype("<i2").tobytes())[1600:3200] == codec.decode(codec.encode(tone(100)))
    [speech] = [event for event in events if event.kind == "caller_speech"]
    start = round(speech.data["start_ms"] * 8)
    assert speech.data["end_ms"] - speech.data["start_ms"] == 90
    assert left[start : start + 720].astype("<i2").tobytes() == codec.decode(codec.encode(tone(90)))
    [first] = [event for event in events if event.kind == "first_audio"]
    assert first.data["ms"] == 100


def test_the_caller_is_sent_after_they_spoke_never_before():
    line = Line(Codec.PCMU)
    run(line, 5)
    start_ms = line.say(utterance(20))
    sent_at_ms = line.now_ms
    ticked = line.tick()
    assert ticked.caller_g711 == Codec.PCMU.encode(tone(20))
    assert start_ms + 20 == sent_at_ms


def test_noise_around_speech_is_not_speech():
    line = Line(Codec.PCMU)
    run(line, 1)
    line.say(Utterance("x", tone(300), 800, 1600))
    _, events = run(line, 20)
    assert events[0].data == {"text": "x", "start_ms": 100.0, "end_ms": 200.0}


def test_an_interruption_tells_when_the_agent_was_last_heard():
    line = Line(Codec.PCMU)
    line.queue.push_audio(tone(2000))
    run(line, 50)
    said_ms = line.say(utterance(200), interrupting=True)
    run(line, 10)
    line.queue.clear()
    _, events = run(line, 40)
    [interrupt] = [event for event in events if event.kind == "interrupt"]
    assert interrupt.data == {"speech_start_ms": said_ms, "last_agent_audio_ms": 1200.0}


def test_an_agent_who_goes_on_is_judged_by_when_they_stop_or_the_line_ends():
    line = Line(Codec.PCMU)
    line.queue.push_audio(tone(2000))
    run(line, 50)
    line.say(utterance(200), interrupting=True)
    _, events = run(line, 40)
    assert "interrupt" not in [event.kind for event in events]
    [interrupt] = line.hang_up()
    assert interrupt.data["last_agent_audio_ms"] == 1800.0
    assert line.hang_up() == []


def test_hanging_up_cuts_what_was_being_said():
    line = Line(Codec.PCMU)
    run(line, 1)
    line.say(utterance(1000))
    run(line, 10)
    [speech] = line.hang_up()
    assert speech.data["end_ms"] == 200.0


def test_an_announcement_is_mixed_with_the_stream():
    line = Line(Codec.PCMU)
    line.queue.push_audio(tone(20))
    line.announce(tone(40))
    ticked, _ = run(line, 3)
    assert line.announcing is False
    peaks = [int(np.abs(np.frombuffer(one.heard_pcm16, "<i2").astype(int)).max()) for one in ticked]
    assert peaks[0] == pytest.approx(16000, rel=0.05)
    assert peaks[1] == pytest.approx(8000, rel=0.05)
    assert peaks[2] == 0
