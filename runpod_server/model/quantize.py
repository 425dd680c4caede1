"""Weights in 8 bits: torchao makes them, torch's own kernels multiply by them.

Both factors are 8 bits wide: the weights with one scale a row, made once; the inputs with one scale a token,
made on every product, so that no stream's sound depends on its neighbours. Half the memory to read a frame or
less, more kernels to launch, and other codes than the full weights give: see benchmarks/quantize.py.
Nothing here waits for the device or keeps a buffer, so a CUDA graph may hold it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from runpod_server.errors import EngineUnavailable
from runpod_server.extras import install_command
from runpod_server.model.matrix import Matrix

Weights = Literal["full", "int8", "fp8"]

_INT8_MOST = 127.0
_FP8_MOST = 448.0  # of e4m3
_SMALLEST = 1e-9  # keeps a token of zeros from being divided by zero
_FP8_CAPABILITY = (8, 9)
_FEWEST_ROWS = 17  # of torch._int_mm on CUDA
_MULTIPLE = 16  # of both sides of a matrix, for the kernels of CUDA


def quantized_matrices(
    weights: Weights, device: torch.device, dtype: torch.dtype
) -> Callable[[Tensor], Matrix]:
    """What makes a matrix of full weights (out, in), on `device` in `dtype`, one of 8 bits.

    Raises EngineUnavailable: torchao is missing, or this machine cannot multiply such numbers.
    """
    _check_torchao()
    if weights == "int8":
        return _packed_or_not if device.type == "cpu" else _on_cuda(Int8Matrix)
    _check_fp8(device, dtype)
    _try_fp8(device, dtype)
    return _on_cuda(Fp8Matrix)


class Int8Matrix:
    """Any device, any dtype."""

    def __init__(self, weight: Tensor) -> None:
        made = _by_torchao(weight, "int8")
        self._weight = made.qdata.t()  # (in, out), column by column, as the kernels like it
        self._scale = made.scale.flatten() / _INT8_MOST  # (out,)

    def times(self, x: Tensor) -> Tensor:
        amount = _amount(x)
        ints = torch.div(x, amount).mul_(_INT8_MOST).round_().to(torch.int8)
        return (self._int_product(ints) * amount * self._scale).to(x.dtype)

    def add_times(self, x: Tensor, total: Tensor) -> None:
        total.add_(self.times(x))

    def _int_product(self, x: Tensor) -> Tensor:
        rows = x.shape[0]
        if x.device.type == "cuda" and rows < _FEWEST_ROWS:
            padding = x.new_zeros(2 * _MULTIPLE - rows, x.shape[1])
            return torch._int_mm(torch.cat((x, padding)), self._weight).narrow(0, 0, rows)
        return torch._int_mm(x, self._weight)


class PackedInt8Matrix:
    """CPU alone, with oneDNN: packed once into the blocks it likes, as PackedMatrix."""

    def __init__(self, weight: Tensor) -> None:
        made = _by_torchao(weight, "int8")
        self._packed = torch.ops.onednn.qlinear_prepack(made.qdata, None)
        self._scale = made.scale.flatten().float() / _INT8_MOST  # (out,)
        self._zero_points = torch.zeros(weight.shape[0], dtype=torch.int32)

    def times(self, x: Tensor) -> Tensor:
        amount = _amount(x)
        bytes_ = torch.div(x, amount).mul_(_INT8_MOST).round_().add_(128).to(torch.uint8)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            bytes_,
            1.0,
            128,
            self._packed,
            self._scale,
            self._zero_points,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        return product.mul_(amount).to(x.dtype)

    def add_times(self, x: Tensor, total: Tensor) -> None:
        total.add_(self.times(x))


class Fp8Matrix:
    """CUDA from compute capability 8.9 on, and bfloat16. Slowly, for tests, on a CPU too."""

    def __init__(self, weight: Tensor) -> None:
        made = _by_torchao(weight, "fp8")
        self._weight = made.qdata.t()  # (in, out), column by column
        self._scale = made.scale.float().reshape(1, -1)  # (1, out)

    def times(self, x: Tensor) -> Tensor:
        scale = _amount(x) / _FP8_MOST
        product: Tensor = torch._scaled_mm(
            torch.div(x, scale).to(torch.float8_e4m3fn),
            self._weight,
            scale_a=scale,
            scale_b=self._scale,
            out_dtype=x.dtype,
            use_fast_accum=x.device.type == "cuda",
        )
        return product

    def add_times(self, x: Tensor, total: Tensor) -> None:
        total.add_(self.times(x))


def _amount(x: Tensor) -> Tensor:
    """The largest value of each token: (N, in) → (N, 1) float32."""
    if x.device.type == "cpu":  # where the norm is not vectorised
        return x.abs().amax(dim=1, keepdim=True).float().clamp_(min=_SMALLEST)
    return torch.linalg.vector_norm(x, ord=float("inf"), dim=1, keepdim=True, dtype=torch.float32).clamp_(
        min=_SMALLEST
    )


def _by_torchao(weight: Tensor, weights: Weights) -> Any:
    """torchao's tensor, whose `qdata` (out, in) times `scale` (out, 1) is about `weight`."""
    from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    config = Int8WeightOnlyConfig if weights == "int8" else Float8WeightOnlyConfig
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    quantize_(linear, config(set_inductor_config=False))
    return linear.weight


