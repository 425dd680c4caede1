"""What is to be measured, as the command line said it, checked. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

from runpod_server.errors import BenchError

Load = Literal["flat-out", "steady", "poisson"]
Size = Literal["1b", "middle", "tiny"]
Weights = Literal["random", "real"]

LOADS: tuple[Load, ...] = get_args(Load)
MOST_STREAMS = 1024  # what MAX_STREAMS can be
_MOST_SECONDS = 3600.0
_MOST_UTTERANCE_S = 60.0
_VOICE_S = (3.0, 30.0)  # what a reference recording may last


@dataclass(frozen=True, slots=True)
class Plan:
    """Numbers in range. Raises BenchError with a sentence where one is not."""

    streams: tuple[int, ...] = (1, 2, 4, 8, 16)
    loads: tuple[Load, ...] = LOADS
    seconds: float = 20.0
    utterance_s: float = 4.0
    voice_s: float = 10.0  # 0: prompted bare
    first_audio_ms: float = 400.0
    generate: bool = True
    find_largest: bool = False

    def __post_init__(self) -> None:
        _within("--seconds", self.seconds, 0.1, _MOST_SECONDS)
        _within("--utterance-seconds", self.utterance_s, 0.2, _MOST_UTTERANCE_S)
        _within("--first-audio-ms", self.first_audio_ms, 1, 60_000)
        if self.voice_s:
            _within("--voice-seconds, unless 0,", self.voice_s, *_VOICE_S)
        if self.find_largest and "steady" not in self.loads:
            raise BenchError("--find-largest judges the steady load: have --arrivals contain steady")

    @property
    def utterance_ms(self) -> int:
        """Mean length of what is asked for."""
        return round(1000 * self.utterance_s)


def streams_of(text: str) -> tuple[int, ...]:
    """ "1,2,4" → (1, 2, 4), rising, each once. Raises BenchError."""
    counts = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        if not part.isascii() or not part.isdecimal() or not 1 <= int(part) <= MOST_STREAMS:
            raise BenchError(
                f"--streams {text}: {part!r} is no number of streams; give some from 1 to {MOST_STREAMS}, "
                "such as 1,2,4,8,16"
            )
        counts.append(int(part))
    if not counts:
        raise BenchError("--streams names none: give numbers of streams such as 1,2,4,8,16")
    return tuple(sorted(set(counts)))


def loads_of(text: str) -> tuple[Load, ...]:
    """ "steady,poisson" or "all" → the loads, in the order they are run. Raises BenchError."""
    named = {part.strip() for part in text.split(",") if part.strip()}
    if "all" in named:
        return LOADS
    unknown = sorted(named - set(LOADS))
    if unknown or not named:
        raise BenchError(f"--arrivals {text}: give all, or some of {', '.join(LOADS)}")
    return tuple(load for load in LOADS if load in named)


def size_of(text: str) -> Size:
    """Raises BenchError."""
    if text not in get_args(Size):
        raise BenchError(f"--size {text}: give one of {', '.join(get_args(Size))}")
    return cast(Size, text)


def weights_of(text: str) -> Weights:
    """Raises BenchError."""
    if text not in get_args(Weights):
        raise BenchError(f"--weights {text}: give random, or real for those of CSM_MODEL")
    return cast(Weights, text)


def _within(option: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # a NaN is not either
        raise BenchError(f"{option} must be from {low:g} to {high:g}, not {value:g}")
