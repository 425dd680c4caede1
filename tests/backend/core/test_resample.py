"""24 kHz speech → 8 kHz telephone: nothing folds back, nothing clicks, whatever the chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from backend.core.resample import Resampler

RATE_HZ = 24_000


def tone(hz: float, seconds: float = 1.0, peak: float = 20_000.0) -> NDArray[np.float64]:
    return peak * np.sin(2 * np.pi * hz * np.arange(int(RATE_HZ * seconds)) / RATE_HZ)


def sweep(from_hz: float, to_hz: float, seconds: float) -> NDArray[np.float64]:
    t = np.arange(int(RATE_HZ * seconds)) / RATE_HZ
    wave = 30_000 * np.sin(2 * np.pi * (from_hz * t + (to_hz - from_hz) * t * t / (2 * seconds)))
    edge = np.clip(np.minimum(np.arange(len(t)), np.arange(len(t))[::-1]) / 2_400, 0, 1)
    return wave * edge  # switched on softly, or the switching itself is heard in the pass-band


def pcm(wave: NDArray[np.float64]) -> bytes:
    return np.rint(wave).astype("<i2").tobytes()


def samples(pcm16: bytes) -> NDArray[np.int64]:
    return np.frombuffer(pcm16, "<i2").astype(np.int64)


def resampled(pcm16: bytes, *cuts: int, to_hz: int = 8_000, from_hz: int = RATE_HZ) -> NDArray[np.int64]:
    resampler = Resampler(from_hz, to_hz)
    edges = [0, *sorted(cuts), len(pcm16)]
    out = b"".join(resampler.push(pcm16[a:b]) for a, b in zip(edges, edges[1:], strict=False))
    return samples(out + resampler.flush())


def level_db(wave: NDArray[np.int64], reference: NDArray[np.float64]) -> float:
    middle = wave[len(wave) // 10 : -len(wave) // 10]
    return float(20 * np.log10((np.sqrt(np.mean(middle**2.0)) + 1e-6) / np.sqrt(np.mean(reference**2))))


def test_a_sweep_above_the_telephone_band_leaves_nothing() -> None:
    wave = sweep(5_000, 11_000, 3.0)
    assert level_db(resampled(pcm(wave)), wave) < -90
    in_chunks = resampled(pcm(wave), *range(9_600, len(wave) * 2, 9_600))
    assert level_db(in_chunks, wave) < -90
    assert np.abs(in_chunks).max() <= 8  # the worst moment is 70 dB down, too


@pytest.mark.parametrize("hz", [4_100, 4_600, 5_000, 6_500, 7_600, 8_000, 9_000, 11_000, 11_900])
def test_every_tone_that_would_alias_is_60_db_down(hz: int) -> None:
    assert level_db(resampled(pcm(tone(hz))), tone(hz)) < -60


@pytest.mark.parametrize("hz", [80, 300, 1_000, 2_000, 2_900, 3_300, 3_400])
def test_the_telephone_band_is_flat(hz: int) -> None:
    assert abs(level_db(resampled(pcm(tone(hz))), tone(hz))) < 0.1


@given(st.data())
def test_chunked_equals_whole(data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1))
    length = data.draw(st.integers(0, 12_001))  # bytes: an odd length ends in half a sample
    noise = (
        np.random.default_rng(seed)
        .integers(-32_768, 32_768, length // 2 + 1)
        .astype("<i2")
        .tobytes()[:length]
    )
    cuts = data.draw(st.lists(st.integers(0, length), max_size=40))
    whole, chunked = resampled(noise), resampled(noise, *cuts)
    assert len(chunked) == len(whole)
    assert np.abs(chunked - whole).max(initial=0) <= 1


@pytest.mark.parametrize("size", [1, 2, 3, 479, 480, 481, 3_840, 9_600])
def test_equal_chunks_of_any_size_equal_the_whole(size: int) -> None:
    speech_like = pcm(tone(440, 0.3) * 0.6 + tone(1_310, 0.3) * 0.3)
    chunked = resampled(speech_like, *range(size, len(speech_like), size))
    assert np.abs(chunked - resampled(speech_like)).max() <= 1


def test_a_tone_in_chunks_has_no_click_at_its_borders() -> None:
    wave = pcm(tone(400, 1.0))
    out = resampled(wave, *range(9_600, len(wave), 9_600))[800:-800].astype(float)
    # A click is energy off the tone: remove the tone and look at what is left.
    t = np.arange(len(out)) / 8_000
    basis = np.stack((np.sin(2 * np.pi * 400 * t), np.cos(2 * np.pi * 400 * t)), axis=1)
    rest = out - basis @ np.linalg.lstsq(basis, out, rcond=None)[0]
    assert np.abs(rest).max() <= 2


@pytest.mark.parametrize("length", [0, 1, 2, 3, 159, 160, 24_000, 24_001, 24_002])
def test_the_length_is_a_third(length: int) -> None:
    assert abs(len(resampled(pcm(np.zeros(length)))) - length / 3) <= 1


def test_an_utterance_does_not_sound_in_the_next() -> None:
    resampler = Resampler(RATE_HZ, 8_000)
    loud, quiet = pcm(np.full(2_401, 30_000.0)), pcm(tone(500, 0.1, 300))
    resampler.push(loud + b"\x01")  # half a sample left over, too
    resampler.flush()
    after = resampler.push(quiet) + resampler.flush()
    assert samples(after).tolist() == resampled(quiet).tolist()


def test_an_interrupted_utterance_does_not_sound_in_the_next() -> None:
    resampler = Resampler(RATE_HZ, 8_000)
    resampler.push(pcm(np.full(2_401, 30_000.0)) + b"\x01")
    resampler.reset()
    quiet = pcm(tone(500, 0.1, 300))
    assert samples(resampler.push(quiet) + resampler.flush()).tolist() == resampled(quiet).tolist()


def test_full_scale_clips_and_does_not_wrap() -> None:
    square = pcm(np.where(np.arange(24_000) // 60 % 2, 32_767.0, -32_768.0))
    out = resampled(square)
    # Overshoot of a square wave passes full scale; wrapped, it would jump to the other sign.
    assert out.max() == 32_767 and out.min() == -32_768
    for start in range(100, len(out) - 100, 40):
        plateau = out[start + 6 : start + 14]
        assert (plateau > 0).all() or (plateau < 0).all()


def test_nothing_in_nothing_out() -> None:
    resampler = Resampler(RATE_HZ, 8_000)
    assert resampler.push(b"") == b"" and resampler.flush() == b"" and resampler.flush() == b""


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_kind_of_bytes_is_taken(kind: type) -> None:
    data = pcm(tone(700, 0.05)) + b"\x7f"
    resampler = Resampler(RATE_HZ, 8_000)
    out = resampler.push(kind(data[:101])) + resampler.push(kind(data[101:])) + resampler.flush()
    assert samples(out).tolist() == resampled(data).tolist()


def test_8_to_16_khz_for_the_recogniser() -> None:
    wave = 10_000 * np.sin(2 * np.pi * 1_000 * np.arange(8_000) / 8_000)
    out = resampled(pcm(wave), 333, from_hz=8_000, to_hz=16_000)
    assert len(out) == 16_000
    assert abs(level_db(out, wave)) < 0.1
