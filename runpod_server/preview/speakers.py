"""The ten preview speakers, made from one small voice by pitch, vocal-tract length and pace. Numbers only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Speaker:
    """How to turn the plain voice into somebody else.

    `pitch` scales the fundamental, `formant` all resonances (a longer vocal tract is below 1), `pace` the
    speed; `gain` evens out the loudness that the other two change.
    """

    name: str
    description: str
    pitch: float = 1.0
    formant: float = 1.0
    pace: float = 1.0
    gain: float = 1.0


SPEAKERS: tuple[Speaker, ...] = (
    Speaker("heart", "the plain voice, a woman, American English"),
    Speaker("birch", "a man, even", pitch=0.64, formant=0.88, gain=0.5),
    Speaker("robin", "a young woman, lively", pitch=1.14, formant=1.07, pace=1.06, gain=0.87),
    Speaker("flint", "a man, brisk", pitch=0.72, formant=0.92, pace=1.08, gain=0.6),
    Speaker("lark", "a girl, quick", pitch=1.26, formant=1.12, pace=1.06, gain=0.75),
    Speaker("moss", "a man, deep and slow", pitch=0.56, formant=0.86, pace=0.95, gain=0.5),
    Speaker("hazel", "a woman, low and calm", pitch=0.84, formant=0.97, pace=0.96, gain=0.75),
    Speaker("stone", "an older man, unhurried", pitch=0.80, formant=0.89, pace=0.92, gain=0.85),
    Speaker("poppy", "a child", pitch=1.32, formant=1.17, gain=0.75),
    Speaker("willow", "an older woman, slow", pitch=0.93, formant=1.03, pace=0.90, gain=0.87),
)
