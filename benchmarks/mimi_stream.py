"""What one 80 ms frame of sound costs: `python benchmarks/mimi_stream.py --batch 1 --batch 16`.

Mimi at its true architecture with random weights (speed does not depend on them), every stream past its
attention window. Beside it, in the same run, transformers' whole decode of many frames at once, its cost per
frame. The last line is JSON; times are milliseconds per frame of the whole batch. `cpu_ms` is processor time,
which other people's work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from transformers import MimiConfig, MimiModel

from runpod_server.model.mimi_stream import MimiStream


@dataclass(frozen=True, slots=True)
class Timing:
    wall_ms: float
    cpu_ms: float


def timed(call: Callable[[], object], device: torch.device) -> Timing:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return Timing(1000 * (time.perf_counter() - wall_s), 1000 * (time.process_time() - cpu_s))


def figures(times_ms: Iterable[float]) -> dict[str, float]:
    ordered = sorted(times_ms)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {"min": round(ordered[0], 2), "p50": round(statistics.median(ordered), 2), "p95": round(p95, 2)}


def measure(codec: MimiModel, batch: int, options: argparse.Namespace) -> dict[str, object]:
    device = codec.device
    codebooks, size = codec.config.num_quantizers, codec.config.codebook_size
    stream = MimiStream(codec, batch, use_graphs=options.graphs)
    stream.capture(codebooks)
    slots = range(batch)
    fill = torch.randint(size, (batch, codebooks, 4), device=device)
    for _ in range(0, options.fill_frames, 4):
        stream.decode(slots, fill)
    frame = torch.randint(size, (batch, codebooks, 1), device=device)
    stream.decode(slots, frame)
    ours = [timed(lambda: stream.decode(slots, frame), device) for _ in range(options.frames)]

    whole = torch.randint(size, (batch, codebooks, options.whole_frames), device=device)
    with torch.no_grad():
        codec.decode(whole)
        theirs = [timed(lambda: codec.decode(whole), device) for _ in range(3)]

    frame_ms = 1000 * stream.samples_per_frame / codec.config.sampling_rate
    wall, cpu = figures(t.wall_ms for t in ours), figures(t.cpu_ms for t in ours)
    whole_cpu_ms = min(t.cpu_ms for t in theirs) / options.whole_frames
    print(
        f"{batch:4} streams: {wall['p50']:8.2f} ms a frame (cpu {cpu['p50']:.2f}), "
        f"{frame_ms / wall['p50']:.2f} x real time; whole decode, cpu: {whole_cpu_ms:.2f} ms a frame",
        flush=True,
    )
    return {
        "batch": batch,
        "wall_ms": wall,
        "cpu_ms": cpu,
        "real_time_factor": round(wall["p50"] / frame_ms, 4),
        "whole_decode_wall_ms": round(min(t.wall_ms for t in theirs) / options.whole_frames, 2),
        "whole_decode_cpu_ms": round(whole_cpu_ms, 2),
        "mib_per_slot": round(stream.bytes_per_slot / 2**20, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, action="append", help="streams at once; repeatable (1, 16)")
    parser.add_argument("--frames", type=int, default=40, help="frames timed")
    parser.add_argument("--fill-frames", type=int, default=128, help="frames decoded before timing")
    parser.add_argument("--whole-frames", type=int, default=25, help="frames of the whole decode beside it")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--graphs", action="store_true", help="static buffers, and on CUDA graphs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    codec = MimiModel(MimiConfig()).eval().to(options.device, getattr(torch, options.dtype))
    results = [measure(codec, batch, options) for batch in options.batch or [1, 16]]
    print(
        json.dumps(
            {
                "benchmark": "mimi_stream",
                "device": torch.cuda.get_device_name() if options.device.startswith("cuda") else "cpu",
                "machine": platform.machine(),
                "threads": options.threads,
                "dtype": options.dtype,
                "graphs": options.graphs,
                "torch": torch.__version__,
                "results": results,
            }
        )
    )


if __name__ == "__main__":
    main()
