"""Key presses reach us twice, by the media socket and by webhook, each possibly late: count each once."""

from __future__ import annotations

from collections import Counter
from typing import Literal

Source = Literal["media", "webhook"]


class DtmfMerger:
    """The n-th key from either source is the caller's n-th key; the second report of it is dropped."""

    def __init__(self) -> None:
        self._seen: Counter[Source] = Counter()
        self._accepted = 0

    def accept(self, source: Source) -> bool:
        """Whether this report is the first of its key press."""
        self._seen[source] += 1
        if self._seen[source] <= self._accepted:
            return False
        self._accepted = self._seen[source]
        return True
