"""Real speech as it sounds on a telephone line: the embedded voice through the resampler and μ-law."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from backend.core.g711 import Codec
from backend.core.resample import Resampler

OnTheLine = Callable[..., bytes]


@pytest.fixture(scope="session")
def on_the_line() -> OnTheLine:
    """`on_the_line(text, codec)`: int16 at 8 kHz, as decoded from the line."""
    hibari = pytest.importorskip("hibari")
    voice = hibari.Hibari(threads=1)

    @cache
    def spoken(text: str, codec: Codec = Codec.PCMU) -> bytes:
        wave = np.clip(np.asarray(voice(text)), -1, 1)
        resampler = Resampler(24_000, 8_000)
        pcm16_8k = resampler.push((wave * 32_767).astype("<i2").tobytes()) + resampler.flush()
        return codec.decode(codec.encode(pcm16_8k))

    return spoken
