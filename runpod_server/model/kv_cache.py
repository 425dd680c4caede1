"""The backbone's keys and values: a row of positions a stream, written in place, never reallocated.

Also which slot lives in which row: the streams of a step are kept in the first rows, so that a bucket is a
plain slice and attention reads nothing else. Knows nothing of layers' weights or of sampling.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from runpod_server.model.config import StackShapes


class KvCache:
    """Keys and values, (layers, 2, rows, kv_heads, positions + 1, head_dim).

    The one position more takes what is to be kept nowhere: the write of a full row that rides along in a
    bucket, and of what pads a piece of a prompt.
    """

    def __init__(
        self, shapes: StackShapes, rows: int, positions: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        heads, dim = shapes.kv_heads, shapes.head_dim
        self.data = torch.zeros(shapes.layers, 2, rows, heads, positions + 1, dim, device=device, dtype=dtype)
        self._flat = self.data.view(shapes.layers, -1, dim)  # one line a (2, row, head, position)
        keys_or_values = torch.arange(2, device=device).view(1, 2, 1)
        row = torch.arange(rows, device=device).view(rows, 1, 1)
        head = torch.arange(heads, device=device).view(1, 1, heads)
        self._first_line = ((keys_or_values * rows + row) * heads + head) * (
            positions + 1
        )  # (rows, 2, heads)

    def lines(self, positions: Tensor) -> Tensor:
        """Where tokens at `positions` (B,) of the first B rows go, in every layer: (B·2·kv_heads,)."""
        return (self._first_line[: positions.shape[0]] + positions.view(-1, 1, 1)).flatten()

    def lines_of(self, row: Tensor, positions: Tensor) -> Tensor:
        """Where tokens at `positions` (n,) of one row (1,) go, in every layer: (n·2·kv_heads,)."""
        return (self._first_line.index_select(0, row) + positions.view(-1, 1, 1)).flatten()

    def write(self, layer: int, lines: Tensor, kv: Tensor) -> None:
        """Write tokens where `lines` says: kv (n, 2 kv_heads, head_dim)."""
        self._flat[layer].index_copy_(0, lines, kv.reshape(-1, kv.shape[-1]))

    def read(self, layer: int, rows: int, width: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the first rows and positions: each (rows, kv_heads, width, head_dim)."""
        both = self.data[layer, :, :rows, :, :width]
        return both[0], both[1]

    def read_row(self, layer: int, row: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """A copy of one row's (1,) keys and values: each (1, kv_heads, width, head_dim)."""
        both = self.data[layer, :, :, :, :width].index_select(1, row)
        return both[0], both[1]

    def append(self, layer: int, row: int, start: int, kv: Tensor) -> tuple[Tensor, Tensor]:
        """Write n tokens of one row from `start` on: kv (n, 2 kv_heads, head_dim).

        Returns all of the row's keys and values until there, each (kv_heads, start + n, head_dim).
        """
        end = start + kv.shape[0]
        cache = self.data[layer, :, row]  # (2, kv_heads, positions + 1, head_dim)
        cache[:, :, start:end] = kv.unflatten(1, (2, -1)).permute(1, 2, 0, 3)
        return cache[0, :, :end], cache[1, :, :end]

    def save(self, row: int, length: int) -> Tensor:
        """A copy of the row's first `length` positions: (layers, 2, kv_heads, length, head_dim)."""
        return self.data[:, :, row, :, :length].clone()

    def restore(self, row: int, saved: Tensor) -> None:
        """Put what `save` gave at the start of `row`."""
        self.data[:, :, row, :, : saved.shape[3]] = saved

    def exchange(self, a: int, b: int, a_length: int, b_length: int) -> None:
        """Swap two rows, of which only the first `a_length` and `b_length` positions matter."""
        b_saved = self.save(b, b_length) if b_length else None
        self.data[:, :, b, :, :a_length] = self.data[:, :, a, :, :a_length]
        if b_saved is not None:
            self.restore(a, b_saved)


class RowMap:
    """Which row each slot lives in: always a permutation. Pure bookkeeping on the host."""

    def __init__(self, slots: int) -> None:
        self._row = list(range(slots))
        self._slot = list(range(slots))

    def row(self, slot: int) -> int:
        """Where the slot lives now."""
        return self._row[slot]

    def slot(self, row: int) -> int:
        """Who lives in the row now."""
        return self._slot[row]

    def exchange(self, a: int, b: int) -> None:
        """Swap the slots of two rows."""
        self._slot[a], self._slot[b] = self._slot[b], self._slot[a]
        self._row[self._slot[a]], self._row[self._slot[b]] = a, b

    def moves(self, slots: Sequence[int], bucket: int) -> list[tuple[int, int]]:
        """Exchanges (row outside, row inside) that bring every one of `slots` into the first `bucket` rows.

        Nobody already inside moves; the rows given up inside hold no slot of these, the lowest go first.
        """
        wanted = set(slots)
        outside = [self._row[slot] for slot in slots if self._row[slot] >= bucket]
        spare = (row for row in range(bucket) if self._slot[row] not in wanted)
        return list(zip(outside, spare, strict=False))
