"""Word error rate between what was said and what was heard, and where the two differ.

Spelling is not hearing: case, punctuation, digits against number words, contractions, compounds
("voicemail", "voice mail") and homophones ("to", "two") count as equal. Knows nothing of audio or calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backend.simulator.spoken import spoken_words

Op = Literal["same", "replaced", "missed", "added"]


@dataclass(frozen=True, slots=True)
class WordPair:
    """One step of the alignment; `said` or `heard` is "" when the other side has nothing to match."""

    op: Op
    said: str
    heard: str


@dataclass(frozen=True, slots=True)
class WordErrors:
    """The alignment of one text as said with the same text as heard."""

    alignment: tuple[WordPair, ...]
    said_words: int

    @property
    def errors(self) -> int:
        """Replaced, missed and added words."""
        return sum(pair.op != "same" for pair in self.alignment)

    @property
    def rate(self) -> float:
        """Errors per word said; 1.0 when nothing was said and something was heard."""
        if not self.said_words:
            return 1.0 if self.alignment else 0.0
        return self.errors / self.said_words

    def differences(self) -> str:
        """Only what went wrong, one word of context on either side: `at [two→to] pm … [-thank] you`."""
        shown = [
            any(pair.op != "same" for pair in self.alignment[max(0, at - 1) : at + 2])
            for at in range(len(self.alignment))
        ]
        words: list[str] = []
        for pair, show in zip(self.alignment, shown, strict=True):
            if show:
                words.append(_render(pair))
            elif words and words[-1] != "…":
                words.append("…")
        return " ".join(words).removesuffix(" …")


def word_errors(said: str, heard: str) -> WordErrors:
    """Align `heard` with `said` so that the fewest words differ (Levenshtein over spoken words)."""
    reference, hypothesis = spoken_words(said), spoken_words(heard)
    return WordErrors(_align(reference, hypothesis), len(reference))


def _render(pair: WordPair) -> str:
    match pair.op:
        case "same":
            return pair.said
        case "replaced":
            return f"[{pair.said}→{pair.heard}]"
        case "missed":
            return f"[-{pair.said}]"
        case "added":
            return f"[+{pair.heard}]"


_SOUNDS_LIKE = {
    "to": "2", "too": "2", "for": "4", "ate": "8", "won": "1", "by": "bye", "buy": "bye", "their": "there",
    "know": "no", "write": "right", "here": "hear", "hour": "our", "hi": "high", "week": "weak",
    "meet": "meat", "wait": "weight", "knew": "new", "son": "sun", "see": "sea",
}  # fmt: skip


def _alike(said: list[str], heard: list[str]) -> bool:
    """Whether they sound the same, written in one word or two: "tomorrow" and "to morrow", "to" and "two"."""
    return "".join(said) == "".join(heard) or _sound(said) == _sound(heard)


def _sound(words: list[str]) -> str:
    return "".join(_SOUNDS_LIKE.get(word, word) for word in words)


# Cost, and how many words of each side the step consumes.
_STEPS: tuple[tuple[Op, int, int], ...] = (
    ("same", 1, 1),
    ("same", 2, 1),
    ("same", 1, 2),
    ("replaced", 1, 1),
    ("missed", 1, 0),
    ("added", 0, 1),
)


def _align(said: list[str], heard: list[str]) -> tuple[WordPair, ...]:
    rows, columns = len(said) + 1, len(heard) + 1
    cost = [[rows + columns] * columns for _ in range(rows)]
    step: list[list[tuple[Op, int, int]]] = [[_STEPS[0]] * columns for _ in range(rows)]
    cost[0][0] = 0
    for i in range(rows):
        for j in range(columns):
            for op, from_said, from_heard in _STEPS:
                if from_said > i or from_heard > j:
                    continue
                if op == "same" and not _alike(said[i - from_said : i], heard[j - from_heard : j]):
                    continue
                total = cost[i - from_said][j - from_heard] + (op != "same")
                if total < cost[i][j]:
                    cost[i][j], step[i][j] = total, (op, from_said, from_heard)
    return _walk_back(said, heard, step)


def _walk_back(
    said: list[str], heard: list[str], step: list[list[tuple[Op, int, int]]]
) -> tuple[WordPair, ...]:
    pairs: list[WordPair] = []
    i, j = len(said), len(heard)
    while i or j:
        op, from_said, from_heard = step[i][j]
        pairs.append(WordPair(op, " ".join(said[i - from_said : i]), " ".join(heard[j - from_heard : j])))
        i, j = i - from_said, j - from_heard
    return tuple(reversed(pairs))
