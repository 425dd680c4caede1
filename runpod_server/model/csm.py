"""CSM for many streams at once: a step moves the chosen slots on by one 80 ms frame, all in static buffers.

A slot is a stream's place: its positions in the KV cache, the input it goes on from, its sampling. A frame
is that input through the backbone, 32 codes, and their embedding as the next input. The oracle is
transformers' own generate. One thread, on CUDA one stream. Knows nothing of requests, text, sound or time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from runpod_server.model.config import CsmShapes
from runpod_server.model.graphs import FrameGraphs
from runpod_server.model.kv_cache import KvCache, RowMap
from runpod_server.model.network import CsmNetwork
from runpod_server.model.prefill import PIECE_LENGTHS, PaddedPrefill
from runpod_server.model.prompt import Prompt
from runpod_server.model.quantize import Weights
from runpod_server.model.sampling import Sampling, SamplingRows

_SMALLEST_WINDOW = 64


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of each stepped slot, on the model's device, in the order the slots were given."""

    codes: Tensor  # (B, 32) int64, every one a code Mimi can decode
    is_eos: Tensor  # (B,) bool: all 32 are the end code; such a frame is no sound


@dataclass(frozen=True, slots=True)
class Prefix:
    """What a slot held at some moment, to be put into any slot: a voice, or a conversation so far."""

    kv: Tensor  # (layers, 2, kv_heads, length, head_dim)
    pending: Tensor  # (hidden,)

    @property
    def positions(self) -> int:
        """How many of the model's positions it takes."""
        return self.kv.shape[3] + 1


