"""The model under measurement, and the engine around it as the server runs it, with its steps timed.

The only file of the benchmark, beside the one that calls transformers, that touches torch.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import transformers

from runpod_server.bench.roofline import FrameBytes, frame_bytes
from runpod_server.engine.csm import CsmEngine
from runpod_server.engine.csm_stage import MadeFrame, Pending, Stage
from runpod_server.engine.csm_worker import Rules, Worker
from runpod_server.engine.silence import SilenceRules
from runpod_server.engine.speech_plan import PART_CHARS
from runpod_server.model.quantize import Weights
from runpod_server.model.weights import LoadedCsm
from runpod_server.voices.store import VoiceStore

_NEVER = 10**9
_COPIED_BYTES = {"cpu": 256 * 2**20, "cuda": 512 * 2**20}
_COPIES = 12


@dataclass(frozen=True, slots=True)
class Step:
    """One frame of all streams that were in it."""

    at_ms: float  # when it was on the host, by the monotonic clock
    took_ms: float  # since then, or since the one before it was: steps overlap on a GPU
    streams: int
    positions: int  # that these streams held together


class TimedStage(Stage):
    """A Stage that keeps the time of its steps."""

    def __init__(self, loaded: LoadedCsm, *, slots: int, use_graphs: bool, weights: Weights) -> None:
        super().__init__(loaded, slots=slots, use_graphs=use_graphs, weights=weights)
        self.steps: list[Step] = []
        self._under_way: deque[tuple[float, int, int]] = deque()
        self._last_ms = 0.0

    def step(self, slots: Sequence[int]) -> Pending:
        begun_ms = 1000 * time.monotonic()
        pending = super().step(slots)
        positions = sum(self._runner.positions(slot) for slot in slots)
        self._under_way.append((begun_ms, len(slots), positions))
        return pending

    def collect(self, pending: Pending) -> list[MadeFrame]:
        begun_ms, streams, positions = self._under_way.popleft()
        frames = super().collect(pending)
        now_ms = 1000 * time.monotonic()
        self.steps.append(Step(now_ms, now_ms - max(begun_ms, self._last_ms), streams, positions))
        self._last_ms = now_ms
        return frames


class Subject:
    """A loaded model on its device. `weights`: of its layers, full or in 8 bits, in the engine."""

    def __init__(self, loaded: LoadedCsm, *, cuda_graphs: bool, weights: Weights) -> None:
        self.loaded, self.weights = loaded, weights
        self._on_gpu = loaded.device.type == "cuda"
        self.cuda_graphs = cuda_graphs and self._on_gpu

    @property
    def gpu_uuid(self) -> str | None:
        """The GPU as nvidia-smi knows it; None on a CPU."""
        if not self._on_gpu:
            return None
        return f"GPU-{torch.cuda.get_device_properties(self.loaded.device).uuid}"

    @property
    def device_name(self) -> str | None:
        """The GPU's model; None on a CPU."""
        return torch.cuda.get_device_name(self.loaded.device) if self._on_gpu else None

    @property
    def threads(self) -> int:
        """Of the CPU, that torch uses."""
        return torch.get_num_threads()

    def engine(
        self, streams: int, *, queue: int, references: VoiceStore, forced_frames: int | None
    ) -> tuple[CsmEngine, list[TimedStage]]:
        """ENGINE=csm with so many slots, not loaded yet; the list holds its stage once it is.

        `forced_frames`: nothing ends before its length, and room for so many frames is kept; None: as in
        service.
        """
        stages: list[TimedStage] = []

        def stage() -> Stage:
            made = TimedStage(self.loaded, slots=streams, use_graphs=self.cuda_graphs, weights=self.weights)
            made.warm(references.all())
            made.steps.clear()
            stages.append(made)
            return made

        rules = None if forced_frames is None else _forced(forced_frames)
        engine = CsmEngine(
            "csm",
            lambda hub: Worker(stage, hub, rules=rules),
            model=self.loaded.source,
            device="cuda" if self._on_gpu else "cpu",
            max_streams=streams,
            max_queue=queue,
            references=references,
            part_chars=PART_CHARS,
        )
        return engine, stages

    def frame_bytes(self) -> FrameBytes:
        """What a frame must read, by the model's real shapes and dtype."""
        codec_bytes = sum(weight.nbytes for weight in self.loaded.model.codec_model.decoder.parameters())
        value_bytes = self.loaded.dtype.itemsize
        return frame_bytes(
            self.loaded.shapes,
            value_bytes=value_bytes,
            layer_bytes=value_bytes if self.weights == "full" else 1,
            codec_bytes=codec_bytes,
        )

    def bytes_per_s(self) -> float:
        """The memory's speed: the best of a dozen copies, what is read and what is written counted both."""
        size = _COPIED_BYTES[self.loaded.device.type]
        source = torch.ones(size, dtype=torch.uint8, device=self.loaded.device)
        target = torch.zeros_like(source)
        best_s = min(self._seconds(source, target) for _ in range(_COPIES))
        return 2 * size / best_s

    def _seconds(self, source: torch.Tensor, target: torch.Tensor) -> float:
        self._synchronize()
        start_s = time.perf_counter()
        target.copy_(source)
        self._synchronize()
        return time.perf_counter() - start_s

    def _synchronize(self) -> None:
        if self._on_gpu:
            torch.cuda.synchronize(self.loaded.device)

    def tidy(self) -> None:
        """Give back what the engine before took, and begin to watch the GPU's memory anew."""
        gc.collect()
        if self._on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.loaded.device)

    def gpu_bytes(self) -> tuple[int, int] | None:
        """The most that was allocated, and reserved, since `tidy`; None on a CPU."""
        if not self._on_gpu:
            return None
        device = self.loaded.device
        return torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)


def set_threads(count: int) -> None:
    """How many threads torch uses on a CPU."""
    torch.set_num_threads(count)


def quiet_libraries() -> None:
    """transformers would remark on every `generate`."""
    transformers.logging.set_verbosity_error()


def _forced(frames: int) -> Rules:
    """Neither silence nor the text's length ends anything: random weights may well be silent."""
    silence = SilenceRules(
        quietest=0.0, of_loudest=0.0, sent_at_once=_NEVER, ends_speech=_NEVER, ends_before_speech=_NEVER
    )
    return Rules(silence=silence, frame_limit=lambda text: frames)
