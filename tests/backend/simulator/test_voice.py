"""The caller's voice: trimmed to its sound, shifted, the same every time, and understood."""

from __future__ import annotations

import numpy as np
import pytest

from backend.errors import SpeechError
from backend.simulator.hearing import AUDIBLE, audible_span
from backend.simulator.phrases import hears_any
from backend.simulator.voice import CallerVoice, add_noise


@pytest.fixture(scope="module")
def voice():
    one = CallerVoice()
    yield one
    one.close()


def fundamental_hz(pcm16: bytes) -> float:
    """By the autocorrelation of voiced frames, median."""
    audio = np.frombuffer(pcm16, "<i2").astype(float)
    found = []
    for at in range(0, len(audio) - 400, 200):
        frame = audio[at : at + 400] - audio[at : at + 400].mean()
        if np.sqrt(np.mean(frame**2)) < 1500:
            continue
        power = np.correlate(frame, frame, "full")[399:]
        lag = 20 + int(np.argmax(power[20:120]))
        if power[lag] > 0.5 * power[0]:
            found.append(8000 / lag)
    return float(np.median(found))


async def test_speech_begins_and_ends_with_sound(voice):
    said = await voice.say("I would like an appointment, please.", pitch=1.18, speed=1.05)
    audio = np.abs(np.frombuffer(said.pcm16, "<i2").astype(int))
    assert audio[0] > AUDIBLE < audio[-1]
    assert audible_span(said.pcm16) == (said.speech_start, said.speech_end) == (0, len(audio))
    assert 14000 < audio.max() < 18000


async def test_the_pitch_moves_and_the_pace_stays(voice):
    text = "I would like to book an appointment for tomorrow morning."
    own = await voice.say(text, pitch=1.0, speed=1.0)
    high = await voice.say(text, pitch=1.3, speed=1.0)
    fast = await voice.say(text, pitch=1.3, speed=1.3)
    assert fundamental_hz(high.pcm16) / fundamental_hz(own.pcm16) == pytest.approx(1.3, rel=0.1)
    assert len(high.pcm16) / len(own.pcm16) == pytest.approx(1.0, rel=0.15)
    assert len(high.pcm16) / len(fast.pcm16) == pytest.approx(1.3, rel=0.15)


async def test_the_same_words_are_the_same_samples(voice):
    first = await voice.say("Yes, please.", pitch=1.1, speed=1.0)
    other = CallerVoice()
    assert (await other.say("Yes, please.", pitch=1.1, speed=1.0)).pcm16 == first.pcm16
    other.close()


async def test_the_shifted_voice_is_understood(voice, ears):
    said = await voice.say("I need to see the doctor on Tuesday.", pitch=1.18, speed=1.05)
    assert hears_any(["see the doctor on Tuesday"], await ears.transcribe(said.pcm16))


async def test_noise_has_its_level_and_moves_the_words(voice):
    said = await voice.say("Hello.", pitch=1.0, speed=1.0)
    noisy = add_noise(said, -20)
    assert (noisy.speech_start, noisy.speech_end) == (2400, 2400 + said.speech_end)
    audio = np.frombuffer(noisy.pcm16, "<i2").astype(float)
    speech = np.frombuffer(said.pcm16, "<i2").astype(float)
    ratio_db = 20 * np.log10(np.std(audio[:2400]) / np.sqrt(np.mean(speech**2)))
    assert ratio_db == pytest.approx(-20, abs=1)


async def test_nothing_to_pronounce_is_said_so(voice):
    with pytest.raises(SpeechError, match="nothing to pronounce"):
        await voice.say("...", pitch=1.0, speed=1.0)
