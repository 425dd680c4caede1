"""What was measured, level by level, as it grows; and as JSON. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from runpod_server.bench.figures import LoadFigures
from runpod_server.bench.plan import Load
from runpod_server.bench.roofline import FrameBytes, least_ms
from runpod_server.bench.spread import Spread


@dataclass(frozen=True, slots=True)
class Rate:
    """What transformers makes of one static batch. `why`: why there is no figure."""

    streams: int
    frames: int = 0  # of each stream
    frames_per_s: float | None = None  # in aggregate
    cpu_frames_per_s: float | None = None  # per second of processor time
    why: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """In bytes, None where it is not told. The process's and torch's own, and the whole GPU's."""

    resident: int | None
    gpu_allocated: int | None
    gpu_reserved: int | None
    gpu_used: int | None

    @property
    def shown(self) -> int | None:
        """The one to show: the GPU's where there is one."""
        if self.gpu_reserved is not None:
            return self.gpu_used or self.gpu_reserved
        return self.resident


@dataclass(frozen=True, slots=True)
class StepFigures:
    """Of the steps flat out. A step moves on the streams that are not just reading a new prompt."""

    ms: Spread
    streams: float  # that were in a step on average
    positions: float  # that these held together
    least_ms: float | None  # by the memory's speed
    roofline: float | None  # least_ms over the median


@dataclass(slots=True)
class Level:
    """One number of streams."""

    streams: int
    loads: dict[Load, LoadFigures] = field(default_factory=dict)
    steps: StepFigures | None = None
    memory: Memory | None = None
    joules_per_audio_s: float | None = None
    generate_single: Rate | None = None
    generate_batch: Rate | None = None
    load_average: float | None = None  # of the machine, after it: what else it was busy with
    failure: str = ""

    @property
    def name(self) -> str:
        """As sentences have it."""
        return f"{self.streams} stream{'s' * (self.streams != 1)}"

    @property
    def frames_per_s(self) -> float | None:
        """In aggregate, flat out."""
        flat_out = self.loads.get("flat-out")
        return flat_out.frames_per_s if flat_out else None

    def speedup(self, over: Rate | None) -> float | None:
        """How many times the frames a second of that."""
        if self.frames_per_s is None or over is None or not over.frames_per_s:
            return None
        return round(self.frames_per_s / over.frames_per_s, 2)

    def cpu_speedup(self, over: Rate | None) -> float | None:
        """The same by processor time, which other programs disturb less; None off a CPU."""
        flat_out = self.loads.get("flat-out")
        if flat_out is None or not flat_out.cpu_frames_per_s or over is None or not over.cpu_frames_per_s:
            return None
        return round(flat_out.cpu_frames_per_s / over.cpu_frames_per_s, 2)

    def holds(self, first_audio_ms: float) -> bool | None:
        """In real time: see LoadFigures.holds. None: it cannot be told, for nobody asked for anything."""
        steady = self.loads.get("steady")
        return False if steady is None or self.failure else steady.holds(first_audio_ms)


@dataclass(slots=True)
class Report:
    """Everything. Grows while it is measured: whatever happens, what is there can be shown."""

    machine: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    frame_bytes: FrameBytes | None = None
    bytes_per_s: float | None = None
    same_codes: dict[str, bool] = field(default_factory=dict)
    levels: list[Level] = field(default_factory=list)
    first_audio_limit_ms: float = 0.0
    largest: int | None = None  # None: not looked for
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False
    failure: str = ""  # why it ended before its end

    @property
    def is_worth_keeping(self) -> bool:
        """Whether anything was measured, if only that a number of streams does not fit."""
        return any(level.loads or level.failure for level in self.levels)

    def note(self, sentence: str) -> None:
        """Something whoever reads the figures must know; once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def steps_of(self, spread: Spread | None, *, streams: float, positions: float) -> StepFigures | None:
        """With the roofline, where the memory's speed was measured."""
        if spread is None:
            return None
        if self.frame_bytes is None or self.bytes_per_s is None:
            return StepFigures(spread, round(streams, 2), round(positions, 1), None, None)
        least = least_ms(self.frame_bytes.of(positions), self.bytes_per_s)
        fraction = round(least / spread.p50, 4)
        return StepFigures(spread, round(streams, 2), round(positions, 1), round(least, 4), fraction)

    def as_json(self) -> str:
        """One line."""
        told = {
            "benchmark": "sesame-server bench",
            **{name: value for name, value in asdict(self).items() if name != "levels"},
            "levels": [_level(level, self.first_audio_limit_ms) for level in self.levels],
        }
        return orjson.dumps(told).decode()


def _level(level: Level, first_audio_ms: float) -> dict[str, Any]:
    holds = level.holds(first_audio_ms) if "steady" in level.loads else None
    derived = {
        "frames_per_s": level.frames_per_s,
        "holds": holds,
        "speedup_over_generate": level.speedup(level.generate_single),
        "speedup_over_generate_batch": level.speedup(level.generate_batch),
        "speedup_over_generate_by_cpu_time": level.cpu_speedup(level.generate_single),
    }
    return {**asdict(level), **derived}
