"""Figures of one load from what its callers heard. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Self

from runpod_server.bench.load import Listening, Observed
from runpod_server.bench.spread import Spread
from runpod_server.engine.speech_plan import FRAME_MS


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """What the callers of one load met with. Times in milliseconds."""

    asked: int  # utterances asked for in the window
    first_audio_ms: Spread | None  # of those; who was still waiting counts with the time waited so far
    waiting: int  # of those, how many had heard nothing in the end
    declined: dict[str, int]  # by the code of the answer
    why_declined: str  # the first such answer's sentence
    ended_early: int  # utterances shorter than asked for, though whole
    real_time_factor: Spread | None  # per utterance: time per time of sound after the first chunk
    underruns: int
    torn: int  # utterances with an underrun
    utterances: int  # all that were listened to in the window
    longest_gap_ms: float
    frames_per_s: float
    audio_s: float  # sound that came in the window
    listening: float | None  # callers who waited or listened, on average; None: they do not play
    cpu_frames_per_s: float | None  # per second of this process's processor time

    def holds(self, first_audio_ms: float) -> bool | None:
        """No gap, nobody declined, and the 95th percentile of the first sound within the limit; None: nothing
        was asked for meanwhile, and nothing speaks against it."""
        if self.underruns or self.declined or self.waiting:
            return False
        return None if self.first_audio_ms is None else self.first_audio_ms.p95 <= first_audio_ms

    @classmethod
    def of(cls, observed: Observed, *, plays: bool, in_process: bool) -> Self:
        """`plays`: the callers listen in real time; `in_process`: the engine's processor time is ours."""
        start_ms, end_ms = observed.start_ms, observed.end_ms
        present = [each for each in observed.listenings if _is_present(each, start_ms, end_ms)]
        asked = [each for each in present if start_ms <= each.playout.asked_ms < end_ms]
        declined = [each for each in asked if each.declined]
        answered = [each for each in asked if not each.declined]
        waited_ms = [_waited_ms(each, end_ms) for each in answered]
        audio_ms = sum(ms for at_ms, ms in observed.chunks if start_ms <= at_ms < end_ms)
        factors = [each.playout.real_time_factor for each in present]
        frames = audio_ms / FRAME_MS
        listening = sum(_overlap_ms(each, observed) for each in present) / (end_ms - start_ms)
        return cls(
            asked=len(asked),
            first_audio_ms=Spread.of(waited_ms),
            waiting=sum(each.playout.first_ms is None for each in answered),
            declined=dict(Counter(each.declined for each in declined)),
            why_declined=declined[0].why if declined else "",
            ended_early=sum(each.is_over and each.playout.audio_ms < each.wanted_ms for each in present),
            real_time_factor=Spread.of(factor for factor in factors if factor is not None),
            underruns=sum(each.playout.underruns for each in present),
            torn=sum(each.playout.underruns > 0 for each in present),
            utterances=len(present),
            longest_gap_ms=round(max((each.playout.longest_gap_ms for each in present), default=0.0), 1),
            frames_per_s=round(frames / observed.seconds, 2),
            audio_s=round(audio_ms / 1000, 2),
            listening=round(listening, 2) if plays else None,
            cpu_frames_per_s=round(frames / observed.cpu_s, 2) if in_process and observed.cpu_s else None,
        )


def _is_present(each: Listening, start_ms: float, end_ms: float) -> bool:
    return each.playout.asked_ms < end_ms and _leaves_ms(each, end_ms) >= start_ms


def _leaves_ms(each: Listening, end_ms: float) -> float:
    """When its caller has played all, or has given up; not known to be over: the end."""
    is_done = each.is_over or each.declined
    return each.playout.ends_ms if is_done else max(each.playout.ends_ms, end_ms)


def _overlap_ms(each: Listening, observed: Observed) -> float:
    left_ms = min(_leaves_ms(each, observed.end_ms), observed.end_ms)
    return max(0.0, left_ms - max(each.playout.asked_ms, observed.start_ms))


def _waited_ms(each: Listening, end_ms: float) -> float:
    first_ms = each.playout.first_audio_ms
    return end_ms - each.playout.asked_ms if first_ms is None else first_ms
