"""Frames a second of the batched CSM runner alone beside transformers' own generate: one run, one thread.

`sesame-server bench` measures the engine around it, with its sound and its listeners.

Random weights: speed does not depend on them. Both sample with temperature 0.9 and top-k 50, and before
anything is timed both must give the same greedy codes. A round times every contender once, prefill and all;
the median counts. On a CPU the same is told by processor time too, which other programs disturb less.

    python benchmarks/csm_engine.py                      # the middle size, 16 streams, CPU, float32
    python benchmarks/csm_engine.py --size 1b --device cuda --dtype bfloat16 --streams 64

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))

from runpod_server.bench.sizes import middle_config  # noqa: E402
from runpod_server.model.csm import CsmRunner  # noqa: E402
from runpod_server.model.prompt import Prompt  # noqa: E402
from runpod_server.model.sampling import Sampling  # noqa: E402
from runpod_server.model.weights import LoadedCsm, csm_1b_config, random_csm  # noqa: E402

PROMPT_TOKENS = 24
FRAME_S = 0.08
CHECKED_FRAMES = 3


def prompts(streams: int) -> Tensor:
    """(streams, PROMPT_TOKENS) text ids."""
    return torch.randint(0, 1000, (streams, PROMPT_TOKENS), generator=torch.Generator().manual_seed(0))


def generate(csm: LoadedCsm, ids: Tensor, frames: int, *, greedy: bool = False) -> Tensor:
    """transformers' way: ids (B, n) → (B, frames, 32)."""
    sampling: dict[str, Any] = {"do_sample": not greedy}
    if not greedy:
        sampling |= {"temperature": 0.9, "top_k": 50}
    depth = {f"depth_decoder_{name}": value for name, value in sampling.items()}
    codes: Tensor = csm.model.generate(ids.to(csm.device), max_new_tokens=frames, **sampling, **depth)
    return codes


def run_streams(runner: CsmRunner, ids: Tensor, frames: int, *, greedy: bool = False) -> Tensor:
    """Our way, prefill and all: ids (B, n) → (B, frames, 32)."""
    slots = list(range(ids.shape[0]))
    no_codes = torch.empty(0, runner.shapes.codebooks, dtype=torch.int64)
    for slot in slots:
        runner.reset(slot)
        runner.begin(slot, Sampling(0) if greedy else Sampling(0.9, 50, seed=slot))
        runner.prefill(slot, runner.embed(Prompt(ids[slot], no_codes)))
    return torch.stack([runner.step(slots).codes for _ in range(frames)], dim=1)


def seconds(work: Callable[[], Tensor]) -> tuple[float, float]:
    """How long `work` takes until its result is on the host: by the wall's clock and by the processor's."""
    wall, cpu = time.perf_counter(), time.process_time()
    work().cpu()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(csm: LoadedCsm, streams: int, frames: int, rounds: int) -> dict[str, Any]:
    """Frames a second in aggregate of each contender, median of the rounds."""
    runner = CsmRunner(csm.model, slots=streams)
    runner.warm()
    ids = prompts(streams)
    theirs = generate(csm, ids[:1], CHECKED_FRAMES, greedy=True)
    ours = run_streams(runner, ids[:1], CHECKED_FRAMES, greedy=True)
    same = bool(torch.equal(theirs, ours))
    contenders: dict[str, tuple[int, Callable[[], Tensor]]] = {
        "generate, 1 stream": (1, lambda: generate(csm, ids[:1], frames)),
        f"generate, batch of {streams}": (streams, lambda: generate(csm, ids, frames)),
        "runner, 1 stream": (1, lambda: run_streams(runner, ids[:1], frames)),
        f"runner, {streams} streams": (streams, lambda: run_streams(runner, ids, frames)),
    }
    for _, work in contenders.values():
        work()  # caches, allocator, thread pools
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, (count, work) in contenders.items():
            wall_s, cpu_s = seconds(work)
            wall[name].append(count * frames / wall_s)
            cpu[name].append(count * frames / cpu_s)
    rounded = {name: [round(rate, 2) for rate in rates] for name, rates in wall.items()}
    found = {"same_greedy_codes": same, **summary(list(wall.values())), "rates": rounded}
    if csm.device.type == "cpu":
        found["by_cpu_time"] = summary(list(cpu.values()))
    return found


def summary(rates: list[list[float]]) -> dict[str, float]:
    """Medians and ratios, from the rounds of the four contenders in their order."""
    single, batch, one, many = (statistics.median(rounds) for rounds in rates)
    return {
        "generate_1_frames_per_s": round(single, 2),
        "generate_batch_frames_per_s": round(batch, 2),
        "runner_1_frames_per_s": round(one, 2),
        "runner_frames_per_s": round(many, 2),
        "speedup_over_generate": round(many / single, 2),
        "speedup_over_generate_batch": round(many / batch, 2),
        "speedup_1_stream": round(one / single, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=["middle", "1b"], default="middle")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(given.threads)
    config = csm_1b_config() if given.size == "1b" else middle_config()
    csm = random_csm(config, device=given.device, dtype=getattr(torch, given.dtype))
    found = measure(csm, given.streams, given.frames, given.rounds)
    for name, rates in found["rates"].items():
        rate = statistics.median(rates)
        print(f"{name:24} {rate:9.2f} frames/s = {rate * FRAME_S:7.2f} x real time")
    print(f"{given.streams} streams against generate: {found['speedup_over_generate']} x")
    print(json.dumps({"benchmark": "csm_engine", **vars(given), "torch": torch.__version__, **found}))


if __name__ == "__main__":
    main()
