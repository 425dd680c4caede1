"""The sound of all lines, together no more than a process may hold: of the oldest call it is given up first.

Refuses to know what the sound is of.
"""

from __future__ import annotations

from typing import Protocol

MAX_BYTES = 200_000_000  # 32 kB a second: 104 minutes


class Sounding(Protocol):
    """A line whose sound is kept. See `line.Line`."""

    over: bool

    def forget_audio(self) -> None:
        """Give up its sound for good, and tell the shelf: `forgotten`."""


class Shelf:
    """Where lines tell what they keep."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: dict[Sounding, int] = {}  # by line, in the order they began
        self._bytes = 0

    def grew(self, line: Sounding, by: int) -> None:
        """The line keeps so many bytes more. A line that is over goes before one that is not."""
        self._kept[line] = self._kept.get(line, 0) + by
        self._bytes += by
        while self._bytes > self._max_bytes:
            oldest = next((one for one in self._kept if one.over), next(iter(self._kept)))
            oldest.forget_audio()

    def forgotten(self, line: Sounding) -> None:
        """The line has given up its sound."""
        self._bytes -= self._kept.pop(line, 0)
