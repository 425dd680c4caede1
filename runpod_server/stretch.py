"""Speech made faster or slower with its pitch kept, while it comes: waveform-similarity overlap-add (WSOLA).

The sound is laid out anew in steps of equal length. Each step crosses over from where the last one would go
on, to the most similar place near where the new pace wants to be: so the voice's periods meet in phase.

Pure: samples in, samples out. However the sound is cut into pieces, the samples out are the same.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from runpod_server.audio import SAMPLE_RATE_HZ

Samples = NDArray[np.float32]

MIN_SPEED, MAX_SPEED = 0.25, 4.0
_STEP = SAMPLE_RATE_HZ * 12 // 1000
_REACH = SAMPLE_RATE_HZ * 8 // 1000  # each way: together a whole period of the deepest voice, 62 Hz
_FADE_IN = np.square(np.sin((np.arange(_STEP, dtype=np.float32) + 0.5) * np.float32(math.pi / 2 / _STEP)))
_FADE_OUT = np.float32(1.0) - _FADE_IN
_SILENT = 1e-7 * _STEP  # energy of a step at −70 dBFS
_NOTHING: Samples = np.zeros(0, np.float32)


class TimeStretch:
    """`push` samples, play what it returns; `finish` once. In all, samples in divided by `speed` come out."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._held = _NOTHING
        self._held_from = 0  # position in the whole sound of the first sample that is held
        self._steps = 0
        self._goes_on_at = 0  # where in the sound the last step ended

    def push(self, samples: Samples) -> Samples:
        """More sound; returns what is ready, possibly none."""
        self._held = np.concatenate([self._held, samples])
        return self._made_while_ready()

    def finish(self) -> Samples:
        """The last samples."""
        end = self._received
        rest = round(end / self._speed) - self._steps * _STEP
        self._held = np.concatenate([self._held, np.zeros(2 * _STEP, np.float32)])
        made = [_NOTHING]
        for steps_left in range(math.ceil(rest / _STEP), 0, -1):
            # The next step goes on from this one: it must find sound there, and no silence beyond the end.
            made.append(self._step(last_start=end - (_STEP if steps_left == 1 else 2 * _STEP)))
        return np.concatenate(made)[: max(0, rest)]

    @property
    def _received(self) -> int:
        return self._held_from + len(self._held)

    def _made_while_ready(self) -> Samples:
        made = [_NOTHING]
        while self._received >= self._needed():
            made.append(self._step())
        self._forget()
        return np.concatenate(made)

    def _needed(self) -> int:
        """How much sound the next step and its going on look at, at most, and how much it stands for."""
        looks_at = max(self._wanted(self._steps) + _REACH, self._goes_on_at) + 2 * _STEP
        return max(looks_at, self._wanted(self._steps + 1))

    def _wanted(self, step: int) -> int:
        return round(step * _STEP * self._speed)

    def _step(self, last_start: int | None = None) -> Samples:
        fading_out = self._at(self._goes_on_at, _STEP)
        start = self._similar(fading_out, last_start) if self._steps else 0
        made: Samples = fading_out * _FADE_OUT + self._at(start, _STEP) * _FADE_IN
        self._goes_on_at = start + _STEP
        self._steps += 1
        return made

    def _similar(self, shape: Samples, last_start: int | None) -> int:
        """The place within reach, and not after `last_start`, whose sound is most like this one."""
        wanted = self._wanted(self._steps)
        last = wanted + _REACH if last_start is None else max(0, min(wanted + _REACH, last_start))
        first = max(0, min(wanted, last - _REACH) - _REACH)
        around = self._at(first, last + _STEP - first)
        squares = np.concatenate([[0.0], np.cumsum(np.square(around, dtype=np.float64))])
        energy = squares[_STEP:] - squares[:-_STEP]
        if float(np.dot(shape, shape)) < _SILENT or energy.max() < _SILENT:
            return min(wanted, last)
        likeness = np.correlate(around, shape, "valid") / np.sqrt(np.maximum(energy, _SILENT))
        return first + int(np.argmax(likeness))

    def _at(self, position: int, count: int) -> Samples:
        start = position - self._held_from
        return self._held[start : start + count]

    def _forget(self) -> None:
        """Let go of what no later step looks at, be this the end or not."""
        looked_at = min(self._wanted(self._steps), self._received - 2 * _STEP - _REACH) - _REACH
        until = min(self._goes_on_at, looked_at)
        if until > self._held_from:
            self._held = self._held[until - self._held_from :]
            self._held_from = until
