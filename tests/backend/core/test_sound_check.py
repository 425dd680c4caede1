from __future__ import annotations

import audioop

import numpy as np
import pytest

from backend.core.sound_check import SoundCheck

RNG = np.random.default_rng(7)


def pcm16(samples: np.ndarray) -> bytes:
    return np.clip(samples, -32768, 32767).astype("<i2").tobytes()


def verdict(sound: bytes, *, chunk: int = 640) -> str | None:
    check = SoundCheck()
    for at in range(0, len(sound), chunk):
        if (problem := check.push(sound[at : at + chunk])) is not None:
            return problem
    return None


@pytest.mark.parametrize("amplitude", [1500, 8000, 30_000])
def test_white_noise_is_no_speech(amplitude: int) -> None:
    assert verdict(pcm16(RNG.normal(0, amplitude, 16_000))) == "it is noise"


def test_noise_is_noise_through_the_telephones_codec_and_in_any_chunks() -> None:
    noise = audioop.ulaw2lin(audioop.lin2ulaw(pcm16(RNG.normal(0, 6000, 16_000)), 2), 2)
    assert {verdict(noise, chunk=size) for size in (32, 640, 32_000)} == {"it is noise"}


def test_a_value_that_does_not_change_is_no_speech() -> None:
    assert verdict(pcm16(np.full(16_000, 12_000))) == "it is one constant value"


def test_endless_silence_is_no_speech_but_a_pause_is() -> None:
    assert verdict(bytes(2 * 8 * 4500)) is not None
    assert verdict(bytes(2 * 8 * 3500)) is None
    tone = pcm16(8000 * np.sin(np.arange(8000) * 0.2))
    assert verdict(tone + bytes(2 * 8 * 8000)) is None, "something was said"


def test_a_short_hiss_is_a_consonant() -> None:
    vowel = pcm16(8000 * np.sin(np.arange(4000) * 0.2))
    hiss = pcm16(RNG.normal(0, 4000, 2400))  # 300 ms of “s”
    assert verdict(vowel + hiss + vowel + hiss + vowel) is None


async def test_a_real_voice_passes() -> None:
    voice = pytest.importorskip("backend.simulator.voice").CallerVoice()
    text = "She sells sea shells by the sea shore, sssss, six thick thistle sticks. Hush, hush, hush!"
    for pitch, speed in ((1.0, 1.0), (0.8, 0.7), (1.5, 1.2)):
        said = await voice.say(text, pitch=pitch, speed=speed)
        assert verdict(said.pcm16) is None
        assert verdict(audioop.ulaw2lin(audioop.lin2ulaw(said.pcm16, 2), 2)) is None
    voice.close()
