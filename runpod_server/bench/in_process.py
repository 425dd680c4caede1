"""Levels measured on an engine in this process, each with slots of its own, and transformers beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from runpod_server.bench import meters
from runpod_server.bench.figures import LoadFigures
from runpod_server.bench.load import Observed, observe
from runpod_server.bench.plan import Load, Plan
from runpod_server.bench.report import Level, Memory, Report
from runpod_server.bench.script import Script, longest_frames, text_lasting
from runpod_server.bench.spread import Spread
from runpod_server.bench.target import EngineTarget
from runpod_server.engine.request import Engine
from runpod_server.engine.speech_plan import FRAME_MS
from runpod_server.errors import EngineUnavailable
from runpod_server.voices.store import VoiceStore

if TYPE_CHECKING:
    from runpod_server.bench.by_generate import ByGenerate
    from runpod_server.bench.run import Tell
    from runpod_server.bench.subject import Subject, TimedStage

_QUEUE = 64  # MAX_QUEUE, as a server has it by default
_CHARS_PER_TOKEN = 4  # of an ordinary tokenizer; one of random weights reads bytes
_COMPARED_FRAMES = 4
_GENERATED_S = 10.0  # for so long transformers is listened to at most, once alone and once in a batch


class InProcess:
    """See run.Levels."""

    def __init__(
        self, plan: Plan, subject: Subject, voices: Callable[[], VoiceStore], report: Report, tell: Tell
    ) -> None:
        self._plan, self._subject, self._voices = plan, subject, voices
        self._report, self._tell = report, tell
        self._is_random = subject.loaded.source == "random"
        self._chars_per_token = _CHARS_PER_TOKEN if self._is_random else 1
        self._by_generate: ByGenerate | None = None

    def prepare(self) -> None:
        subject, report = self._subject, self._report
        report.frame_bytes = subject.frame_bytes()
        if subject.gpu_uuid is None:
            report.note("energy is not readable without an NVIDIA GPU; memory is this process's")
        if self._is_random:
            report.note("weights are random and lengths forced: speed depends on neither")
        if self._plan.generate:
            self._by_generate = self._compared()

    def _compared(self) -> ByGenerate:
        from runpod_server.bench.by_generate import ByGenerate

        text = text_lasting(self._plan.utterance_ms, self._chars_per_token)
        by_generate = ByGenerate(self._subject.loaded, text, weights=self._subject.weights)
        self._tell("comparing greedy codes with those of transformers' generate")
        self._report.same_codes = by_generate.compare(_COMPARED_FRAMES, use_graphs=self._subject.cuda_graphs)
        if not self._report.same_codes:
            self._report.note("greedy codes were not compared: out of memory")
        self._report.note("generate makes codes alone, no sound, and reads no voice; prefill counts for both")
        return by_generate

    def measure(self, level: Level, loads: tuple[Load, ...]) -> None:
        self._subject.tidy()
        self._tell(f"{level.name}: the memory's speed")
        # The best seen: whatever else the machine does can only make it seem slower.
        self._report.bytes_per_s = max(self._report.bytes_per_s or 0.0, self._subject.bytes_per_s())
        try:
            asyncio.run(self._with_engine(level, loads))
        except EngineUnavailable as error:
            level.failure = str(error)
        self._subject.tidy()
        if self._by_generate is not None and "flat-out" in loads and not level.failure:
            self._beside(level, self._by_generate)

    async def _with_engine(self, level: Level, loads: tuple[Load, ...]) -> None:
        forced = longest_frames(self._plan.utterance_ms) if self._is_random else None
        voices = self._voices()  # its own: an engine stays known to its store
        engine, stages = self._subject.engine(
            level.streams, queue=_QUEUE, references=voices, forced_frames=forced
        )
        self._tell(f"{level.name}: the engine warms up")
        try:
            await engine.load()
            async with meters.reading_gpu(self._subject.gpu_uuid) as readings:
                for load in loads:
                    await self._one_load(level, load, engine, stages[0], readings)
                    if level.failure:
                        break
            level.memory = self._memory(readings.most_mib())
        finally:
            await engine.close()

    async def _one_load(
        self, level: Level, load: Load, engine: Engine, stage: TimedStage, readings: meters.GpuReadings
    ) -> None:
        plan = self._plan
        voice = next((voice.name for voice in engine.references.all()), None)
        script = Script(plan.utterance_ms, chars_per_token=self._chars_per_token, voice=voice)
        self._tell(f"{level.name}, {load}: {plan.seconds:g} s, after the load has set in")
        observed = await observe(
            EngineTarget(engine), load, level.streams, script,
            mean_ms=plan.utterance_ms, seconds=plan.seconds,
        )  # fmt: skip
        on_cpu = self._subject.gpu_uuid is None
        figures = LoadFigures.of(observed, plays=load != "flat-out", in_process=on_cpu)
        level.loads[load] = figures
        if load == "flat-out":
            self._of_the_machine(level, observed, stage, readings)
        if "out_of_memory" in figures.declined:
            level.failure = figures.why_declined
        elif figures.declined and load != "poisson":
            self._report.note(f"{level.name}, {load}: {figures.why_declined}")
        if figures.ended_early and self._is_random:
            self._report.note(f"{level.name}, {load}: {figures.ended_early} utterances ended early")

    def _of_the_machine(
        self, level: Level, observed: Observed, stage: TimedStage, readings: meters.GpuReadings
    ) -> None:
        """Its steps, and the energy of a second of sound."""
        steps = [step for step in stage.steps if observed.start_ms <= step.at_ms < observed.end_ms]
        count = max(1, len(steps))
        level.steps = self._report.steps_of(
            Spread.of(step.took_ms for step in steps),
            streams=sum(step.streams for step in steps) / count,
            positions=sum(step.positions for step in steps) / count,
        )
        watts = readings.mean_watts(observed.start_ms, observed.end_ms)
        audio_s = level.loads["flat-out"].audio_s
        if watts is not None and audio_s:
            level.joules_per_audio_s = round(watts * observed.seconds / audio_s, 3)

    def _memory(self, used_mib: float | None) -> Memory:
        allocated, reserved = self._subject.gpu_bytes() or (None, None)
        used = None if used_mib is None else round(used_mib * 2**20)
        return Memory(meters.resident_bytes(), allocated, reserved, used)

    def _beside(self, level: Level, by_generate: ByGenerate) -> None:
        """transformers right after us, so that both meet with the same of whatever else the machine does."""
        seconds = min(self._plan.seconds, _GENERATED_S)
        frames = max(1, self._plan.utterance_ms // FRAME_MS)
        self._tell(f"{level.name}: transformers' generate beside it")
        level.generate_single = by_generate.rate(1, most_frames=frames, seconds=seconds)
        level.generate_batch = level.generate_single
        if level.streams > 1:
            level.generate_batch = by_generate.rate(level.streams, most_frames=frames, seconds=seconds)
        for rate in (level.generate_single, level.generate_batch):
            if rate.why:
                self._report.note(f"generate of {rate.streams} at once was not measured: {rate.why}")
