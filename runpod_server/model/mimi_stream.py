"""Mimi's decoder as a stream: a few frames of codes in, the very samples a whole decode would give there out.

Every slot keeps its own place: what the convolutions still need of the past, what the transposed ones owe to
the future, and a sliding window of keys and values. It knows nothing of requests, sampling, queues or time.

transformers caches only the transformer between calls to `decode`, so its convolutions start afresh and leave
a seam at each chunk (modeling_mimi.py, `MimiDecoderModel.forward`). Here the state is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from runpod_server.errors import EngineUnavailable
from runpod_server.model.graphs import FrameGraphs
from runpod_server.model.mimi_layers import (
    Dequantizer,
    PassState,
    RowPlan,
    TransposedConv,
    WindowedTransformer,
    streaming_layer,
)

FRAMES_PER_PASS = 4  # longer chunks are cut: it bounds the ring, and with it the memory of every slot


class MimiStream:
    """A batched Mimi decoder of `slots` independent streams.

    Not thread-safe: one thread, and on CUDA one stream, calls `decode` and `reset`.

    `use_graphs`: passes of one frame run in static buffers, the batch rounded up to 1, 2, 4, 8 …; `capture`
    makes CUDA graphs of them. Without it (the slow twin) the same code runs eagerly, at the exact size.

    Raises EngineUnavailable for a codec that cannot be streamed (not causal, reflecting pads, not mono).
    """

    def __init__(self, codec_model: nn.Module, slots: int, *, use_graphs: bool = False) -> None:
        if slots < 1:
            raise ValueError(f"A Mimi stream needs at least one slot, not {slots}.")
        codec: Any = codec_model
        _refuse_what_cannot_stream(codec)
        decoder = codec.decoder
        weight: Tensor = decoder.decoder_seanet.layers[0].conv.weight
        self.slots, self.device = slots, weight.device

        plan = RowPlan()
        self._quantizer = Dequantizer(codec.quantizer)
        self._upsample = TransposedConv(decoder.upsample, plan)
        self._seanet = [streaming_layer(module, plan) for module in decoder.decoder_seanet.layers]
        with torch.no_grad():
            # One slot more than asked for: the rows that fill up a bucket live in the last.
            self._transformer = WindowedTransformer(
                decoder.decoder_transformer,
                slots=slots + 1,
                tokens_per_pass=FRAMES_PER_PASS * self._upsample.stride,
                like=weight,
            )
            self._rows = weight.new_zeros(slots + 1, plan.width)  # every convolution's state, side by side
            self._positions = torch.zeros(slots + 1, dtype=torch.long, device=self.device)  # in tokens

        strides = [layer.stride for layer in self._seanet if isinstance(layer, TransposedConv)]
        self.samples_per_frame = self._upsample.stride
        for stride in strides:
            self.samples_per_frame *= stride
        self._buckets: _Buckets | None = None
        if use_graphs:
            self._buckets = _Buckets(
                self._advance,
                slots=slots,
                codebooks=self._quantizer.codebooks,
                samples=self.samples_per_frame,
                device=self.device,
            )

    @property
    def spare_slot(self) -> int:
        """Takes, on a GPU, the codes of streams that are not to move on; its sound means nothing."""
        return self.slots

    @property
    def bytes_per_slot(self) -> int:
        """Memory one more slot costs."""
        state = (self._rows, self._transformer.ring, self._positions)
        return sum(tensor.nbytes for tensor in state) // (self.slots + 1)

    @torch.no_grad()
    def decode(self, slot_ids: Sequence[int] | Tensor, codes: Tensor) -> Tensor:
        """Decodes the next T frames of B streams and moves each of them on by T.

        `slot_ids`: B different slots. `codes`: (B, K, T) whole numbers, K up to the codec's codebooks.
        Returns (B, samples_per_frame * T) float32 on the codec's device. A code outside its codebook (CSM's
        vocabulary is three larger than Mimi's) counts as the nearest one in it: on a GPU such an index would
        end the process, and with it every stream. A pass that fails leaves its streams where they were.

        Raises ValueError for an unknown or repeated slot (a tensor already on the GPU is taken as it is:
        looking would stall it) and for a wrong shape or type of `codes`.
        """
        self._check_codes(codes)
        ids = self._check_slots(slot_ids, batch=codes.shape[0])
        codes = codes.to(self.device, torch.long, non_blocking=True)
        passes = [self._pass(ids, piece) for piece in torch.split(codes, FRAMES_PER_PASS, dim=2)]
        return passes[0] if len(passes) == 1 else torch.cat(passes, dim=1)

    @torch.no_grad()
    def reset(self, slot: int) -> None:
        """Takes one slot back to the start of a stream, in place. Raises ValueError for an unknown slot."""
        self._check_slot(slot)
        self._rows[slot].zero_()
        self._positions[slot].zero_()
        self._transformer.ring[:, slot].zero_()  # masked anyway, but a masked NaN is still a NaN

    @torch.no_grad()
    def capture(self, codebooks: int) -> None:
        """Captures the graphs of passes of one frame; without it, or off CUDA, such passes run eagerly.

        Raises torch.OutOfMemoryError.
        """
        if self._buckets is not None:
            self._buckets.capture(codebooks)

    def _pass(self, ids: Tensor, codes: Tensor) -> Tensor:
        if self._buckets is not None and codes.shape[2] == 1:
            return self._buckets(ids, codes)
        return self._advance(ids, codes)

    def _advance(self, ids: Tensor, codes: Tensor) -> Tensor:
        """(B,), (B, K, T) → (B, samples). State changes for good only at the end."""
        positions = self._positions.index_select(0, ids)  # (B,)
        state = PassState(rows=self._rows.index_select(0, ids), fresh=positions == 0)
        x = self._quantizer(codes)  # (B, hidden, T)
        x = self._upsample(x, state)  # (B, hidden, N): tokens
        tokens = x.shape[2]
        x = self._transformer(x, ids, positions)
        for layer in self._seanet:
            x = layer(x, state)  # at last (B, 1, samples)
        self._rows.index_copy_(0, ids, state.rows)
        self._positions.index_copy_(0, ids, positions + tokens)
        return x[:, 0].float()

    def _check_codes(self, codes: Tensor) -> None:
        known = self._quantizer.codebooks
        if codes.ndim != 3 or codes.shape[0] < 1 or codes.shape[2] < 1 or not 1 <= codes.shape[1] <= known:
            raise ValueError(
                f"Codes must be (streams, 1 to {known} codebooks, frames), none of them empty; "
                f"got {tuple(codes.shape)}."
            )
        if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
            raise ValueError(f"Codes must be whole numbers, not {codes.dtype}.")

    def _check_slots(self, slot_ids: Sequence[int] | Tensor, *, batch: int) -> Tensor:
        if isinstance(slot_ids, Tensor):
            if slot_ids.ndim != 1 or slot_ids.dtype != torch.long:
                raise ValueError(
                    f"Slots must be a vector of int64, not {tuple(slot_ids.shape)} of {slot_ids.dtype}."
                )
            on_host = None if slot_ids.device.type == "cuda" else slot_ids.tolist()
        else:
            on_host = list(slot_ids)
        count = slot_ids.shape[0] if isinstance(slot_ids, Tensor) else len(slot_ids)
        if count != batch:
            raise ValueError(f"Each slot needs its row of codes: {count} slots, {batch} rows.")
        if on_host is not None:
            for slot in on_host:
                self._check_slot(slot)
            if len(set(on_host)) != count:
                raise ValueError(f"A slot may appear once in a call: {on_host}.")
        if isinstance(slot_ids, Tensor) and slot_ids.device == self.device:
            return slot_ids
        ids = torch.as_tensor(slot_ids, dtype=torch.long)
        # Pinned, the copy does not wait for the GPU to finish what it is at.
        return ids.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else ids

    def _check_slot(self, slot: int) -> None:
        if isinstance(slot, bool) or not isinstance(slot, int) or not 0 <= slot < self.slots:
            raise ValueError(f"There is no slot {slot!r}: slots are 0 to {self.slots - 1}.")


def _refuse_what_cannot_stream(codec: Any) -> None:
    config = codec.config
    reasons = {
        "it has no decoder": codec.decoder is None,
        "its convolutions look ahead (use_causal_conv is false)": not config.use_causal_conv,
        "its transposed convolutions look ahead (trim_right_ratio is not 1)": config.trim_right_ratio != 1.0,
        f"its pads are {config.pad_mode!r}": config.pad_mode not in ("constant", "replicate"),
        f"it has {config.audio_channels} audio channels": config.audio_channels != 1,
        "it has no upsampling": codec.decoder is not None and codec.decoder.upsample is None,
    }
    for reason, holds in reasons.items():
        if holds:
            raise EngineUnavailable(f"This codec cannot be streamed: {reason}. CSM's own codec can.")


class _Buckets:
    """Passes of one frame in buffers that never move, the batch rounded up to 1, 2, 4, 8 … rows.

    Spare rows decode into the scratch slot. On CUDA a captured size is replayed as a graph.
    """

    def __init__(
        self,
        advance: Callable[[Tensor, Tensor], Tensor],
        *,
        slots: int,
        codebooks: int,
        samples: int,
        device: torch.device,
    ) -> None:
        self._advance, self._scratch = advance, slots
        self._largest = _rounded_up(slots)
        self._ids = torch.full((self._largest,), self._scratch, dtype=torch.long, device=device)
        self._codes = torch.zeros(self._largest, codebooks, 1, dtype=torch.long, device=device)
        self._pcm = torch.zeros(self._largest, samples, device=device)
        self._graphs = FrameGraphs(self._frame, enabled=device.type == "cuda")

    def capture(self, codebooks: int) -> None:
        self._ids.fill_(self._scratch)
        sizes = [1 << power for power in range(self._largest.bit_length())]
        self._graphs.capture((size, codebooks) for size in sizes)

    def __call__(self, ids: Tensor, codes: Tensor) -> Tensor:  # (B,), (B, K, 1) → (B, samples)
        batch, codebooks = codes.shape[:2]
        size = _rounded_up(batch)
        self._ids[:batch].copy_(ids)
        self._ids[batch:size].fill_(self._scratch)
        self._codes[:batch, :codebooks].copy_(codes)
        self._graphs.run((size, codebooks))
        return self._pcm[:batch].clone()  # the next pass writes over the original

    def _frame(self, size: int, codebooks: int) -> None:
        self._pcm[:size].copy_(self._advance(self._ids[:size], self._codes[:size, :codebooks]))


def _rounded_up(batch: int) -> int:
    return 1 << (batch - 1).bit_length()
