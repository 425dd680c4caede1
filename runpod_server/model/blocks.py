"""One transformer layer of CSM with its projections fused, and the few functions that run it.

The fused matrices share their memory with transformers' own module: both can run, nothing is held twice. Of
weights in 8 bits the module's own are given up.
Numbers follow modeling_csm.py (CsmDecoderLayer, CsmAttention, CsmMLP) to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runpod_server.model.config import StackShapes
from runpod_server.model.matrix import Matrix


class Norm:
    """A CsmRMSNorm.

    One kernel on CUDA, from torch 2.9 on. Else F.rms_norm is six (in bfloat16 eight), and CSM has 312 of
    them a frame: so there it is the vector over its length, in four (five).
    """

    def __init__(self, norm: Any) -> None:
        self._weight: Tensor = norm.weight.detach()
        self._eps: float = norm.variance_epsilon
        self._has_kernel = self._weight.is_cuda and hasattr(torch.ops.aten, "_fused_rms_norm")
        width = self._weight.shape[0]
        self._scaled = self._weight.float() * math.sqrt(width)
        self._least = torch.full((1, 1), math.sqrt(self._eps * width), device=self._weight.device)

    def __call__(self, x: Tensor) -> Tensor:
        """x (N, hidden) → the same, every token of the length it was trained for."""
        if self._has_kernel:
            return F.rms_norm(x, self._weight.shape, self._weight, self._eps)
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32)
        return (x / length.hypot_(self._least)).mul_(self._scaled).to(x.dtype)


@dataclass(frozen=True, slots=True)
class Block:
    """The weights of one layer."""

    attention_norm: Norm
    qkv: Matrix  # ((heads + 2 kv_heads) head_dim, hidden)
    attention_out: Matrix  # (hidden, heads head_dim)
    mlp_norm: Norm
    gate_up: Matrix  # (2 mlp, hidden)
    down: Matrix  # (hidden, mlp)


@dataclass(frozen=True, slots=True)
class Rotary:
    """Tables of rotary embeddings; `sin` carries the sign of the half it multiplies."""

    cos: Tensor  # (positions, head_dim)
    sin: Tensor  # (positions, head_dim)

    def at(self, positions: Tensor | slice) -> tuple[Tensor, Tensor]:
        """cos and sin for tokens at `positions` (N,), ready to broadcast over heads: (N, 1, head_dim)."""
        return self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1)


def fuse_layer(layer: Any, matrix: Callable[[Tensor], Matrix], *, keep: bool = True) -> Block:
    """The Block of a transformers CsmDecoderLayer, whose own projections become views of the fused ones.

    `keep=False`: they become empty instead. Raises ValueError where they are so already.
    """
    attention, mlp = layer.self_attn, layer.mlp
    if not mlp.down_proj.weight.numel():
        raise ValueError("this model gave up its full weights to a runner of 8 bits: load it again")
    block = Block(
        attention_norm=Norm(layer.input_layernorm),
        qkv=matrix(_fuse([attention.q_proj, attention.k_proj, attention.v_proj])),
        attention_out=matrix(attention.o_proj.weight.detach()),
        mlp_norm=Norm(layer.post_attention_layernorm),
        gate_up=matrix(_fuse([mlp.gate_proj, mlp.up_proj])),
        down=matrix(mlp.down_proj.weight.detach()),
    )
    if not keep:
        for module in (*attention.children(), *mlp.children()):
            if isinstance(module, nn.Linear):
                module.weight.data = module.weight.new_empty(0)
    return block


def _fuse(projections: list[nn.Linear]) -> Tensor:
    first = projections[0].weight
    start = first.storage_offset()
    if _already_fused(projections):  # a second runner over the same model
        rows = sum(p.weight.shape[0] for p in projections)
        return first.detach().as_strided((rows, first.shape[1]), (first.shape[1], 1), start)
    fused = torch.cat([p.weight.detach() for p in projections])
    row = 0
    for projection in projections:
        rows = projection.weight.shape[0]
        projection.weight.data = fused[row : row + rows]
        row += rows
    return fused


def _already_fused(projections: list[nn.Linear]) -> bool:
    end = projections[0].weight.data_ptr()
    for projection in projections:
        weight = projection.weight
        if weight.data_ptr() != end or not weight.is_contiguous():
            return False
        end += weight.numel() * weight.element_size()
    first, last = projections[0].weight, projections[-1].weight
    return first.untyped_storage().data_ptr() == last.untyped_storage().data_ptr()


def rotary_table(rotary_emb: Any, positions: int, like: Tensor) -> Rotary:
    """Tables for `positions` from transformers' own CsmRotaryEmbedding (llama-3 scaling and all)."""
    index = torch.arange(positions, device=like.device).unsqueeze(0)  # (1, positions)
    cos, sin = rotary_emb(like, position_ids=index)  # each (1, positions, head_dim), in like's dtype
    half = cos.shape[-1] // 2
    sign = torch.cat([-torch.ones(half), torch.ones(half)]).to(sin)
    return Rotary(cos=cos[0].clone(), sin=sin[0] * sign)


def queries_and_kv(
    block: Block, shapes: StackShapes, x: Tensor, cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor]:
    """From x (N, hidden): queries (N, heads, head_dim), keys then values (N, 2 kv_heads, head_dim)."""
    fused = block.qkv.times(block.attention_norm(x))
    fused = fused.view(x.shape[0], shapes.heads + 2 * shapes.kv_heads, shapes.head_dim)
    _rotate(fused[:, : shapes.heads + shapes.kv_heads], cos, sin)
    return fused[:, : shapes.heads], fused[:, shapes.heads :]


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotary embedding of x (N, heads, head_dim) in place: x·cos + swap_halves(x)·signed sin."""
    half = x.shape[-1] // 2
    swapped = torch.cat((x[..., half:], x[..., :half]), dim=-1)
    x.mul_(cos).addcmul_(swapped, sin)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Grouped-query attention without repeating keys: the heads of a group and S tokens stand as query rows.

    queries (B·S, heads, D), keys and values (B, kv_heads, T, D), mask broadcastable to
    (B, kv_heads, S·group, T), added to the scores → (B·S, heads·D).
    """
    batch, kv_heads, _, head_dim = keys.shape
    tokens = queries.shape[0] // batch
    group = queries.shape[1] // kv_heads
    if tokens == 1:  # no copy: heads of a group are neighbours already
        rows = queries.reshape(batch, kv_heads, group, head_dim)
        out = F.scaled_dot_product_attention(rows, keys, values, attn_mask=mask)
        return out.reshape(batch, -1)
    rows = queries.view(batch, tokens, kv_heads, group, head_dim).transpose(1, 2)
    rows = rows.reshape(batch, kv_heads, tokens * group, head_dim)
    out = F.scaled_dot_product_attention(rows, keys, values, attn_mask=mask)
    out = out.view(batch, kv_heads, tokens, group, head_dim).transpose(1, 2)
    return out.reshape(batch * tokens, -1)


def finish_layer(block: Block, shapes: StackShapes, x: Tensor, attended: Tensor) -> None:
    """Add attention's output and the MLP to the residual stream x (N, hidden), in place."""
    block.attention_out.add_times(attended, x)
    gate, up = block.gate_up.times(block.mlp_norm(x)).chunk(2, dim=-1)
    block.down.add_times(F.silu(gate).mul_(up), x)