def _packed_or_not(weight: Tensor) -> Matrix:
    can_pack = torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_prepack")
    return PackedInt8Matrix(weight) if can_pack else Int8Matrix(weight)


def _on_cuda(matrix: Callable[[Tensor], Matrix]) -> Callable[[Tensor], Matrix]:
    def made(weight: Tensor) -> Matrix:
        if any(side % _MULTIPLE for side in weight.shape):
            raise EngineUnavailable(
                f"this checkpoint has a matrix of {tuple(weight.shape)}, and a GPU multiplies 8 bits only in "
                f"multiples of {_MULTIPLE}: set CSM_WEIGHTS=full"
            )
        return matrix(weight)

    return made


def _check_torchao() -> None:
    try:
        import torchao.quantization  # noqa: F401
    except ImportError as error:
        raise EngineUnavailable(
            f"CSM_WEIGHTS other than full needs torchao ({error}): {install_command('quantize')}"
        ) from error


def _check_fp8(device: torch.device, dtype: torch.dtype) -> None:
    if device.type != "cuda":
        raise EngineUnavailable(
            "CSM_WEIGHTS=fp8 needs a GPU: set CSM_WEIGHTS=int8, which a CPU can multiply, or full"
        )
    capability = torch.cuda.get_device_capability(device)
    if capability < _FP8_CAPABILITY:
        raise EngineUnavailable(
            f"CSM_WEIGHTS=fp8 needs a GPU of compute capability 8.9 or newer (L4, RTX 4090, H100, H200 …), "
            f"and this one has {capability[0]}.{capability[1]}: set CSM_WEIGHTS=int8 or full"
        )
    if dtype != torch.bfloat16:
        raise EngineUnavailable(
            "CSM_WEIGHTS=fp8 works with DTYPE=bfloat16 alone: set that, or CSM_WEIGHTS=int8 or full"
        )


def _try_fp8(device: torch.device, dtype: torch.dtype) -> None:
    """One product: whether there is a kernel for it depends on torch's version and how it was built."""
    size = 2 * _MULTIPLE
    try:
        Fp8Matrix(torch.ones(size, size, device=device, dtype=dtype)).times(
            torch.ones(1, size, device=device, dtype=dtype)
        )
    except (RuntimeError, NotImplementedError) as error:
        raise EngineUnavailable(
            f"torch {torch.__version__} cannot multiply fp8 on this GPU ({str(error).splitlines()[0]}): "
            "install a newer torch, or set CSM_WEIGHTS=int8 or full"
        ) from error
