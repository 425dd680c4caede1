"""Other sample rates than the server's own, made while the sound comes. Pure."""

from __future__ import annotations

from typing import Literal, get_args

import soxr

from runpod_server.audio import SAMPLE_RATE_HZ, float_from_pcm16, pcm16_from_float

SampleRateHz = Literal[8000, 16000, 22050, 24000, 44100, 48000]
SAMPLE_RATES_HZ: tuple[int, ...] = get_args(SampleRateHz)


class Resampler:
    """int16 PCM at 24 kHz in, at `rate_hz` out. The same samples, however the sound is cut into pieces."""

    def __init__(self, rate_hz: int) -> None:
        is_same = rate_hz == SAMPLE_RATE_HZ
        self._soxr = None if is_same else soxr.ResampleStream(SAMPLE_RATE_HZ, rate_hz, 1, dtype="float32")

    def push(self, pcm16: bytes) -> bytes:
        """More sound; returns what is ready, possibly none: some 20 ms stay behind."""
        return self._resampled(pcm16, last=False)

    def finish(self) -> bytes:
        """The last samples."""
        return self._resampled(b"", last=True)

    def _resampled(self, pcm16: bytes, *, last: bool) -> bytes:
        if self._soxr is None:
            return pcm16
        return pcm16_from_float(self._soxr.resample_chunk(float_from_pcm16(pcm16), last=last))
