"""Weights in 8 bits: products beside torchao's own, a whole runner beside the full one, refusals."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

pytest.importorskip("torchao")

from runpod_server.engine.csm_stage import Stage  # noqa: E402
from runpod_server.errors import EngineUnavailable  # noqa: E402
from runpod_server.model.csm import CsmRunner  # noqa: E402
from runpod_server.model.prompt import Prompt  # noqa: E402
from runpod_server.model.quantize import (  # noqa: E402
    Fp8Matrix,
    Int8Matrix,
    PackedInt8Matrix,
    quantized_matrices,
)
from runpod_server.model.sampling import Sampling  # noqa: E402
from runpod_server.model.weights import load_csm  # noqa: E402

CPU = torch.device("cpu")
FRAMES = 6
MATRICES = [Int8Matrix, PackedInt8Matrix, Fp8Matrix]


def error_of(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected.float()).norm() / expected.float().norm())


def by_torchao(weight: Tensor, x: Tensor) -> Tensor:
    """The whole product torchao's way, its own kernels and all."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight = nn.Parameter(weight, requires_grad=False)
    quantize_(linear, Int8DynamicActivationInt8WeightConfig(set_inductor_config=False))
    product: Tensor = linear(x)
    return product


@pytest.fixture(autouse=True)
def inference() -> Any:
    with torch.inference_mode():
        yield


@pytest.fixture
def weight() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(48, 64)


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(2)
    return torch.randn(5, 64) * torch.tensor([[1.0], [1e-3], [0.0], [50.0], [3.0]])  # loud, soft, silent


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_is_the_full_one_but_for_rounding(
    matrix: Any, dtype: torch.dtype, weight: Tensor, x: Tensor
) -> None:
    expected = F.linear(x, weight)
    made = matrix(weight.to(dtype)).times(x.to(dtype))
    limit = 0.05 if matrix is Fp8Matrix else 0.02
    assert made.dtype == dtype and made.shape == expected.shape
    for row in (0, 1, 3, 4):
        assert error_of(made[row], expected[row]) < limit
    assert not made[2].any()


@pytest.mark.parametrize("matrix", [Int8Matrix, PackedInt8Matrix])
def test_int8_products_are_torchaos(matrix: Any, weight: Tensor, x: Tensor) -> None:
    assert error_of(matrix(weight).times(x), by_torchao(weight, x)) < 0.01


@pytest.mark.parametrize("matrix", [Int8Matrix, PackedInt8Matrix])
def test_a_rows_product_does_not_depend_on_its_neighbours(matrix: Any, weight: Tensor, x: Tensor) -> None:
    made = matrix(weight)
    together = made.times(x)
    for row in range(len(x)):
        torch.testing.assert_close(made.times(x[row : row + 1])[0], together[row], rtol=1e-6, atol=0)


@pytest.mark.parametrize("matrix", MATRICES)
def test_products_are_added_in_place(matrix: Any, weight: Tensor, x: Tensor) -> None:
    made, total = matrix(weight), torch.ones(5, 48)
    made.add_times(x, total)
    assert torch.equal(total, 1 + made.times(x))


