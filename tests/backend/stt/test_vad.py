"""Voice activity on a telephone line: speech is found, silence and hiss are not, chunking does not matter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.core.g711 import Codec
from backend.stt.vad import RATE_HZ, WINDOW_MS, WINDOW_SAMPLES, VoiceActivity

OnTheLine = Callable[..., bytes]
SECOND = bytes(2 * RATE_HZ)


def hiss(seconds: float, level: float) -> bytes:
    return np.random.default_rng(1).normal(0, level, int(RATE_HZ * seconds)).astype("<i2").tobytes()


def mixed(samples: int, seed: int) -> bytes:
    """Something with both loud and quiet in it."""
    wave = np.random.default_rng(seed).normal(0, 1, samples) * 4_000 * (np.arange(samples) // 700 % 2)
    return wave.astype("<i2").tobytes()


def test_a_window_is_32_ms() -> None:
    assert (WINDOW_SAMPLES, WINDOW_MS) == (256, 32.0)
    assert len(VoiceActivity().push(SECOND)) == RATE_HZ // WINDOW_SAMPLES


@pytest.mark.parametrize("codec", Codec)
def test_speech_is_found_where_it_is(on_the_line: OnTheLine, codec: Codec) -> None:
    speech = on_the_line("I would like to book an appointment.", codec)
    probabilities = VoiceActivity().push(SECOND + speech + SECOND)
    windows = np.array(probabilities)
    second = int(1_000 / WINDOW_MS)
    assert windows[: second - 1].max() < 0.3, "speech in silence"
    inside = windows[second + 10 : len(windows) - second - 14]
    assert np.median(inside) > 0.9 and (inside > 0.5).mean() > 0.8, "speech missed"
    assert windows[-second + 12 :].max() < 0.3, "speech after its end"


@pytest.mark.parametrize("level", [0, 3, 30])
def test_silence_and_hiss_are_not_speech(level: float) -> None:
    assert max(VoiceActivity().push(hiss(3, level))) < 0.5


def test_a_tone_is_not_speech() -> None:
    tone = 8_000 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE_HZ) / RATE_HZ)
    assert np.median(VoiceActivity().push(tone.astype("<i2").tobytes())) < 0.5


@settings(max_examples=20)
@given(st.integers(0, 9), st.data())
def test_any_chunk_sizes_give_the_same(seed: int, data: st.DataObject) -> None:
    audio = mixed(4_000, seed)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(audio)), max_size=30)))
    detector = VoiceActivity()
    edges = [0, *cuts, len(audio)]
    chunked = [p for a, b in zip(edges, edges[1:], strict=False) for p in detector.push(audio[a:b])]
    assert chunked == VoiceActivity().push(audio)


@pytest.mark.parametrize("size", [1, 319, 320, 512, 513])
def test_equal_chunks_of_any_size_give_the_same(on_the_line: OnTheLine, size: int) -> None:
    speech = on_the_line("Yes, please.")[:8_000]
    detector = VoiceActivity()
    chunked = [p for at in range(0, len(speech), size) for p in detector.push(speech[at : at + size])]
    assert chunked == VoiceActivity().push(speech)


def test_nothing_gives_nothing() -> None:
    detector = VoiceActivity()
    assert detector.push(b"") == [] and detector.push(bytes(2 * WINDOW_SAMPLES - 1)) == []
    assert len(detector.push(b"\0")) == 1


def test_two_callers_do_not_hear_each_other(on_the_line: OnTheLine) -> None:
    speech = on_the_line("Yes, please.")
    alone = VoiceActivity().push(speech)
    one, other = VoiceActivity(), VoiceActivity()
    together: list[float] = []
    for at in range(0, len(speech), 320):
        together += one.push(speech[at : at + 320])
        other.push(hiss(0.02, 9_000))
    assert together == alone


def test_reset_forgets_everything(on_the_line: OnTheLine) -> None:
    speech = on_the_line("Yes, please.")
    detector = VoiceActivity()
    detector.push(speech + b"\x01")
    detector.reset()
    assert detector.push(speech) == VoiceActivity().push(speech)
