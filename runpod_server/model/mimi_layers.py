"""Mimi's decoder layer by layer, each able to go on where it stopped, over transformers' own modules.

A layer's memory of the past lives in the pass's `PassState` or, for attention, in a ring. Which stream a row
belongs to, and when it moves, is not decided here (see mimi_stream.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.mimi.modeling_mimi import (
    MimiConv1d,
    MimiConvTranspose1d,
    MimiResnetBlock,
    MimiTransformerModel,
    apply_rotary_pos_emb,
)

from runpod_server.errors import EngineUnavailable


@dataclass(frozen=True, slots=True)
class PassState:
    """What one pass carries through the convolutions; layers change `rows` in place."""

    rows: Tensor  # (B, plan.width)
    fresh: Tensor  # (B,) bool: the stream begins with this pass


@dataclass(frozen=True, slots=True)
class Span:
    """One layer's place in a row of state."""

    start: int
    channels: int
    width: int

    def of(self, rows: Tensor) -> Tensor:
        end = self.start + self.channels * self.width
        return rows[:, self.start : end].view(rows.shape[0], self.channels, self.width)


class RowPlan:
    """Hands out places in a row, so that a slot's whole state is gathered and put back in one move."""

    width = 0

    def take(self, channels: int, width: int) -> Span:
        span = Span(self.width, channels, width)
        self.width += channels * width
        return span


class Dequantizer:
    """Codes → latents; the sum over codebooks in one look-up (`MimiSplitResidualVectorQuantizer.decode`)."""

    def __init__(self, quantizer: Any) -> None:
        self._first = quantizer.semantic_residual_vector_quantizer
        self._rest = quantizer.acoustic_residual_vector_quantizer
        layers = [*self._first.layers, *self._rest.layers]
        with torch.no_grad():
            tables = torch.stack([_vectors(layer.codebook) for layer in layers])  # (K, codebook, dim)
        self.codebooks, self._codebook_size = tables.shape[:2]
        self._table = tables.flatten(0, 1)
        offsets = torch.arange(self.codebooks, device=tables.device) * self._codebook_size
        self._offsets = offsets[:, None]  # (K, 1)

    def __call__(self, codes: Tensor) -> Tensor:  # (B, K, T) → (B, hidden, T)
        index = codes.clamp(0, self._codebook_size - 1) + self._offsets[: codes.shape[1]]
        vectors = F.embedding(index, self._table).transpose(2, 3)  # (B, K, dim, T)
        split = len(self._first.layers)
        latents = self._project(self._first, vectors[:, :split].sum(1))
        if codes.shape[1] > split:
            latents = latents + self._project(self._rest, vectors[:, split:].sum(1))
        return latents

    @staticmethod
    def _project(quantizer: Any, x: Tensor) -> Tensor:
        return x if quantizer.output_proj is None else quantizer.output_proj(x)


def _vectors(codebook: Any) -> Tensor:
    """`MimiEuclideanCodebook.embed`, whose own cache stays behind when the codec moves to another type."""
    usage: Tensor = codebook.cluster_usage.clamp(min=codebook.epsilon)
    vectors: Tensor = codebook.embed_sum / usage[:, None]
    return vectors  # (codebook, dim)


class CausalConv:
    """`MimiConv1d` whose left pad is what came before, and the configured pad only where nothing did."""

    def __init__(self, module: MimiConv1d, plan: RowPlan) -> None:
        self._conv = conv = module.conv
        if conv.stride[0] != 1:
            raise EngineUnavailable(
                "This codec cannot be streamed: its decoder has a convolution that skips."
            )
        self._replicate = module.pad_mode == "replicate"
        self._span = plan.take(conv.in_channels, (conv.kernel_size[0] - 1) * conv.dilation[0])

    def __call__(self, x: Tensor, state: PassState) -> Tensor:  # (B, in, L) → (B, out, L)
        if self._span.width:
            past = self._span.of(state.rows)
            before = torch.where(state.fresh[:, None, None], x[..., :1], past) if self._replicate else past
            x = torch.cat([before, x], dim=2)
            past.copy_(x[..., -self._span.width :])
        conv = self._conv
        if conv.groups == 1 and conv.dilation[0] == 1 and weights_outweigh(conv, x):
            return _conv_as_matmul(x, conv)
        return conv(x)


class TransposedConv:
    """`MimiConvTranspose1d`, whose tail is not trimmed but added to the beginning of what comes next."""

    def __init__(self, module: MimiConvTranspose1d, plan: RowPlan) -> None:
        self._conv = conv = module.conv
        self.stride = conv.stride[0]
        self._span = plan.take(conv.out_channels, conv.kernel_size[0] - self.stride)

    def __call__(self, x: Tensor, state: PassState) -> Tensor:  # (B, in, L) → (B, out, L * stride)
        conv, emitted = self._conv, x.shape[2] * self.stride
        if conv.groups == 1 and weights_outweigh(conv, x):
            y = _transposed_conv_as_matmul(x, conv)
        else:
            y = F.conv_transpose1d(x, conv.weight, stride=self.stride, groups=conv.groups)
        overlap = self._span.of(state.rows)
        y[..., : self._span.width] += overlap
        overlap.copy_(y[..., emitted:])
        y = y[..., :emitted]
        return y if conv.bias is None else y + conv.bias[:, None]  # once, on what leaves


class Residual:
    """`MimiResnetBlock`."""

    def __init__(self, module: MimiResnetBlock, plan: RowPlan) -> None:
        self._block = [streaming_layer(inner, plan) for inner in module.block]
        self._shortcut = streaming_layer(module.shortcut, plan)

    def __call__(self, x: Tensor, state: PassState) -> Tensor:
        y = x
        for layer in self._block:
            y = layer(y, state)
        return self._shortcut(x, state) + y