@pytest.mark.parametrize("rows", [1, 16, 17, 64])
@pytest.mark.parametrize("matrix", [Int8Matrix, Fp8Matrix])
def test_on_cuda_a_product_reads_no_value_and_has_rows_enough(
    matrix: Any, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By shapes alone, as no GPU is needed for that; its kernel of 8 bits refuses fewer than 17 rows."""
    seen = []
    multiply = torch._int_mm

    def watched(a: Tensor, b: Tensor) -> Tensor:
        seen.append(a.shape[0])
        return multiply(a, b)

    monkeypatch.setattr(torch, "_int_mm", watched)
    with FakeTensorMode(allow_non_fake_inputs=True):
        made = object.__new__(matrix)
        number = torch.int8 if matrix is Int8Matrix else torch.float8_e4m3fn
        made._weight = torch.empty(48, 64, device="cuda").to(number).t()
        made._scale = torch.empty(1, 48, device="cuda")
        product = made.times(torch.empty(rows, 64, device="cuda", dtype=torch.bfloat16))
    assert product.shape == (rows, 48) and product.device.type == "cuda" and product.dtype == torch.bfloat16
    assert all(count >= 17 for count in seen)


def prompt(length: int) -> Prompt:
    ids = torch.randint(0, 256, (length,), generator=torch.Generator().manual_seed(length))
    return Prompt(ids, torch.empty(0, 8, dtype=torch.int64))


def logits_after(runner: CsmRunner, codes: Tensor, slots: list[int], lengths: list[int]) -> Tensor:
    """What the slots make of prompts and then of `codes` (B, frames, 8), whatever they would say."""
    kept: list[Tensor] = []
    forced = codes.flatten(1)

    def choose(logits: Tensor, draw: Tensor) -> Tensor:
        kept.append(logits)
        return forced[:, len(kept) - 1]

    runner._sampling.choose = choose  # type: ignore[method-assign]
    for slot, length in zip(slots, lengths, strict=True):
        runner.reset(slot)
        runner.begin(slot, Sampling(0))
        runner.prefill(slot, runner.embed(prompt(length)))
    for _ in range(codes.shape[1]):
        runner.step(slots)
    return torch.stack(kept, dim=1)  # (B, frames · 8, 64)


def test_a_runner_in_8_bits_thinks_much_as_the_full_one(tiny: Any, tiny_folder: Path) -> None:
    model = load_csm(tiny_folder, device="cpu", dtype=torch.float32).model
    full, small = CsmRunner(tiny.model, slots=4), CsmRunner(model, slots=4, weights="int8")
    lengths = [3, 20, 70, 9]
    codes = torch.randint(0, 64, (4, FRAMES, 8), generator=torch.Generator().manual_seed(5))
    expected, found = (logits_after(runner, codes, [0, 1, 2, 3], lengths) for runner in (full, small))
    assert 1e-4 < error_of(found, expected) < 0.15  # at 0: nothing was quantized
    alone = logits_after(small, codes[1:2], [1], [20])
    torch.testing.assert_close(alone[0], found[1], rtol=1e-4, atol=1e-4)  # whoever else speaks


def test_what_was_made_8_bits_is_not_held_twice(tiny_folder: Path) -> None:
    model = load_csm(tiny_folder, device="cpu", dtype=torch.float32).model
    CsmRunner(model, slots=1, weights="int8")
    layers = [*model.backbone_model.layers, *model.depth_decoder.model.layers]
    assert not sum(m.weight.numel() for layer in layers for m in layer.modules() if isinstance(m, nn.Linear))
    assert model.lm_head.weight.numel()
    with pytest.raises(ValueError, match="load it again"):
        CsmRunner(model, slots=1)


def test_a_stage_speaks_in_8_bits(tiny_folder: Path) -> None:
    csm = load_csm(tiny_folder, device="cpu", dtype=torch.float32)
    stage = Stage(csm, slots=2, weights="int8")
    stage.warm([])
    for slot in (0, 1):
        stage.open(slot)
        stage.read(slot, None, [], slot, "Good morning.", frames=4)
        stage.begin(slot, temperature=0.9, top_k=20, seed=slot)
    frames = stage.collect(stage.step([0, 1]))
    assert [len(frame.pcm16) // 2 for frame in frames] == [csm.shapes.frame_samples] * 2


def test_without_torchao_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(EngineUnavailable, match=r"needs torchao .* install .*\[quantize\]'"):
        quantized_matrices("int8", CPU, torch.float32)


def test_fp8_is_refused_where_it_cannot_be_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    with pytest.raises(EngineUnavailable, match="needs a GPU: set CSM_WEIGHTS=int8"):
        quantized_matrices("fp8", CPU, torch.float32)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    with pytest.raises(EngineUnavailable, match=r"this one has 8\.6: set CSM_WEIGHTS=int8 or full"):
        quantized_matrices("fp8", cuda, torch.bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with pytest.raises(EngineUnavailable, match="DTYPE=bfloat16"):
        quantized_matrices("fp8", cuda, torch.float16)


def test_odd_sizes_are_refused_on_cuda() -> None:
    with pytest.raises(EngineUnavailable, match=r"\(24, 40\).*CSM_WEIGHTS=full"):
        quantized_matrices("int8", torch.device("cuda"), torch.bfloat16)(torch.empty(24, 40))
