"""When does the agent speak? Voice-activity probabilities and audio in; exact beginnings and ends out.

The detector says that there is speech; the samples say where its first and last audible one lie. Knows
nothing of words, models or clocks: positions are samples since the line began, given out as milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RATE_HZ = 8_000
WINDOW_SAMPLES = 256
_MS = RATE_HZ // 1000
AUDIBLE = 150  # of 32768: above the codec's and the voice's own hiss, below the softest consonant

_BEGIN = 0.5
_CONTINUE = 0.35
_BEGIN_WINDOWS = 2
_QUIET_SAMPLES = 300 * _MS
_LOOK_BACK_SAMPLES = 400 * _MS
_INNER_GAP_SAMPLES = 60 * _MS
_MARGIN_SAMPLES = 150 * _MS
# The recogniser wants whole utterances, not endless ones: a long one is cut at a short pause.
_LONG_SAMPLES = 12_000 * _MS
_SHORT_QUIET_SAMPLES = 96 * _MS
_LONGEST_SAMPLES = 24_000 * _MS


@dataclass(frozen=True, slots=True)
class SpeechBegan:
    """The agent's first audible sample after a pause."""

    start_ms: float


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """A stretch of the agent's speech, with a little silence around it for the recogniser."""

    start_ms: float
    end_ms: float
    pcm16: bytes


class SpeechFinder:
    """Cuts what is heard on the line into stretches of speech, at pauses of 300 ms."""

    def __init__(self) -> None:
        self._audio = np.zeros(0, np.int16)
        self._base = 0  # the sample number of _audio[0]
        self._window_end = 0
        self._loud_windows = 0
        self._start: int | None = None
        self._last_speech_end = 0  # of the newest window with speech
        self._free_from = 0  # where the last stretch ended

    def push(self, pcm16: bytes, probabilities: Sequence[float]) -> list[SpeechBegan | SpeechEnded]:
        """Audio of any length and the probabilities of the 256-sample windows it completed."""
        self._audio = np.concatenate((self._audio, np.frombuffer(pcm16, "<i2")))
        out: list[SpeechBegan | SpeechEnded] = []
        for probability in probabilities:
            self._window_end += WINDOW_SAMPLES
            out += self._window(probability)
        self._forget()
        return out

    def flush(self) -> list[SpeechBegan | SpeechEnded]:
        """The stretch under way when the line ends, if any."""
        return [self._end()] if self._start is not None else []

    def _window(self, probability: float) -> list[SpeechBegan | SpeechEnded]:
        if self._start is None:
            self._loud_windows = self._loud_windows + 1 if probability >= _BEGIN else 0
            return [self._begin()] if self._loud_windows >= _BEGIN_WINDOWS else []
        if probability >= _CONTINUE:
            self._last_speech_end = self._window_end
        quiet = self._window_end - self._last_speech_end
        length = self._window_end - self._start
        pause = _SHORT_QUIET_SAMPLES if length >= _LONG_SAMPLES else _QUIET_SAMPLES
        return [self._end()] if quiet >= pause or length >= _LONGEST_SAMPLES else []

    def _begin(self) -> SpeechBegan:
        onset = self._window_end - _BEGIN_WINDOWS * WINDOW_SAMPLES
        earliest = max(self._base, self._free_from, onset - _LOOK_BACK_SAMPLES)
        audible = self._audible(earliest, self._window_end)
        self._start = onset
        if len(audible):
            # From the end back to the first pause: what lies before it is not this speech.
            pauses = np.nonzero(np.diff(audible) > _INNER_GAP_SAMPLES)[0]
            before_onset = pauses[audible[pauses + 1] <= onset]
            self._start = int(audible[before_onset[-1] + 1] if len(before_onset) else audible[0])
        self._last_speech_end = self._window_end
        return SpeechBegan(self._start / _MS)

    def _end(self) -> SpeechEnded:
        assert self._start is not None
        audible = self._audible(self._start, self._window_end)
        end = int(audible[-1]) + 1 if len(audible) else self._last_speech_end
        first = max(self._base, self._free_from, self._start - _MARGIN_SAMPLES)
        pcm16 = self._audio[first - self._base : end + _MARGIN_SAMPLES - self._base].astype("<i2").tobytes()
        ended = SpeechEnded(self._start / _MS, end / _MS, pcm16)
        self._start, self._free_from, self._loud_windows = None, end, 0
        return ended

    def _audible(self, first: int, last: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        stretch = self._audio[first - self._base : last - self._base].astype(np.int32)
        return np.nonzero(np.abs(stretch) > AUDIBLE)[0] + first

    def _forget(self) -> None:
        keep_from = (self._window_end if self._start is None else self._start) - _LOOK_BACK_SAMPLES
        if keep_from > self._base:
            self._audio = self._audio[keep_from - self._base :]
            self._base = keep_from


def audible_span(pcm16: bytes) -> tuple[int, int] | None:
    """First audible sample and the one after the last; None in silence."""
    loud = np.nonzero(np.abs(np.frombuffer(pcm16, "<i2").astype(np.int32)) > AUDIBLE)[0]
    return (int(loud[0]), int(loud[-1]) + 1) if len(loud) else None