class PassStateless:
    """An activation, or the plain way round a residual block."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self, x: Tensor, state: PassState) -> Tensor:
        return self._module(x)


Layer = CausalConv | TransposedConv | Residual | PassStateless


def streaming_layer(module: nn.Module, plan: RowPlan) -> Layer:
    match module:
        case MimiConv1d():
            return CausalConv(module, plan)
        case MimiConvTranspose1d():
            return TransposedConv(module, plan)
        case MimiResnetBlock():
            return Residual(module, plan)
        case nn.ELU() | nn.Identity():
            return PassStateless(module)
        case _:
            raise EngineUnavailable(
                f"This codec cannot be streamed: its decoder has an unknown layer, {type(module).__name__}. "
                "Use the version of transformers that requirements ask for."
            )


def weights_outweigh(conv: nn.Conv1d | nn.ConvTranspose1d, x: Tensor) -> bool:
    """Whether a matrix product beats the convolution kernels.

    A frame gives the first layers 2 to 16 columns for millions of weights. The kernels lay those weights out
    anew on each call; a product reads them once (one CPU thread, the widest layer: 46 → 2.3 ms). Where the
    signal is the larger of the two, the kernels win.
    """
    return conv.weight.numel() > x.numel()


def _conv_as_matmul(x: Tensor, conv: nn.Conv1d) -> Tensor:
    kernel = conv.kernel_size[0]
    windows = x.unfold(2, kernel, 1).transpose(1, 2).flatten(2)  # (B, L, in * kernel)
    return F.linear(windows, conv.weight.flatten(1), conv.bias).transpose(1, 2)


def _transposed_conv_as_matmul(x: Tensor, conv: nn.ConvTranspose1d) -> Tensor:
    kernel, stride, length = conv.kernel_size[0], conv.stride[0], x.shape[2]
    pieces = x.transpose(1, 2) @ conv.weight.flatten(1)  # (B, L, out * kernel)
    samples = (length - 1) * stride + kernel
    y = F.fold(pieces.transpose(1, 2), (1, samples), kernel_size=(1, kernel), stride=(1, stride))
    return y[:, :, 0]  # (B, out, samples)


class WindowedTransformer:
    """`MimiTransformerModel` over a ring of each slot's newest keys and values.

    The ring holds a window and one pass: a pass writes first and attends afterwards, and what it overwrites
    lies outside every window of its tokens.
    """

    def __init__(
        self, module: MimiTransformerModel, *, slots: int, tokens_per_pass: int, like: Tensor
    ) -> None:
        config: Any = module.config
        self._module, self._window = module, config.sliding_window
        needed = self._window - 1 + tokens_per_pass
        self._length = -(-needed // 8) * 8  # the attention kernels of CUDA like multiples of eight
        heads, dim = config.num_key_value_heads, config.head_dim
        self._grouped = heads != config.num_attention_heads
        self.ring = like.new_zeros(len(module.layers), slots, 2, heads, self._length, dim)
        self._columns = torch.arange(self._length, device=like.device)  # (R,)

    def __call__(self, x: Tensor, ids: Tensor, positions: Tensor) -> Tensor:
        """(B, hidden, N), (B,), (B,) of the first token each → (B, hidden, N)."""
        module: Any = self._module
        x = x.transpose(1, 2)  # (B, N, hidden)
        at = positions[:, None] + torch.arange(x.shape[1], device=x.device)  # (B, N) token positions
        visible = self._visible(at)
        cos_sin = module.rotary_emb(x, at)
        for layer, ring in zip(module.layers, self.ring, strict=True):
            attended = self._attend(
                layer.self_attn, layer.input_layernorm(x), ring, ids, at, visible, cos_sin
            )
            x = x + layer.self_attn_layer_scale(attended)
            x = x + layer.mlp_layer_scale(layer.mlp(layer.post_attention_layernorm(x)))
        return x.transpose(1, 2)

    def _visible(self, at: Tensor) -> Tensor:
        """(B, N) → (B, 1, N, R): which columns of the ring each token may see once the pass is written."""
        newest = at[:, -1:]  # (B, 1)
        held = newest - torch.remainder(newest - self._columns, self._length)  # (B, R) position in a column
        held, query = held[:, None], at[:, :, None]
        visible: Tensor = (held >= 0) & (held <= query) & (held > query - self._window)
        return visible[:, None]

    def _attend(
        self,
        attention: Any,
        x: Tensor,
        ring: Tensor,
        ids: Tensor,
        at: Tensor,
        visible: Tensor,
        cos_sin: tuple[Tensor, Tensor],
    ) -> Tensor:
        shape = (*x.shape[:2], -1, attention.head_dim)
        q = attention.q_proj(x).view(shape).transpose(1, 2)  # (B, heads, N, dim)
        k = attention.k_proj(x).view(shape).transpose(1, 2)  # (B, kv_heads, N, dim)
        v = attention.v_proj(x).view(shape)  # (B, N, kv_heads, dim)
        q, k = apply_rotary_pos_emb(q, k, *cos_sin)
        columns = torch.remainder(at, self._length)  # (B, N)
        ring[ids[:, None], :, :, columns] = torch.stack(
            [k.transpose(1, 2), v], dim=2
        )  # (B, N, 2, kv_heads, dim)
        keys, values = ring.index_select(0, ids).unbind(1)  # (B, kv_heads, R, dim) each
        y = F.scaled_dot_product_attention(
            q, keys, values, attn_mask=visible, scale=attention.scaling, enable_gqa=self._grouped
        )
        return attention.o_proj(y.transpose(1, 2).flatten(2))
