"""Whisper's log-mel spectrogram of 16 kHz sound, in NumPy, without transformers.

The same figures as `transformers.WhisperFeatureExtractor(do_normalize=True)`, which the tests compare with.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
HOP = 160
MELS = 80
_FFT = 400
_FLOOR = 1e-10
_RANGE = 8.0  # tenfold steps below the loudest that are told apart
# Slaney's mel scale: straight up to 1 kHz, logarithmic above.
_LINEAR_HZ = 200.0 / 3.0
_KNEE_HZ, _KNEE_MEL = 1_000.0, 15.0
_LOG_STEP = np.log(6.4) / 27.0

Floats = NDArray[np.float32]


def log_mel(samples: Floats) -> Floats:
    """Sound at 16 kHz, (T,) → features (80, T // 160), brought to zero mean and unit variance first."""
    level = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    padded = np.pad(level.astype(np.float64), _FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::HOP]  # (T // 160 + 1, 400)
    power = np.abs(np.fft.rfft(frames * _window(), axis=1)) ** 2
    logs = np.log10(np.maximum(power[:-1] @ _filters(), _FLOOR)).T  # the last frame is padding for the most
    clipped = np.maximum(logs, logs.max() - _RANGE)
    features: Floats = ((clipped + 4.0) / 4.0).astype(np.float32)
    return features


@cache
def _window() -> NDArray[np.float64]:
    return np.hanning(_FFT + 1)[:-1]  # periodic


@cache
def _filters() -> NDArray[np.float64]:
    """Triangles of equal area, evenly spaced in mels: (201, 80)."""
    corners = _hz(np.linspace(_mel(np.array(0.0)), _mel(np.array(RATE_HZ / 2)), MELS + 2))
    bins = np.fft.rfftfreq(_FFT, 1 / RATE_HZ)
    low, peak, high = corners[:-2], corners[1:-1], corners[2:]
    up = (bins[:, None] - low) / (peak - low)
    down = (high - bins[:, None]) / (high - peak)
    filters: NDArray[np.float64] = np.maximum(0.0, np.minimum(up, down)) * (2.0 / (high - low))
    return filters


def _mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _KNEE_MEL + np.log(np.maximum(hz, _KNEE_HZ) / _KNEE_HZ) / _LOG_STEP
    return np.where(hz < _KNEE_HZ, hz / _LINEAR_HZ, above)


def _hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _KNEE_HZ * np.exp(_LOG_STEP * (mel - _KNEE_MEL))
    return np.where(mel < _KNEE_MEL, mel * _LINEAR_HZ, above)
