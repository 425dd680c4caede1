"""When each word of some sound is over: by laying it over the same words spoken one by one in the same voice.

A recogniser is no judge of that: it guesses "telephone" from its first syllable.
"""

from __future__ import annotations

import audioop
import re

import numpy as np
from hearing import Voices

_HOP, _WINDOW = 80, 200
_STAY = 0.3  # costs a little: time runs at about the same speed in both
_SILENT = 300


def word_ends_ms(voices: Voices, spoken: str, pcm16_8k: bytes) -> list[float]:
    """For each word of `spoken`, when its last sound is over."""
    words = spoken.split()
    sounds = [
        voices.sound(re.sub(r"[^\w']+$", "", word) + ("," if word[-1] in ",." else "")) for word in words
    ]
    borders = np.cumsum([len(sound) for sound in sounds]) // _HOP
    path = _path(_features(np.concatenate(sounds)), _features(np.frombuffer(pcm16_8k, "<i2")))
    loud = [audioop.max(pcm16_8k[at : at + 160], 2) >= _SILENT for at in range(0, len(pcm16_8k), 160)]
    ends = []
    for border in borders:
        end = int(path[np.searchsorted(path[:, 0], min(border, path[-1, 0])), 1])
        while end > 0 and not any(loud[max(0, end - 3) : end] or [True]):
            end -= 1
        ends.append(end * 10.0)
    return ends


def _features(pcm16: np.ndarray) -> np.ndarray:
    """13 cepstral coefficients every 10 ms."""
    padded = np.pad(pcm16.astype(np.float64) / 32768, (60, _WINDOW))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP] * np.hanning(_WINDOW)
    power = np.abs(np.fft.rfft(frames, 256)) ** 2
    mel = 2595 * np.log10(1 + np.fft.rfftfreq(256, 1 / 8000) / 700)
    edges = np.linspace(mel[3], mel[-1], 26)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bands = np.clip(np.minimum((mel - low) / (middle - low), (high - mel) / (high - middle)), 0, None)
    cosines = np.cos(np.pi * np.outer(np.arange(13), np.arange(24) + 0.5) / 24)
    cepstrum: np.ndarray = np.log(power @ bands.T + 1e-5) @ cosines.T / 5
    cepstrum[:, 0] *= 0.5
    return cepstrum


def _path(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The cheapest way through both: pairs of frames."""
    distance = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    rows, columns = distance.shape
    cost = np.full((rows + 1, columns + 1), np.inf)
    cost[0, 0] = 0
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            before = min(cost[i - 1, j - 1], cost[i - 1, j] + _STAY, cost[i, j - 1] + _STAY)
            cost[i, j] = distance[i - 1, j - 1] + before
    i, j, path = rows, columns, []
    while i and j:
        path.append((i - 1, j - 1))
        step = int(np.argmin((cost[i - 1, j - 1], cost[i - 1, j], cost[i, j - 1])))
        i, j = i - (step != 2), j - (step != 1)
    return np.array(path[::-1])
