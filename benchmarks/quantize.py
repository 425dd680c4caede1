"""CSM with its layers' weights in 8 bits beside the full ones: how fast, and how far its codes go astray.

Quality is teacher-forced: every contender reads the codes the full weights chose (greedily), and is asked at
each for its own logits. The full weights in bfloat16 stand among them for scale: that much rounding everybody
accepts. Random weights tell of rounding, not of speech: their logits lie closer together than
trained ones, so the agreement they give is a lower bound; `--model` takes a checkpoint.

    python benchmarks/quantize.py                                     # middle size, CPU
    python benchmarks/quantize.py --model sesame/csm-1b --device cuda

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))

from csm_engine import middle_config, prompts, run_streams, seconds  # noqa: E402

from runpod_server.model.csm import CsmRunner  # noqa: E402
from runpod_server.model.prompt import Prompt  # noqa: E402
from runpod_server.model.sampling import Sampling  # noqa: E402
from runpod_server.model.weights import LoadedCsm, csm_1b_config, load_csm, random_csm  # noqa: E402

Contender = tuple[str, torch.dtype]  # weights of the layers, everything else


class Logits:
    """Stands in for a runner's sampling: keeps the logits, and answers with the codes that were set."""

    def __init__(self, forced: Tensor | None) -> None:
        self.forced = None if forced is None else forced.flatten(1)  # (B, frames · 32)
        self.kept: list[Tensor] = []

    def choose(self, logits: Tensor, draw: Tensor) -> Tensor:
        self.kept.append(logits)
        return logits.argmax(dim=1) if self.forced is None else self.forced[:, len(self.kept) - 1]


