"""Is that sound only our own voice coming back? By its loudness against what is played, and by its words.

Pure. A telephone in hands-free mode returns us 20 to 30 dB softer and up to half a second later: that must
not interrupt us, nor count as a caller's words.
"""

from __future__ import annotations

import audioop
import math
from collections import deque
from difflib import SequenceMatcher

from backend.core.said import tokens

SILENCE_DBFS = -96.0
LATEST_MS = 600.0  # an echo comes back within this: the carrier's buffers both ways and the room
_KEPT_MS = 4_000.0
_STEP_MS = 20
_WINDOW_MS = 32.0
_AUDIBLE_DBFS = -50.0  # what is played softer than this has no echo worth the name

_ASSUMED_DB = -23.0  # the echo's loudness against ours, until heard
_LOUDEST_DB, _SOFTEST_DB = -9.0, -60.0
_MARGIN_DB = 6.0
_LEARNT_MS = 1_500.0  # of our voice on the line: so much tells what comes back
_REMEMBERED_MS = 4_000.0
_NEARLY_ALL = 0.95
_TOLD_WINDOWS = 12  # what its words told counts as so many
_PLAINLY_SOFTER_DB = -5.0

_LEAST_WORDS = 3
_SAME = 0.7  # of the words heard
_LOOK_BACK_WORDS = 80


def dbfs(rms: float) -> float:
    """Of int16 samples' root mean square."""
    return 20 * math.log10(rms / 32768) if rms > 0 else SILENCE_DBFS


class PlayedLoudness:
    """How loud what we play is, and when it is played."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, float]] = deque()  # begins at, dBFS; 20 ms each, in order

    def played(self, pcm16_8k: bytes, at_ms: float) -> None:
        """This is played from `at_ms` on, after all that was told before."""
        size = _STEP_MS * 16
        for number, at in enumerate(range(0, len(pcm16_8k), size)):
            level = dbfs(audioop.rms(pcm16_8k[at : at + size], 2))
            self._steps.append((at_ms + number * _STEP_MS, level))
        while self._steps and self._steps[0][0] < at_ms - _KEPT_MS:
            self._steps.popleft()

    def cut(self, now_ms: float) -> None:
        """What was to be played from now on is not."""
        while self._steps and self._steps[-1][0] >= now_ms:
            self._steps.pop()

    def loudest_dbfs(self, from_ms: float, until_ms: float) -> float:
        """The loudest 20 ms played in that time; −96 when nothing was."""
        levels = (level for at_ms, level in self._steps if from_ms - _STEP_MS < at_ms < until_ms)
        return max(levels, default=SILENCE_DBFS)


class EchoGuard:
    """One line's echo. Feed each window of inbound sound with what may come back in it."""

    def __init__(self) -> None:
        self._echoes: deque[tuple[float, float]] = deque()  # lately explained: ratio in dB, ms
        self._ratios_db: list[float] = []  # of the sounds since `new_turn` that no echo known so far explains

    def explains(self, inbound_dbfs: float, played_dbfs: float, window_ms: float) -> bool:
        """Whether this window may well be nothing but echo. `played_dbfs`: the loudest of the last 600 ms."""
        if played_dbfs < _AUDIBLE_DBFS:
            return False
        ratio_db = inbound_dbfs - played_dbfs
        if ratio_db > self._coupling_db + _MARGIN_DB:
            self._ratios_db.append(ratio_db)
            return False
        self._echoes.append((ratio_db, window_ms))
        while self._observed_ms > _REMEMBERED_MS:
            self._echoes.popleft()
        return True

    @property
    def _observed_ms(self) -> float:
        return sum(ms for _, ms in self._echoes)

    @property
    def _coupling_db(self) -> float:
        """How much of us comes back, at its loudest."""
        ratios_db = sorted(ratio_db for ratio_db, _ in self._echoes)
        # Not the very loudest: a caller's soft onset would raise it step by step.
        loudest_db = ratios_db[int(_NEARLY_ALL * len(ratios_db))] if ratios_db else _ASSUMED_DB
        if self._observed_ms < _LEARNT_MS:
            loudest_db = max(loudest_db, _ASSUMED_DB)
        return min(_LOUDEST_DB, max(_SOFTEST_DB, loudest_db))

    def new_turn(self) -> None:
        """What comes now is another sound."""
        self._ratios_db.clear()

    @property
    def doubtful(self) -> bool:
        """Whether the sounds since `new_turn` were plainly softer than what we played meanwhile."""
        return bool(self._ratios_db) and max(self._ratios_db) < _PLAINLY_SOFTER_DB

    def was_echo(self) -> None:
        """Its words told: it was. The line returns more than we thought."""
        if self._ratios_db:
            self._echoes.extend([(max(self._ratios_db), _WINDOW_MS)] * _TOLD_WINDOWS)
        self._ratios_db.clear()


def are_our_words(heard: str, said: str) -> bool:
    """Whether what was heard is a stretch of what we have just said; a recogniser mishears some of it."""
    heard_words, said_words = tokens(heard), tokens(said)[-_LOOK_BACK_WORDS:]
    if len(heard_words) < _LEAST_WORDS or not said_words:
        return False
    blocks = [
        block
        for block in SequenceMatcher(None, heard_words, said_words, autojunk=False).get_matching_blocks()
        if block.size
    ]
    same = sum(block.size for block in blocks)
    if same < _SAME * len(heard_words):
        return False
    span = blocks[-1].b + blocks[-1].size - blocks[0].b
    return span <= 2 * len(heard_words)
