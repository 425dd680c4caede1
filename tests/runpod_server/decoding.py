"""What came from the server, as samples."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray


def decoded(data: bytes, form: str, *, pcm_hz: int = 24_000) -> tuple[NDArray[np.float32], int]:
    """Mono samples of sound that must be in this form, and their rate. `pcm` has no header: `pcm_hz`."""
    if form == "pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768, pcm_hz
    if form == "aac":
        return _decoded_aac(data)
    read, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
    return read, rate_hz


def _decoded_aac(data: bytes) -> tuple[NDArray[np.float32], int]:
    av = pytest.importorskip("av")
    assert data[:2] in (b"\xff\xf1", b"\xff\xf9"), "no frame of ADTS"
    with av.open(io.BytesIO(data), format="aac") as container:
        stream = container.streams.audio[0]
        assert stream.channels == 1
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(stream)]), stream.rate


def main_hz(samples: NDArray[np.float32], rate_hz: int = 24_000) -> float:
    """The strongest frequency."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 8 * len(samples)))
    return float(np.argmax(spectrum) * rate_hz / (8 * len(samples)))
