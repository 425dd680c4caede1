"""Choosing a code from logits: per-row temperature, top-k and seed, one uniform number a row and codebook.

The number is a hash of (seed, frame, codebook), so a stream's choices do not depend on its neighbours, on the
batch it runs in, or on the device. Knows nothing of layers, slots or requests.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MAX_TOP_K = 128  # the batch's shared, static width of torch.topk

_DRAW_BITS = 23  # (h + ½) · 2⁻²³ is exact in float32 and never 0 or 1
_SMALLEST_DRAW = 2.0 ** -(_DRAW_BITS + 1)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one utterance is sampled. Sesame's own defaults; temperature 0 is greedy, top_k 0 is no limit.

    Raises ValueError for numbers out of range.
    """

    temperature: float = 0.9
    top_k: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature <= 100.0:
            raise ValueError(f"temperature must be between 0 (greedy) and 100, not {self.temperature}")
        if not 0 <= self.top_k <= MAX_TOP_K:
            raise ValueError(f"top_k must be between 1 and {MAX_TOP_K}, or 0 for no limit, not {self.top_k}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be between 0 and 2^63 - 1, not {self.seed}")


class SamplingRows:
    """The sampling settings of every row, written in place. `codes`: how many there are to choose from."""

    def __init__(self, rows: int, device: torch.device, codes: int) -> None:
        self._most_allowed = min(MAX_TOP_K, codes)
        self.inverse_temperature = torch.ones(rows, 1, device=device)
        self.last_allowed = torch.zeros(rows, 1, dtype=torch.int64, device=device)  # top_k - 1
        self.lift = torch.zeros(rows, 1, device=device)  # inf: no top-k limit
        self.greedy = torch.ones(rows, 1, dtype=torch.bool, device=device)
        self.seed = torch.zeros(rows, 1, dtype=torch.int64, device=device)

    def set(self, row: int, sampling: Sampling) -> None:
        """Settings of `row`. Greedy is top-1 with the smallest draw: the first of the likeliest codes."""
        greedy = sampling.temperature == 0
        top_k = 1 if greedy else sampling.top_k
        self.inverse_temperature[row] = 1.0 if greedy else 1.0 / sampling.temperature
        self.last_allowed[row] = min(max(top_k, 1), self._most_allowed) - 1
        self.lift[row] = float("inf") if top_k == 0 else 0.0
        self.greedy[row] = greedy
        self.seed[row] = sampling.seed

    def tensors(self) -> tuple[Tensor, ...]:
        """Every tensor with a row a stream."""
        return (self.inverse_temperature, self.last_allowed, self.lift, self.greedy, self.seed)

    def draws(self, frames: Tensor, codebooks: int) -> Tensor:
        """Uniform numbers in (0, 1) for a frame: frames (B,) → (B, codebooks)."""
        rows = frames.shape[0]
        uniform = uniform_draws(self.seed[:rows], frames, codebooks)
        return uniform.masked_fill(self.greedy[:rows], _SMALLEST_DRAW)

    def choose(self, logits: Tensor, draw: Tensor) -> Tensor:
        """A code for each row: logits (B, V), draw (B, 1) → (B,) int64."""
        rows = logits.shape[0]
        scaled = logits * self.inverse_temperature[:rows]  # (B, V) float32, whatever the logits are
        allowed = torch.topk(scaled, self._most_allowed).values  # (B, K), falling
        threshold = allowed.gather(1, self.last_allowed[:rows]) - self.lift[:rows]  # (B, 1)
        return choose_by_draw(scaled, threshold, draw)


def choose_by_draw(scaled: Tensor, threshold: Tensor, draw: Tensor) -> Tensor:
    """Inverse-CDF sampling of softmax(scaled) over the codes of which it is ≥ threshold.

    scaled (B, V) float32: logits / temperature; the others (B, 1) → (B,). As transformers' TopKLogitsWarper,
    codes tied with the k-th stay. A parallel cumsum need not rise evenly, nor to 1: only codes with a chance
    are eligible, and were none left at the very end, the likeliest is taken.
    """
    chance = torch.softmax(scaled.masked_fill(scaled < threshold, float("-inf")), dim=-1)  # (B, V)
    eligible = torch.where(torch.cumsum(chance, dim=-1) >= draw, chance.sign(), chance)
    return eligible.argmax(dim=-1)  # the first of the maxima


def uniform_draws(seeds: Tensor, frames: Tensor, codebooks: int) -> Tensor:
    """Uniform float32 in (0, 1), a pure function of (seed, frame, codebook).

    seeds (B, 1), frames (B,) → (B, codebooks).
    """
    codebook = torch.arange(codebooks, device=seeds.device)  # (codebooks,)
    counter = frames.unsqueeze(1) * codebooks + codebook  # (B, codebooks)
    hashed = _mix(_mix(seeds) + (counter + 1) * _GOLDEN)
    return ((_shift_right(hashed, 64 - _DRAW_BITS)).to(torch.float32) + 0.5) * 2.0**-_DRAW_BITS


# SplitMix64 (Steele, Lea, Flood 2014). int64 wraps like uint64; constants above 2⁶³ are written as negatives.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift_right(z, 30)) * _MIX_1
    z = (z ^ _shift_right(z, 27)) * _MIX_2
    return z ^ _shift_right(z, 31)


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's own keeps the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