def listen(runner: CsmRunner, ids: Tensor, frames: int, forced: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits (B, frames, 32, codes) and their best codes (B, frames, 32), after the forced codes, or its own.

    The runner must not be warm yet: a graph holds the sampling it was captured with.
    """
    logits = Logits(forced)
    runner._sampling.choose = logits.choose  # type: ignore[method-assign]
    no_codes = torch.empty(0, runner.shapes.codebooks, dtype=torch.int64)
    slots = list(range(ids.shape[0]))
    for slot in slots:
        runner.reset(slot)
        runner.begin(slot, Sampling(0))
        runner.prefill(slot, runner.embed(Prompt(ids[slot], no_codes)))
    for _ in range(frames):
        runner.step(slots)
    del runner._sampling.choose
    kept = torch.stack(logits.kept, dim=1).unflatten(1, (frames, -1)).float()
    return kept, kept.argmax(dim=-1)


def quality(truth: tuple[Tensor, Tensor], found: tuple[Tensor, Tensor], codec: Any) -> dict[str, Any]:
    """How far `found` is from `truth`, each logits and codes."""
    (expected, codes), (logits, own) = truth, found
    wanted, given = expected.log_softmax(-1), logits.log_softmax(-1)
    divergence = (wanted.exp() * (wanted - given)).sum(-1)  # (B, frames, 32)
    same = (codes == own).float().mean(dim=(0, 1))  # (32,)
    return {
        "same_code": round(float(same.mean()), 4),
        "same_code_by_codebook": [round(float(each), 3) for each in same],
        "kl_nats": float(f"{float(divergence.mean()):.3g}"),
        "kl_nats_first_codebook": float(f"{float(divergence[..., 0].mean()):.3g}"),
        "logits_error": round(float((logits - expected).norm() / expected.norm()), 4),
        "signal_to_difference_db": round(_signal_db(codec, codes, own), 1),
    }


def _signal_db(codec: Any, codes: Tensor, own: Tensor) -> float:
    """Loudness of the sound of `codes` over that of its difference to the sound of `own`."""
    with torch.inference_mode():
        sound, other = (codec.decode(each.transpose(1, 2)).audio_values for each in (codes, own))
    return float(10 * torch.log10(sound.square().mean() / (sound - other).square().mean().clamp(min=1e-20)))


def give_codes_a_sound(codec: Any) -> None:
    """A codec of random weights has zeros in its codebooks: all codes would sound the same."""
    generator = torch.Generator().manual_seed(0)
    for name, table in codec.named_buffers():
        if name.endswith("embed_sum"):
            table.copy_(torch.randn(table.shape, generator=generator))


def layer_megabytes(csm: LoadedCsm, weights: str) -> float:
    """What the layers' matrices take, as the runner holds them."""
    layers = [*csm.model.backbone_model.layers, *csm.model.depth_decoder.model.layers]
    matrices = [weight for layer in layers for weight in layer.parameters() if weight.dim() == 2]
    return sum(m.numel() * (m.element_size() if weights == "full" else 1) for m in matrices) / 1e6


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Every contender's quality and speed."""

    def load(dtype: torch.dtype) -> LoadedCsm:
        if given.model:
            return load_csm(given.model, device=given.device, dtype=dtype)
        config = csm_1b_config() if given.size == "1b" else middle_config()
        csm = random_csm(config, device=given.device, dtype=torch.float32)  # the same numbers, then rounded
        csm.model.to(dtype).codec_model.float()
        return LoadedCsm(csm.model, csm.tokenizer, csm.shapes, csm.device, dtype, csm.source)

    ids = prompts(max(given.streams))
    truth_csm = load(torch.float32)
    if not given.model:
        give_codes_a_sound(truth_csm.model.codec_model)
    truth = listen(
        CsmRunner(truth_csm.model, slots=len(ids), use_graphs=False), ids, given.quality_frames, None
    )
    found: dict[str, Any] = {}
    work: dict[str, dict[int, Callable[[], Tensor]]] = {}
    for weights, dtype in contenders(given.device):
        name = f"{weights}, {str(dtype).removeprefix('torch.')}"
        csm = load(dtype)
        megabytes = layer_megabytes(csm, weights)
        runner = CsmRunner(csm.model, slots=max(given.streams), weights=weights)  # type: ignore[arg-type]
        work[name] = {
            count: lambda runner=runner, count=count: run_streams(runner, ids[:count], given.frames)  # type: ignore[misc]
            for count in given.streams
        }
        heard = listen(runner, ids, given.quality_frames, truth[1])
        found[name] = {
            "layer_megabytes": round(megabytes, 1),
            **quality(truth, heard, truth_csm.model.codec_model),
        }
        runner.warm()
    for name, rates in speeds(work, given).items():
        found[name]["frames_per_s"] = rates
    return found


def contenders(device: str) -> list[Contender]:
    """What can be run there."""
    if device == "cpu":
        return [("full", torch.float32), ("full", torch.bfloat16), ("int8", torch.float32)]
    contenders: list[Contender] = [("full", torch.bfloat16), ("int8", torch.bfloat16)]
    if torch.cuda.get_device_capability(torch.device(device)) >= (8, 9):
        contenders.append(("fp8", torch.bfloat16))
    return contenders


def speeds(
    work: dict[str, dict[int, Callable[[], Tensor]]], given: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Frames a second in aggregate, prefill and all: the median of rounds in which everybody has a turn."""
    rates: dict[str, dict[int, list[float]]] = {}
    for turn in range(given.rounds + 1):
        for name, by_count in work.items():
            for count, run in by_count.items():
                wall_s, _ = seconds(run)
                if turn:  # the first is for caches and allocators
                    rates.setdefault(name, {}).setdefault(count, []).append(count * given.frames / wall_s)
    return {
        name: {str(count): round(statistics.median(each), 2) for count, each in by_count.items()}
        for name, by_count in rates.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=["middle", "1b"], default="middle")
    parser.add_argument("--model", default="", help="a checkpoint; else random weights of --size")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument("--quality-frames", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(given.threads)
    found = measure(given)
    print(f"{'layers':18} {'MB':>8} {'same code':>10} {'KL, nats':>10} {'dB':>6}  frames/s")
    for name, each in found.items():
        rates = "  ".join(f"{count}: {rate:8.2f}" for count, rate in each["frames_per_s"].items())
        print(
            f"{name:18} {each['layer_megabytes']:8.1f} {each['same_code']:10.1%} {each['kl_nats']:10.2g} "
            f"{each['signal_to_difference_db']:6.1f}  {rates}"
        )
    print(json.dumps({"benchmark": "quantize", **vars(given), "torch": torch.__version__, "found": found}))


if __name__ == "__main__":
    main()