class CsmRunner:
    """`slots` streams over one loaded CsmForConditionalGeneration.

    `max_positions`: prompt and frames of a stream together, at most (and by default) what the model was made
    for. `use_graphs`: CUDA graphs for every bucket and window, captured by `warm`; off, or on a CPU: eager.
    `pack_weights`: on a CPU, a second copy of the weights in the order that is fastest to read. `weights`
    other than "full": the layers' matrices in 8 bits, and the model's own are given up; its `generate` works
    no more. Raises EngineUnavailable where torchao is missing or the device cannot multiply them.
    `piece_lengths`: prompts are read in pieces padded to these, see prefill.py; none: whole, at their own
    length, as is faster where no graph is replayed. By default the first on CUDA, with graphs and without,
    so that both round alike, and the second on a CPU.
    """

    def __init__(
        self,
        model: Any,
        *,
        slots: int,
        max_positions: int | None = None,
        use_graphs: bool = True,
        pack_weights: bool = True,
        weights: Weights = "full",
        piece_lengths: Sequence[int] | None = None,
    ) -> None:
        if slots < 1:
            raise ValueError(f"a runner needs at least one slot, not {slots}")
        self.shapes = shapes = CsmShapes.from_config(model.config)
        self.slots = slots
        self.max_positions = min(max_positions or shapes.max_positions, shapes.max_positions)
        self.buckets = tuple(_doubling(1, slots))
        self.windows = tuple(_doubling(min(_SMALLEST_WINDOW, self.max_positions), self.max_positions))
        self._network = CsmNetwork(
            model,
            shapes,
            rows=slots,
            positions=self.max_positions + 1,
            pack=pack_weights,
            weights=weights,
        )
        self.device = self._network.device
        self._make_buffers()
        graphed = use_graphs and self.device.type == "cuda"
        # Two graphs a frame: only the first depends on the window, and the second has ten times its kernels.
        self._thinking = FrameGraphs(self._think, enabled=graphed)
        self._saying = FrameGraphs(self._say, enabled=graphed)
        if piece_lengths is None:
            piece_lengths = PIECE_LENGTHS if self.device.type == "cuda" else ()
        self._padded: PaddedPrefill | None = None
        if piece_lengths:
            self._padded = PaddedPrefill(
                self._network, self._cache, self.max_positions, lengths=piece_lengths, use_graphs=graphed
            )

    def _make_buffers(self) -> None:
        slots, device, dtype = self.slots, self.device, self._network.dtype
        self._rows = RowMap(slots)
        # By row, on the device.
        self._cache = KvCache(self.shapes.backbone, slots, self.max_positions, device, dtype)
        self._sampling = SamplingRows(slots, device, self.shapes.sound_codes)
        self._pending = torch.zeros(slots, self.shapes.backbone.hidden, device=device, dtype=dtype)
        self._state = torch.zeros_like(self._pending)  # what the backbone made of it, within a frame
        self._position = torch.zeros(slots, dtype=torch.int64, device=device)  # tokens in the cache
        self._frames_made = torch.zeros(slots, dtype=torch.int64, device=device)  # since `begin`
        self._advance = torch.zeros(slots, dtype=torch.bool, device=device)
        self._codes = torch.zeros(slots, self.shapes.codebooks, dtype=torch.int64, device=device)
        self._is_eos = torch.zeros(slots, dtype=torch.bool, device=device)
        # By slot, on the host, so that no decision waits for the device.
        self._length = [0] * slots
        self._has_pending = [False] * slots
        # The rows of the last step, on both.
        self._stepped: list[int] = []
        self._stepped_rows = torch.zeros(0, dtype=torch.int64, device=device)

    # What a slot holds

    def positions(self, slot: int) -> int:
        """How many of the model's positions the slot takes up."""
        return self._length[slot] + self._has_pending[slot]

    def room(self, slot: int) -> int:
        """How many more positions can be appended."""
        # After the last frame its codes wait as an input that there is no position for.
        return max(0, self.max_positions - self.positions(slot))

    def frames_left(self, slot: int) -> int:
        """How many frames can be made before the model's positions end; 0 without a prompt."""
        return self.max_positions - self._length[slot] if self._has_pending[slot] else 0

    def reset(self, slot: int) -> None:
        """Forget all the slot holds, on the host alone: what is read next says on the device where it ends.

        Its memory is not touched: nothing reads past a stream's length.
        """
        self._has_pending[slot] = False
        self._length[slot] = 0

    def drop_input(self, slot: int) -> None:
        """Forget the input the slot would go on from, as of a frame past its end; what it read stays."""
        self._has_pending[slot] = False

    def begin(self, slot: int, sampling: Sampling) -> None:
        """Sampling of the utterance to come. Its frames count from 0, whatever the slot holds."""
        row = self._rows.row(slot)
        self._sampling.set(row, sampling)
        self._frames_made[row] = 0

    @torch.inference_mode()
    def embed(self, prompt: Prompt) -> Tensor:
        """A prompt as the backbone's input: (n, hidden)."""
        ids, network, shapes = prompt.ids, self._network, self.shapes
        embeds = network.embed_text(self._upload(ids))
        audio_at = (ids == shapes.audio_id).nonzero()[:, 0]
        if audio_at.shape[0]:
            frames = network.embed_frames(self._upload(prompt.codes))
            embeds.index_copy_(0, self._upload(audio_at), frames)
        ends_at = (ids == shapes.audio_eos_id).nonzero()[:, 0]
        if ends_at.shape[0]:
            codes = torch.full((ends_at.shape[0], shapes.codebooks), shapes.eos_code, device=self.device)
            embeds.index_copy_(0, self._upload(ends_at), network.embed_frames(codes))
        return embeds

    @torch.inference_mode()
    def prefill(self, slot: int, embeds: Tensor) -> None:
        """Append input embeddings (n, hidden) to what the slot holds, all at once or in pieces.

        All but the last go through the backbone; the last waits as the next step's input. So the first frame
        costs no more than any other, and a prompt of one token no prefill at all.

        Raises ValueError when they do not fit.
        """
        count, room = embeds.shape[0], self.room(slot)
        if count > room:
            raise ValueError(
                f"a prompt of {count} positions does not fit into slot {slot}: of its {self.max_positions} "
                f"{room} are left"
            )
        if not count:
            return
        row, start = self._rows.row(slot), self._length[slot]
        if self._has_pending[slot]:
            embeds = torch.cat((self._pending[row : row + 1], embeds))
        if embeds.shape[0] > 1:
            self._read(row, start, embeds[:-1])
        self._pending[row] = embeds[-1]
        self._has_pending[slot] = True
        self._set_length(slot, start + embeds.shape[0] - 1)

    def _read(self, row: int, start: int, embeds: Tensor) -> None:
        if self._padded is None:
            self._network.prefill(self._cache, row, start, embeds.clone())
        else:
            self._padded.read(row, start, embeds)

    @torch.inference_mode()
    def save_prefix(self, slot: int) -> Prefix:
        """A copy of what the slot holds. Raises ValueError when that is nothing."""
        if not self._has_pending[slot]:
            raise ValueError(f"slot {slot} holds nothing to save: prefill it first")
        row = self._rows.row(slot)
        return Prefix(self._cache.save(row, self._length[slot]), self._pending[row].clone())

    @torch.inference_mode()
    def copy_prefix(self, prefix: Prefix, slot: int) -> None:
        """Make the slot hold `prefix` and nothing else: what prefilling it again would give."""
        row = self._rows.row(slot)
        self._cache.restore(row, prefix.kv)
        self._pending[row] = prefix.pending
        self._has_pending[slot] = True
        self._set_length(slot, prefix.positions - 1)

    def _set_length(self, slot: int, length: int) -> None:
        self._length[slot] = length
        self._position[self._rows.row(slot)] = length

    def _upload(self, host: Tensor) -> Tensor:
        if self.device.type != "cuda":
            return host
        return host.pin_memory().to(self.device, non_blocking=True)

    # One frame

    @torch.inference_mode()
    def step(self, slots: Sequence[int]) -> Frame:
        """Move every slot of `slots` on by one frame; the others keep still.

        Raises ValueError for a slot that cannot go on (see `frames_left`) or stands there twice.
        """
        for slot in slots:
            if not self.frames_left(slot):
                raise ValueError(self._why_not(slot))
        bucket, window = self._arrange(slots)
        self._thinking.run((bucket, window))
        self._saying.run((bucket,))
        for slot in slots:
            self._length[slot] += 1
        rows = self._stepped_rows
        return Frame(self._codes.index_select(0, rows), self._is_eos.index_select(0, rows))

    @torch.inference_mode()
    def warm(self) -> None:
        """Capture the graphs of every frame and every prompt. Nothing that any slot holds is changed."""
        self._mark_stepped([])
        self._thinking.capture(product(self.buckets, self.windows))
        self._saying.capture((bucket,) for bucket in self.buckets)
        if self._padded is not None:
            self._padded.capture()

    def _why_not(self, slot: int) -> str:
        if not self._has_pending[slot]:
            return f"slot {slot} has no prompt: prefill it before stepping"
        return f"slot {slot} is at the limit of {self.max_positions} positions: end its utterance"

    def _arrange(self, slots: Sequence[int]) -> tuple[int, int]:
        """Bring the slots into the first rows, mark them; the smallest bucket and window that hold them."""
        if len(set(slots)) != len(slots) or not slots:
            raise ValueError(f"a step takes one or more slots, each once, not {list(slots)}")
        bucket = next(size for size in self.buckets if size >= len(slots))
        for outside, inside in self._rows.moves(slots, bucket):
            self._exchange(outside, inside)
        rows = [self._rows.row(slot) for slot in slots]
        if rows != self._stepped:
            self._mark_stepped(rows)
        longest = max(self._length[slot] for slot in slots) + 1
        return bucket, next(width for width in self.windows if width >= longest)

    def _mark_stepped(self, rows: list[int]) -> None:
        self._stepped = rows
        self._stepped_rows = self._upload(torch.tensor(rows, dtype=torch.int64))
        self._advance.zero_()
        self._advance.index_fill_(0, self._stepped_rows, True)

    def _exchange(self, a: int, b: int) -> None:
        """Swap all that two rows hold."""
        a_length, b_length = (self._length[self._rows.slot(row)] for row in (a, b))
        self._cache.exchange(a, b, a_length, b_length)
        for state in (self._pending, self._position, self._frames_made, *self._sampling.tensors()):
            of_b = state[b].clone()
            state[b] = state[a]
            state[a] = of_b
        self._rows.exchange(a, b)

    # A frame of the first `bucket` rows, in two halves. They touch the device alone: graphs capture them.
    # Rows that do not advance ride along: they write one position that their own next step writes again.

    def _think(self, bucket: int, window: int) -> None:
        """The pending inputs through the backbone."""
        pending, position = self._pending[:bucket], self._position[:bucket]
        self._state[:bucket] = self._network.backbone(self._cache, pending.clone(), position, window)

    def _say(self, bucket: int) -> None:
        """The codes, and what they make the next input."""
        network, advance = self._network, self._advance[:bucket]
        pending, position = self._pending[:bucket], self._position[:bucket]
        draws = self._sampling.draws(self._frames_made[:bucket], self.shapes.codebooks)
        codes = network.frame_codes(self._state[:bucket], draws, self._sampling.choose)  # (B, 32)
        self._codes[:bucket] = codes
        self._is_eos[:bucket] = (codes == self.shapes.eos_code).all(dim=1)
        pending.copy_(torch.where(advance.unsqueeze(1), network.embed_frames(codes), pending))
        position += advance
        self._frames_made[:bucket] += advance


def _doubling(first: int, last: int) -> Iterator[int]:
    """first, 2 first, 4 first … below last, and last itself."""
    size = first
    while size < last:
        yield size
        size *= 2
    yield last
