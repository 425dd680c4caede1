"""The norm beside transformers' own, and how many operators a frame may take; layers as such: test_csm.py."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.models.csm.modeling_csm import CsmRMSNorm

from runpod_server.model.blocks import Norm
from runpod_server.model.csm import CsmRunner
from runpod_server.model.weights import LoadedCsm

NO_KERNEL = {"aten::detach", "aten::empty", "aten::empty_like", "aten::_unsafe_view", "aten::_reshape_alias"}


@pytest.mark.parametrize(
    ("dtype", "closeness"), [(torch.float32, 2e-6), (torch.bfloat16, 1.6e-2), (torch.float16, 2e-3)]
)
@pytest.mark.parametrize("size", [0.0, 1e-4, 1.0, 300.0])
def test_the_norm_is_that_of_transformers(dtype: torch.dtype, closeness: float, size: float) -> None:
    generator = torch.Generator().manual_seed(4)
    theirs = CsmRMSNorm(96, eps=1e-5)
    theirs.weight.data = torch.randn(96, generator=generator) + 1
    x = torch.randn(5, 96, generator=generator) * size
    expected, found = theirs(x), Norm(theirs.to(dtype))(x.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=closeness, rtol=closeness)
    assert bool(found.any()) == (size > 0)


class Operators(TorchDispatchMode):
    """Counts what would be a kernel on a GPU: all but views."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and func._schema.name not in NO_KERNEL:
            self.count[func._schema.name] += 1
        return func(*args, **(kwargs or {}))


def test_a_frame_takes_no_more_operators_than_it_did(tiny: LoadedCsm) -> None:
    """Launching them sets the pace of a single stream on a fast GPU: whoever adds one is to know it."""
    shapes = tiny.shapes
    runner = CsmRunner(tiny.model, slots=2, pack_weights=False)
    with torch.no_grad(), Operators() as thinking:
        runner._think(2, 64)
    with torch.no_grad(), Operators() as saying:
        runner._say(2)
    layer = 2 * 4 + 11  # on CUDA a norm is one, instead of four
    codebook = 12 + 1 + 1 + 4  # chosen, embedded; for the next one head and norm
    backbone, depth = shapes.backbone.layers, shapes.depth.layers * (shapes.codebooks - 1)
    assert thinking.count.total() <= backbone * (layer + 1) + 13, thinking.count
    assert saying.count.total() <= depth * layer + shapes.codebooks * codebook + 50, saying.count
