"""What the clients ask for: utterances of forced, scattered lengths, and when. Pure and seeded: no clock."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from runpod_server.engine.speech_plan import FRAME_MS

SHORTEST, LONGEST = 0.5, 1.5  # of the mean length: scattered, so that streams do not march in step
_MS_PER_CHAR = 70  # unhurried English
_PASSAGE = (
    "Thank you for calling. I have found your reservation for Thursday evening, and there is a table by the "
    "window at half past seven. Would you like me to keep it for you, or shall we look at another day? If "
    "your plans change, just call again and we will find something else. "
)


@dataclass(frozen=True, slots=True)
class Utterance:
    """One request. It is cut at `audio_ms`, and with random weights lasts just that long."""

    text: str
    audio_ms: int
    seed: int
    voice: str | None


class Script:
    """Endless utterances, the same in every run.

    `chars_per_token`: how many characters of the text make one token of an ordinary tokenizer; a text for a
    tokenizer of bytes is shorter by as much, so that the prompt is as long as it would be in service.
    """

    def __init__(
        self, mean_ms: int, *, chars_per_token: int = 1, voice: str | None = None, seed: int = 0
    ) -> None:
        self._mean_ms, self._chars_per_token, self._voice = mean_ms, chars_per_token, voice
        self._random = random.Random(seed)

    def next(self) -> Utterance:
        """The next one: whole frames, half the mean length to one and a half of it."""
        wanted_ms = self._mean_ms * self._random.uniform(SHORTEST, LONGEST)
        frames = max(1, round(wanted_ms / FRAME_MS))
        text = text_lasting(frames * FRAME_MS, self._chars_per_token)
        return Utterance(text, frames * FRAME_MS, self._random.getrandbits(63), self._voice)


def text_lasting(audio_ms: int, chars_per_token: int) -> str:
    """A text that would take about so long to say, or, where a character is a token, has as many tokens."""
    chars = max(1, audio_ms // _MS_PER_CHAR // chars_per_token)
    return (_PASSAGE * (chars // len(_PASSAGE) + 1))[:chars]


def longest_frames(mean_ms: int) -> int:
    """The most frames an utterance of a Script of this mean can have."""
    return max(1, round(mean_ms * LONGEST / FRAME_MS))


def poisson_gaps(per_s: float, *, seed: int = 0) -> Iterator[float]:
    """Endless seconds from one caller to the next, of callers who know nothing of each other."""
    source = random.Random(seed)
    while True:
        yield source.expovariate(per_s)
