"""A weight matrix that multiplies: plainly, or packed once into the blocks oneDNN likes best on a CPU.

The packed one is about twice as fast for a few rows, and costs a second copy of the weights.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Matrix(Protocol):
    """Weights (out, in)."""

    def times(self, x: Tensor) -> Tensor:
        """x (N, in) → (N, out)."""

    def add_times(self, x: Tensor, total: Tensor) -> None:
        """Add the product of x (N, in) to `total` (N, out), in place."""


class PlainMatrix:
    """Any device, any dtype; the weights themselves, no copy."""

    def __init__(self, weight: Tensor) -> None:
        self._weight, self._transposed = weight, weight.t()

    def times(self, x: Tensor) -> Tensor:
        return F.linear(x, self._weight)

    def add_times(self, x: Tensor, total: Tensor) -> None:
        total.addmm_(x, self._transposed)


class PackedMatrix:
    """CPU and float32 alone (`can_pack`). The operators are those torch's own compiler packs weights with."""

    def __init__(self, weight: Tensor) -> None:
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)

    def times(self, x: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, None, "none", [], "")
        return product

    def add_times(self, x: Tensor, total: Tensor) -> None:
        total.add_(self.times(x))


def can_pack(weight: Tensor) -> bool:
    """Whether PackedMatrix works here: a CPU build of torch with oneDNN, and float32."""
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )
