"""transformers' own `generate` on the same model: what it makes in a second, and whether our codes are its.

Codes alone, no sound, of a prompt without a voice: each makes it faster than what the engine is measured by.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from runpod_server.bench.report import Rate
from runpod_server.model.csm import CsmRunner
from runpod_server.model.device import is_out_of_memory
from runpod_server.model.prompt import Prompt, Turn, build_prompt
from runpod_server.model.quantize import Weights
from runpod_server.model.sampling import Sampling
from runpod_server.model.weights import LoadedCsm

_TEMPERATURE, _TOP_K = 0.9, 50
_GAUGED_FRAMES = 2
_FEWEST_FRAMES = 4
_COMPARED_POSITIONS = 512
_PATIENCE = 3.0  # times the time that was meant for it


class ByGenerate:
    """`text` is the prompt of every stream; `weights`: of the engine it is compared with."""

    def __init__(self, loaded: LoadedCsm, text: str, *, weights: Weights) -> None:
        self._loaded, self._weights = loaded, weights
        self._ids = build_prompt([Turn(0, text)], loaded.tokenizer, loaded.shapes).ids

    def rate(self, streams: int, *, most_frames: int, seconds: float) -> Rate:
        """One static batch of so many streams: as many frames as fit into `seconds`, prefill and all."""
        try:
            self._made(streams, _GAUGED_FRAMES)  # caches, allocator, thread pools
            gauged_s, _, _ = self._timed(streams, _GAUGED_FRAMES)
            frames = min(most_frames, int(seconds * _GAUGED_FRAMES / gauged_s))
            if frames < _FEWEST_FRAMES:
                least_s = _FEWEST_FRAMES * gauged_s / _GAUGED_FRAMES
                if least_s > _PATIENCE * seconds:
                    return Rate(streams, why=f"{_FEWEST_FRAMES} frames would take {least_s:.0f} s")
                frames = _FEWEST_FRAMES
            wall_s, cpu_s, frames = self._timed(streams, frames)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return Rate(streams, why="out of memory")
        made = streams * frames
        return Rate(streams, frames, round(made / wall_s, 2), round(made / cpu_s, 2) if cpu_s else None)

    def compare(self, frames: int, *, use_graphs: bool) -> dict[str, bool]:
        """Whether so many frames, greedily decoded, have the very codes, by who is compared with whom.

        Empty: there was no memory for it.
        """
        try:
            return self._compared(frames, use_graphs=use_graphs)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return {}

    def _compared(self, frames: int, *, use_graphs: bool) -> dict[str, bool]:
        theirs = self._made(1, frames, do_sample=False, depth_decoder_do_sample=False)
        eager = self._ours(frames, use_graphs=False)
        frames = min(theirs.shape[1], frames)
        found = {"engine and generate": bool(torch.equal(theirs[:, :frames], eager[:, :frames]))}
        if use_graphs:
            graphed = self._ours(frames, use_graphs=True)
            found["CUDA graphs and eager"] = bool(torch.equal(graphed, eager[:, :frames]))
        return found

    def _ours(self, frames: int, *, use_graphs: bool) -> Tensor:
        """(1, frames, 32)."""
        runner = CsmRunner(
            self._loaded.model,
            slots=1,
            max_positions=_COMPARED_POSITIONS,
            use_graphs=use_graphs,
            weights=self._weights,
        )
        runner.warm()
        runner.begin(0, Sampling(0))
        no_codes = torch.empty(0, runner.shapes.codebooks, dtype=torch.int64)
        runner.prefill(0, runner.embed(Prompt(self._ids, no_codes)))
        return torch.stack([runner.step([0]).codes for _ in range(frames)], dim=1)

    def _timed(self, streams: int, frames: int) -> tuple[float, float, int]:
        """Seconds by the wall's clock and the processor's, and the frames: trained weights may end before."""
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        frames = self._made(streams, frames).cpu().shape[1]
        return time.perf_counter() - wall_s, time.process_time() - cpu_s, frames

    def _made(self, streams: int, frames: int, **sampling: Any) -> Tensor:
        """Codes (B, frames, 32)."""
        if not sampling:
            sampling = {"do_sample": True, "temperature": _TEMPERATURE, "top_k": _TOP_K}
            sampling |= {f"depth_decoder_{name}": value for name, value in sampling.items()}
        ids = self._ids.expand(streams, -1).to(self._loaded.device)
        codes: Tensor = self._loaded.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=frames,
            pad_token_id=self._loaded.model.config.codebook_pad_token_id,
            **sampling,
        )
        return codes
