from __future__ import annotations

import numpy as np
import pytest

from runpod_server.rates import SAMPLE_RATES_HZ, Resampler
from tests.runpod_server.decoding import main_hz

TONE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 24_000) * 32767).astype("<i2").tobytes()


def resampled(rate_hz: int, piece_bytes: int) -> bytes:
    resampler = Resampler(rate_hz)
    pieces = [resampler.push(TONE[at : at + piece_bytes]) for at in range(0, len(TONE), piece_bytes)]
    return b"".join([*pieces, resampler.finish()])


@pytest.mark.parametrize("rate_hz", SAMPLE_RATES_HZ)
def test_the_same_sound_at_another_rate(rate_hz: int) -> None:
    samples = np.frombuffer(resampled(rate_hz, 3840), "<i2") / 32768
    assert len(samples) == pytest.approx(2 * rate_hz, abs=1)
    assert main_hz(samples[: 2 * rate_hz], rate_hz) == pytest.approx(440, abs=0.5)
    assert np.abs(samples[rate_hz // 2 : rate_hz]).max() == pytest.approx(0.3, rel=0.01)


@pytest.mark.parametrize("rate_hz", SAMPLE_RATES_HZ)
def test_pieces_of_any_size_give_equal_samples(rate_hz: int) -> None:
    whole = resampled(rate_hz, len(TONE))
    assert all(resampled(rate_hz, size) == whole for size in (96, 3840, 9600))


@pytest.mark.parametrize("rate_hz", SAMPLE_RATES_HZ)
def test_sound_leaves_with_the_first_frame(rate_hz: int) -> None:
    assert len(Resampler(rate_hz).push(TONE[:3840])) > 0.7 * 2 * 0.08 * rate_hz
