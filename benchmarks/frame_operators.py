"""How many operators a frame and a piece of a prompt take: each is a kernel on a GPU, and most are small.

Counted on a CPU, as torch dispatches them, views left out, at CSM-1B's number of layers (their width does not
matter). What only CUDA has is reckoned: from torch 2.9 on, a norm there is one operator.

    python benchmarks/frame_operators.py

The last line is JSON.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).parent.parent))

from runpod_server.bench.sizes import middle_config  # noqa: E402
from runpod_server.model.csm import CsmRunner  # noqa: E402
from runpod_server.model.prefill import PIECE_LENGTHS  # noqa: E402
from runpod_server.model.weights import random_csm  # noqa: E402

BACKBONE_LAYERS = 16
NO_KERNEL = {"aten::detach", "aten::empty", "aten::empty_like", "aten::_unsafe_view", "aten::_reshape_alias"}
OF_A_NORM = {"float32": 4, "bfloat16": 5}
ROWS, WINDOW = 4, 128


class Operators(TorchDispatchMode):
    """Counts all but views."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and func._schema.name not in NO_KERNEL:
            self.count[func._schema.name.removeprefix("aten::")] += 1
        return func(*args, **(kwargs or {}))


def counted(dtype: str) -> dict[str, Any]:
    """Operators by part, as here and as on CUDA from torch 2.9 on; the commonest of them here."""
    config = middle_config()
    config.num_hidden_layers = BACKBONE_LAYERS
    csm = random_csm(config, device="cpu", dtype=getattr(torch, dtype))
    runner = CsmRunner(csm.model, slots=ROWS, pack_weights=False, piece_lengths=PIECE_LENGTHS)
    assert runner._padded is not None
    parts = {
        "backbone": lambda: runner._think(ROWS, WINDOW),
        "codes": lambda: runner._say(ROWS),
        "piece of a prompt": lambda: runner._padded._piece(PIECE_LENGTHS[0], WINDOW),
    }
    found: dict[str, Any] = {}
    for name, part in parts.items():
        with torch.no_grad(), Operators() as operators:
            part()
        norms = operators.count["linalg_vector_norm"]
        found[name] = {
            "here": operators.count.total(),
            "by_a_norm_in_one": operators.count.total() - (OF_A_NORM[dtype] - 1) * norms,
            "most": dict(operators.count.most_common(12)),
        }
    return found


def main() -> None:
    transformers.logging.set_verbosity_error()
    found = {dtype: counted(dtype) for dtype in OF_A_NORM}
    for dtype, parts in found.items():
        for part, counts in parts.items():
            here, in_one = counts["here"], counts["by_a_norm_in_one"]
            print(f"{dtype:9} {part:18} {here:5} here, {in_one:5} with a norm in one")
    print(json.dumps({"benchmark": "frame_operators", "torch": torch.__version__, **found}))


if __name__ == "__main__":
    main()
