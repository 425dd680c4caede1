"""CSM's two stacks over fused weights: prefill of a row, one backbone token a row, the 32 codes of a frame.

Computation on the device alone: it reads what it is given and writes the caches. Knows nothing of slots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from runpod_server.model.blocks import (
    Block,
    Norm,
    attend,
    finish_layer,
    fuse_layer,
    queries_and_kv,
    rotary_table,
)
from runpod_server.model.config import CsmShapes
from runpod_server.model.kv_cache import KvCache
from runpod_server.model.matrix import Matrix, PackedMatrix, PlainMatrix, can_pack
from runpod_server.model.quantize import Weights, quantized_matrices

Choose = Callable[[Tensor, Tensor], Tensor]  # logits (B, V), draws (B, 1) → codes (B,)


class CsmNetwork:
    """The weights of a transformers CsmForConditionalGeneration, rearranged for one frame after another.

    `positions` bounds the rotary table, `rows` the batch. `pack`: pack the weights where that is faster.
    `weights` is about the layers' matrices: heads and embeddings are a hundredth of what a frame reads, and
    decide every code, so they stay full. Raises EngineUnavailable (see quantize.py).
    """

    def __init__(
        self,
        model: Any,
        shapes: CsmShapes,
        *,
        rows: int,
        positions: int,
        pack: bool,
        weights: Weights = "full",
    ) -> None:
        self.shapes = shapes
        packs = pack and can_pack(model.lm_head.weight)
        self._matrix: Callable[[Tensor], Matrix] = PackedMatrix if packs else PlainMatrix
        self.device: torch.device = model.lm_head.weight.device
        self.dtype: torch.dtype = model.lm_head.weight.dtype
        self._keeps_full = weights == "full"
        self._layer_matrix = (
            self._matrix if self._keeps_full else quantized_matrices(weights, self.device, self.dtype)
        )
        with torch.no_grad():
            self._take_backbone(model, positions)
            self._take_depth(model.depth_decoder)
            self._make_depth_cache(rows)

    def _take_backbone(self, model: Any, positions: int) -> None:
        backbone, head = model.backbone_model, model.lm_head.weight.detach()
        self._text_embedding = model.embed_text_tokens.weight.detach()
        self._audio_embedding = backbone.embed_tokens.embed_audio_tokens.weight.detach()
        self._first_code = torch.arange(self.shapes.codebooks, device=self.device) * self.shapes.code_vocab
        self._blocks: list[Block] = [self._fused(one) for one in backbone.layers]
        self._norm = Norm(backbone.norm)
        self._rotary = rotary_table(backbone.rotary_emb, positions, head)
        self._columns = torch.arange(positions, device=self.device)
        # Ids past Mimi's codebook name no sound: their logits are not even computed.
        self._head = self._matrix(head[: self.shapes.sound_codes])

    def _take_depth(self, depth: Any) -> None:
        shapes = self.shapes
        self._depth_blocks: list[Block] = [self._fused(one) for one in depth.model.layers]
        self._depth_norm = Norm(depth.model.norm)
        heads = depth.codebooks_head.weight.detach()  # (31, depth hidden, 2051)
        self._depth_rotary = rotary_table(depth.model.rotary_emb, shapes.codebooks, heads)
        heads = heads[:, :, : shapes.sound_codes].transpose(1, 2).contiguous()
        self._depth_heads = [self._matrix(head) for head in heads]
        # Embeddings already projected to the depth decoder's width: 31 products a frame less.
        projector = depth.model.inputs_embeds_projector.weight.detach()
        self._depth_projector = self._matrix(projector)
        embeddings = F.linear(depth.model.embed_tokens.weight.detach(), projector)
        self._depth_embeddings = embeddings.split(shapes.code_vocab)  # one for each codebook

    def _fused(self, layer: Any) -> Block:
        return fuse_layer(layer, self._layer_matrix, keep=self._keeps_full)

    def _make_depth_cache(self, rows: int) -> None:
        depth = self.shapes.depth
        size = (depth.layers, 2, rows, depth.kv_heads, self.shapes.codebooks, depth.head_dim)
        self._depth_cache = torch.zeros(size, device=self.device, dtype=self.dtype)
        # Of a pair (backbone state, code 0) only the second may see both; rows are grouped heads of a token.
        self._pair_mask = torch.zeros(2 * depth.group, 2, device=self.device, dtype=self.dtype)
        self._pair_mask[: depth.group, 1] = float("-inf")

    def embed_text(self, ids: Tensor) -> Tensor:
        """Text tokens as the backbone's input: (n,) → (n, hidden)."""
        return F.embedding(ids, self._text_embedding)

    def embed_frames(self, codes: Tensor) -> Tensor:
        """Frames as the backbone's input, the sum over their codebooks: (n, 32) → (n, hidden)."""
        return F.embedding(codes + self._first_code, self._audio_embedding).sum(dim=1)

    def prefill(self, cache: KvCache, row: int, start: int, x: Tensor) -> None:
        """Many tokens of one row through the backbone, for keys and values alone: x (n, hidden), used up."""
        shapes, count = self.shapes.backbone, x.shape[0]
        cos, sin = self._rotary.at(slice(start, start + count))
        mask = None
        if start:  # causal, with all the row holds already in sight
            seen = torch.ones(count, start + count, dtype=torch.bool, device=x.device).tril(start)
            mask = _additive(seen, x.dtype)
        for layer, block in enumerate(self._blocks):
            queries, kv = queries_and_kv(block, shapes, x, cos, sin)
            keys, values = cache.append(layer, row, start, kv)
            if layer == len(self._blocks) - 1:
                return
            attended = F.scaled_dot_product_attention(
                queries.transpose(0, 1).unsqueeze(0),
                keys.repeat_interleave(shapes.group, dim=0).unsqueeze(0),
                values.repeat_interleave(shapes.group, dim=0).unsqueeze(0),
                attn_mask=mask,
                is_causal=mask is None,
            )  # (1, heads, n, head_dim)
            finish_layer(block, shapes, x, attended[0].transpose(0, 1).flatten(1))

    def prefill_padded(self, cache: KvCache, row: Tensor, positions: Tensor, x: Tensor, window: int) -> None:
        """The same for tokens at `positions` (n,) of the row (1,), both on the device: x (n, hidden).

        Each sees the row's first `window` positions up to its own, once all are written. x is used up.
        """
        shapes = self.shapes.backbone
        lines = cache.lines_of(row, positions)
        cos, sin = self._rotary.at(positions)
        mask = _additive(self._columns[:window] <= positions.unsqueeze(1), x.dtype)
        mask = mask.unsqueeze(1).expand(-1, shapes.group, -1).flatten(0, 1)  # (n·group, window)
        for layer, block in enumerate(self._blocks):
            queries, kv = queries_and_kv(block, shapes, x, cos, sin)
            cache.write(layer, lines, kv)
            if layer == len(self._blocks) - 1:
                return
            keys, values = cache.read_row(layer, row, window)
            finish_layer(block, shapes, x, attend(queries, keys, values, mask))

    def backbone(self, cache: KvCache, x: Tensor, positions: Tensor, window: int) -> Tensor:
        """One token a row through the backbone: x (B, hidden), used up → its normed state (B, hidden).

        The token of row b is written at positions[b] (B,) and sees those up to it. `window` is wider than any
        position of a row whose result matters.
        """
        shapes, batch = self.shapes.backbone, x.shape[0]
        lines = cache.lines(positions)
        cos, sin = self._rotary.at(positions)
        mask = _additive(self._columns[:window] <= positions.unsqueeze(1), x.dtype)
        mask = mask.view(batch, 1, 1, window).expand(-1, -1, shapes.group, -1)
        for layer, block in enumerate(self._blocks):
            queries, kv = queries_and_kv(block, shapes, x, cos, sin)
            cache.write(layer, lines, kv)
            keys, values = cache.read(layer, batch, window)
            finish_layer(block, shapes, x, attend(queries, keys, values, mask))
        return self._norm(x)

    def frame_codes(self, state: Tensor, draws: Tensor, choose: Choose) -> Tensor:
        """All codes of a frame: the backbone's state (B, hidden), draws (B, 32) → (B, 32)."""
        shapes = self.shapes
        code = choose(self._head.times(state), draws[:, :1])  # (B,)
        codes = [code]
        pair = torch.stack((self._depth_projector.times(state), self._depth_input(code, 0)), dim=1)
        x = self._depth(pair.flatten(0, 1), position=0, tokens=2)[1::2]  # the second of each pair
        for codebook in range(1, shapes.codebooks):
            logits = self._depth_heads[codebook - 1].times(self._depth_norm(x))
            code = choose(logits, draws[:, codebook : codebook + 1])
            codes.append(code)
            if codebook + 1 < shapes.codebooks:
                x = self._depth(self._depth_input(code, codebook), position=codebook + 1, tokens=1)
        return torch.stack(codes, dim=1)

    def _depth_input(self, code: Tensor, codebook: int) -> Tensor:
        """Projected embeddings of a codebook's codes: (B,) → (B, depth hidden)."""
        return F.embedding(code, self._depth_embeddings[codebook])

    def _depth(self, x: Tensor, *, position: int, tokens: int) -> Tensor:
        """`tokens` tokens a row through the depth decoder, in place: x (B·tokens, depth hidden).

        Its cache needs no reset: a frame overwrites it from position 0 and never reads ahead of itself.
        """
        shapes, batch, end = self.shapes.depth, x.shape[0] // tokens, position + tokens
        cos, sin = self._depth_rotary.at(slice(position, end))  # (tokens, 1, head_dim)
        if tokens > 1:
            cos, sin = cos.repeat(batch, 1, 1), sin.repeat(batch, 1, 1)
        mask = self._pair_mask if tokens > 1 else None
        for layer, block in enumerate(self._depth_blocks):
            queries, kv = queries_and_kv(block, shapes, x, cos, sin)
            cache = self._depth_cache[layer, :, :batch]  # (2, B, kv_heads, 32, head_dim)
            fresh = kv.view(batch, tokens, 2, shapes.kv_heads, shapes.head_dim)
            cache[:, :, :, position:end] = fresh.permute(2, 0, 3, 1, 4)
            attended = attend(queries, cache[0, :, :, :end], cache[1, :, :, :end], mask)
            finish_layer(block, shapes, x, attended)
        return x


def _additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where `seen`, -inf elsewhere."""
    return torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, float("-inf"))
