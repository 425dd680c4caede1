from __future__ import annotations

import audioop
import math
import struct
from collections.abc import AsyncGenerator, Sequence

import numpy as np
import pytest

from backend.calls.speaking.synthesis import synthesise
from backend.core.g711 import Codec
from backend.core.speech import RouteName, Sound
from backend.errors import SpeechError


def tone(ms: float, rate_hz: int = 24_000, hz: float = 440.0) -> bytes:
    count = int(rate_hz * ms / 1000)
    return struct.pack(
        f"<{count}h", *(int(9000 * math.sin(2 * math.pi * hz * n / rate_hz)) for n in range(count))
    )


class Voice:
    """Gives these sounds."""

    name: RouteName = "sesame_ws"

    def __init__(self, sounds: Sequence[Sound]) -> None:
        self.sounds, self.befores = sounds, [""]
        self.closed_early = True

    async def connect(self) -> None: ...

    async def speak(self, text: str, *, before: str = "") -> AsyncGenerator[Sound]:
        self.befores.append(before)
        for sound in self.sounds:
            yield sound
        self.closed_early = False

    async def aclose(self) -> None: ...


def pcm(data: bytes, rate_hz: int = 24_000) -> Sound:
    return Sound(data, "pcm16", rate_hz)


async def spoken(*sounds: Sound) -> bytes:
    return await synthesise(Voice(sounds), "Hello.")


async def test_chunks_of_any_size_become_one_g711() -> None:
    whole = tone(1000)
    voice = Voice([pcm(whole[:4801]), pcm(whole[4801:4802]), pcm(whole[4802:])])
    ulaw = await synthesise(voice, "Hello.", before="Hi.")
    assert voice.befores[-1] == "Hi." and not voice.closed_early
    assert abs(len(ulaw) - 8000) <= 8 * 31
    assert ulaw == await spoken(pcm(whole))
    loud = np.frombuffer(Codec.PCMU.decode(ulaw), "<i2")
    assert abs(audioop.rms(loud.tobytes(), 2) - 9000 / math.sqrt(2)) < 300


async def test_a_voice_that_speaks_the_lines_own_codec_is_taken_as_it_is() -> None:
    ulaw = Codec.PCMU.encode(tone(300, 8000))
    assert await spoken(Sound(ulaw[:100], "ulaw", 8000), Sound(ulaw[100:], "ulaw", 8000)) == ulaw


async def test_speech_is_never_cut_and_silence_around_it_is_bounded() -> None:
    quiet, word = bytes(2 * 8 * 1500), tone(200, 8000)
    ulaw = await spoken(pcm(quiet + word + bytes(2 * 8 * 700) + word + quiet, 8000))
    assert abs(len(ulaw) / 8 - (200 + 200 + 700 + 200 + 400)) < 80
    loud = np.flatnonzero(np.abs(np.frombuffer(Codec.PCMU.decode(ulaw), "<i2")) > 300)
    assert abs(int(loud[0]) / 8 - 230) < 20 and abs((len(ulaw) - int(loud[-1])) / 8 - 430) < 20


@pytest.mark.parametrize(
    ("sounds", "what"),
    [
        ([], "gave no sound"),
        ([pcm(b"")], "gave no sound"),
        ([pcm(bytes(48_000))], "gave silence"),
        ([pcm(bytes(24_000 * 2 * 6))], "gave no speech: it is silent"),
        ([pcm(struct.pack("<h", 5000) * 48_000)], "it is one constant value"),
        ([pcm(tone(100)), Sound(b"\xff" * 800, "ulaw", 8000)], "changes its format"),
        ([pcm(tone(100))] * 4000, "speaks for over"),
        ([pcm(tone(100), rate_hz=0)], "sample rate of 0 Hz"),
    ],
)
async def test_what_is_no_speech_is_an_error(sounds: list[Sound], what: str) -> None:
    with pytest.raises(SpeechError, match=what):
        await spoken(*sounds)


def _noise(ms: float) -> bytes:
    return (
        np.random.default_rng(0).normal(0, 6000, int(24 * ms)).clip(-32_000, 32_000).astype("<i2").tobytes()
    )


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (tone(1000) + _noise(2000) + tone(1000), "noise"),
        (_noise(2000) + tone(2000), "noise"),
        (tone(200), "generation_failed"),
        (tone(100_000), "generation_failed"),
    ],
    ids=["noise in the middle", "noise first", "broken off", "babble"],
)
async def test_what_would_spoil_every_call_is_not_kept(sound: bytes, reason: str) -> None:
    with pytest.raises(SpeechError) as caught:
        await synthesise(Voice([pcm(sound)]), "Please bring your insurance card with you.")
    assert caught.value.reason == reason
