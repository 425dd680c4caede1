"""Reading a prompt into a row of the cache in padded pieces of a few lengths, each one a CUDA graph.

A graph has one shape and one set of addresses: so a piece is copied into a static buffer, and where it goes
is data on the device. What pads it is read by nobody, and written to the row's spare position alone.
Knows nothing of slots or of what the input means.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from runpod_server.model.graphs import FrameGraphs
from runpod_server.model.kv_cache import KvCache
from runpod_server.model.network import CsmNetwork

# Below 32 tokens reading the weights is all a piece costs; above 256 a longer one would save little.
PIECE_LENGTHS = (32, 64, 128, 256)
_SMALLEST_WINDOW, _WINDOWS_APART = 128, 4


class PaddedPrefill:
    """Prefill of `cache`, whose rows hold `positions`, in pieces of `lengths` and no others.

    `use_graphs`: CUDA graphs of them, captured by `capture`; off: the same computation, eagerly.
    """

    def __init__(
        self, network: CsmNetwork, cache: KvCache, positions: int, *, lengths: Sequence[int], use_graphs: bool
    ) -> None:
        self._network, self._cache, self._spare = network, cache, positions
        self._lengths = sorted({min(length, positions) for length in lengths})
        self.shapes = _shapes(self._lengths, positions)
        device, longest = network.device, self._lengths[-1]
        self._input = torch.zeros(longest, network.shapes.backbone.hidden, device=device, dtype=network.dtype)
        self._place = torch.zeros(3, 1, dtype=torch.int64, device=device)  # row, start, count
        self._steps = torch.arange(longest, device=device)
        self._pieces = FrameGraphs(self._piece, enabled=use_graphs)

    def read(self, row: int, start: int, x: Tensor) -> None:
        """Tokens of one row through the backbone, for keys and values alone: x (n, hidden).

        They go to the positions from `start` on, of which the row must have enough.
        """
        for piece in x.split(self._lengths[-1]):
            count = piece.shape[0]
            self._set_place(row, start, count)
            self._input[:count] = piece
            start += count
            self._pieces.run(self._shape(count, start))

    def capture(self) -> None:
        """Capture the graph of every shape. Nothing that any row holds is changed."""
        self._set_place(0, 0, 0)
        self._pieces.capture(self.shapes)

    def _set_place(self, row: int, start: int, count: int) -> None:
        place = torch.tensor([[row], [start], [count]])
        if self._place.device.type == "cuda":
            place = place.pin_memory()
        self._place.copy_(place, non_blocking=True)

    def _shape(self, count: int, end: int) -> tuple[int, int]:
        return next((length, window) for length, window in self.shapes if length >= count and window >= end)

    # The device alone: graphs capture it.

    def _piece(self, length: int, window: int) -> None:
        """The input's first `count` tokens, and others up to `length` that pad them."""
        row, start, count = self._place.unbind()
        steps = self._steps[:length]
        positions = (start + steps).masked_fill_(steps >= count, self._spare)
        self._network.prefill_padded(self._cache, row, positions, self._input[:length].clone(), window)


def _shapes(lengths: Sequence[int], positions: int) -> list[tuple[int, int]]:
    """Length and window of every piece there may be, the tightest first.

    Few windows: reading more than needed costs less than it costs at the start to capture one graph more.
    """
    windows = [_SMALLEST_WINDOW]
    while windows[-1] < positions:
        windows.append(windows[-1] * _WINDOWS_APART)
    windows = [min(window, positions) for window in windows]
    # A piece is longer than the length before its own, and so is all that its row then holds.
    shorter = [0, *lengths]
    return [
        (length, window)
        for length, least in zip(lengths, shorter, strict=False)
        for window in windows
        if window > least
    ]
