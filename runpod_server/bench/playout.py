"""A listener who plays in real time from the first sound on, and hears a gap where none is left.

Pure: time is passed in, in milliseconds of any clock.
"""

from __future__ import annotations


class Playout:
    """One utterance at its listener. It starts to play at its first chunk and holds nothing back."""

    def __init__(self, asked_ms: float) -> None:
        self.asked_ms = asked_ms
        self.first_ms: float | None = None
        self.last_ms = asked_ms  # when the newest chunk came
        self.audio_ms = 0.0
        self.first_chunk_ms = 0.0  # how much sound the first chunk was
        self.underruns = 0
        self.longest_gap_ms = 0.0
        self._silent_from_ms = 0.0

    @property
    def first_audio_ms(self) -> float | None:
        """From asking to the first sound; None: none has come."""
        return None if self.first_ms is None else self.first_ms - self.asked_ms

    @property
    def ends_ms(self) -> float:
        """When all sound that has come will have been played."""
        return self.asked_ms if self.first_ms is None else self._silent_from_ms

    @property
    def real_time_factor(self) -> float | None:
        """Time per time of sound, from the first chunk to the newest; None: only one has come."""
        after_first_ms = self.audio_ms - self.first_chunk_ms
        if self.first_ms is None or after_first_ms <= 0:
            return None
        return (self.last_ms - self.first_ms) / after_first_ms

    def hear(self, audio_ms: float, now_ms: float) -> None:
        """So much sound has come."""
        if self.first_ms is None:
            self.first_ms = self._silent_from_ms = now_ms
            self.first_chunk_ms = audio_ms
        elif now_ms > self._silent_from_ms:
            self.underruns += 1
            self.longest_gap_ms = max(self.longest_gap_ms, now_ms - self._silent_from_ms)
            self._silent_from_ms = now_ms
        self._silent_from_ms += audio_ms
        self.audio_ms += audio_ms
        self.last_ms = now_ms
