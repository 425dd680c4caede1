"""Did the person hear the words they were waiting for? Lenient, as ears are. No audio, no time."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

from backend.simulator.spoken import spoken_words

_ALIKE = 0.75
_ALIKE_SINGLE_WORD = 0.8  # "name" and "same" are 0.75 alike


def hears_any(phrases: Iterable[str], heard: str) -> bool:
    """Whether any of the phrases stands in the heard text, allowing for words misheard."""
    heard_words = spoken_words(heard)
    return any(_hears(spoken_words(phrase), heard_words) for phrase in phrases)


def _hears(wanted: list[str], heard: list[str]) -> bool:
    if not wanted:
        return False
    target = " ".join(wanted)
    limit = _ALIKE if len(wanted) > 1 else _ALIKE_SINGLE_WORD
    for length in {max(1, len(wanted) - 1), len(wanted), len(wanted) + 1}:
        for at in range(max(1, len(heard) - length + 1)):
            if SequenceMatcher(None, target, " ".join(heard[at : at + length])).ratio() >= limit:
                return True
    return False
