"""The loaded model as the engine's one thread uses it: slots that read a prompt, make frames and sound.

Everything torch does in a running server happens here. Knows nothing of clients, queues or time.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runpod_server.errors import BadRequest, EngineUnavailable, OutOfMemory
from runpod_server.model.csm import CsmRunner, Prefix
from runpod_server.model.device import is_out_of_memory
from runpod_server.model.mimi_stream import MimiStream
from runpod_server.model.prompt import (
    Prompt,
    Turn,
    build_prompt,
    encode_recording,
    newest_that_fit,
    turn_positions,
)
from runpod_server.model.quantize import Weights
from runpod_server.model.sampling import Sampling
from runpod_server.model.weights import LoadedCsm
from runpod_server.voices.recording import Samples
from runpod_server.voices.store import ReferenceVoice

log = logging.getLogger(__name__)

_MAX_PREFIXES = 64  # voices kept on the device; a long one takes 15 MB of CSM-1B's cache
_WARM_FRAMES = 4

Codes = NDArray[np.int64]  # (32,)


@dataclass(frozen=True, slots=True)
class MadeFrame:
    """One frame of one slot, on the host. Of an `is_eos` frame, codes and sound mean nothing."""

    codes: Codes
    is_eos: bool
    pcm16: bytes
    loudness: float  # root mean square of samples in -1 … 1


@dataclass(frozen=True, slots=True)
class Pending:
    """A frame under way: where it will lie on the host, and when."""

    codes: Tensor  # (B, 32)
    is_eos: Tensor  # (B,)
    pcm16: Tensor  # (B, 1920) int16
    loudness: Tensor  # (B,)
    ready: torch.cuda.Event | None


class Stage:
    """`slots` places for utterances on one loaded model. One thread only.

    `lag`: how many frames later than made they may be collected; on a GPU one, so that it never waits for
    the host. `weights`: of the model's layers, full or in 8 bits. Raises EngineUnavailable when the slots do
    not fit into memory, or such weights cannot be had here.
    """

    def __init__(
        self,
        loaded: LoadedCsm,
        *,
        slots: int,
        use_graphs: bool = True,
        lag: int | None = None,
        weights: Weights = "full",
    ) -> None:
        self._loaded, self.slots = loaded, slots
        self._on_gpu = loaded.device.type == "cuda"
        self.device: Literal["cuda", "cpu"] = "cuda" if self._on_gpu else "cpu"
        self.lag = int(self._on_gpu) if lag is None else lag
        graphed = use_graphs and self._on_gpu
        self._fitting = partial(_fitting, slots, _free_bytes(loaded), _kv_bytes(loaded))
        with self._fitting():
            self._runner = CsmRunner(loaded.model, slots=slots, use_graphs=graphed, weights=weights)
            self._mimi = MimiStream(loaded.model.codec_model, slots, use_graphs=graphed)
        self.max_positions = self._runner.max_positions
        self._prefixes: OrderedDict[str, Prefix] = OrderedDict()
        # Slots that made their end frame since `begin`.
        self._ended = torch.zeros(slots, dtype=torch.bool, device=loaded.device)
        self._ids: tuple[tuple[int, ...], Tensor] = ((), torch.zeros(0, dtype=torch.int64))

    def warm(self, voices: Sequence[ReferenceVoice]) -> None:
        """Capture graphs, read every voice, and speak a little. Raises EngineUnavailable."""
        with self._fitting():
            self._runner.warm()
            if self._on_gpu:
                self._mimi.capture(self._loaded.shapes.codebooks)
            for voice in voices[:_MAX_PREFIXES]:
                self._read_voice(0, voice)
            self.open(0)
            self.read(0, None, [], 0, "Ready to speak.", frames=_WARM_FRAMES)
            self.begin(0, temperature=0.0, top_k=0, seed=0)
            for _ in range(min(_WARM_FRAMES, self.frames_left(0))):
                self.collect(self.step([0]))
            self._runner.reset(0)

    # A slot's prompt

    def open(self, slot: int) -> None:
        """A new utterance: the sound begins anew. What the slot has read stays."""
        self._mimi.reset(slot)

    def read(
        self,
        slot: int,
        voice: ReferenceVoice | None,
        said: Sequence[Turn],
        speaker_id: int,
        text: str,
        *,
        frames: int,
    ) -> None:
        """Have the slot read the voice, as much of what was `said` before as fits, and the text to speak.

        Room for `frames` frames is left. Raises BadRequest when even so the text does not fit, OutOfMemory.
        """
        with _remembering():
            if voice is None:
                self._runner.reset(slot)
            else:
                self._read_voice(slot, voice)
            prompt = self._prompt([Turn(speaker_id, text)])
            spare = self._runner.room(slot) - prompt.positions - frames
            # Not to the brim: else every turn from then on would drop one, and be read with all before it.
            spare = min(spare, self.max_positions // 2)
            recent = newest_that_fit(said, self._loaded.tokenizer, self._loaded.shapes, positions=spare)
            self._append(slot, self._prompt(recent))
            self._append(slot, prompt)

    def read_on(self, slot: int, speaker_id: int, text: str, *, frames: int, ended: bool) -> bool:
        """Have the slot read one more text after all it holds; False, and nothing done, where it has no room.

        `ended`: the model ended what it said last by itself; else its end is written for it.
        """
        prompt = self._prompt([Turn(speaker_id, text)])
        if prompt.positions + frames + 1 > self._runner.room(slot):
            return False
        if not ended:
            end = torch.tensor([self._loaded.shapes.audio_eos_id])
            prompt = Prompt(torch.cat((end, prompt.ids)), prompt.codes)
        with _remembering():
            self._append(slot, prompt)
        return True

    def take_back(self, slot: int) -> None:
        """The slot went one frame beyond its end, which was not known yet; it goes on from its end."""
        self._runner.drop_input(slot)

    def begin(self, slot: int, *, temperature: float, top_k: int, seed: int) -> None:
        """The frames to come are sampled so; their randomness counts from here."""
        self._runner.begin(slot, Sampling(temperature, top_k, seed))
        self._ended[slot] = False

    def release(self, slot: int) -> None:
        """What the slot holds is not needed any more, and need not be moved with it."""
        self._runner.reset(slot)

    def frames_left(self, slot: int) -> int:
        """How many frames the model's positions allow the slot."""
        return self._runner.frames_left(slot)

    def said(self, speaker_id: int, text: str, codes: Sequence[Codes]) -> tuple[Turn, int]:
        """A turn that was spoken, as context, and the positions it takes."""
        turn = Turn(speaker_id, text, torch.from_numpy(np.stack(codes)))
        return turn, turn_positions(turn, self._loaded.tokenizer, self._loaded.shapes)

    def heard(self, speaker_id: int, text: str, samples: Samples) -> tuple[Turn, int]:
        """A turn that somebody else spoke, as context, and the positions it takes. samples (n,), 24 kHz.

        Raises OutOfMemory.
        """
        with _remembering():
            codes = encode_recording(self._loaded.model.codec_model, torch.from_numpy(samples))
        turn = Turn(speaker_id, text, codes)
        return turn, turn_positions(turn, self._loaded.tokenizer, self._loaded.shapes)

    def listen(self, slot: int, turn: Turn) -> bool:
        """Have the slot read a turn after all it holds, ended; False, and nothing done, without room for it.

        Raises OutOfMemory.
        """
        prompt = self._prompt([turn])
        if prompt.positions > self._runner.room(slot):
            return False
        with _remembering():
            self._append(slot, prompt)
        return True

    def drop_voice(self, digest: str) -> None:
        """Free what is kept of a voice that is no more."""
        self._prefixes.pop(digest, None)

    def _read_voice(self, slot: int, voice: ReferenceVoice) -> None:
        """The voice's prefix is read once and copied from then on: under causality the same."""
        prefix = self._prefixes.get(voice.digest)
        if prefix is not None:
            self._prefixes.move_to_end(voice.digest)
            self._runner.copy_prefix(prefix, slot)
            return
        codes = encode_recording(self._loaded.model.codec_model, torch.from_numpy(voice.samples()))
        self._runner.reset(slot)
        self._append(slot, self._prompt([Turn(voice.prompt_speaker, voice.transcript, codes)]))
        self._prefixes[voice.digest] = self._runner.save_prefix(slot)
        while len(self._prefixes) > _MAX_PREFIXES:
            self._prefixes.popitem(last=False)

    def _prompt(self, turns: Sequence[Turn]) -> Prompt:
        return build_prompt(turns, self._loaded.tokenizer, self._loaded.shapes)

    def _append(self, slot: int, prompt: Prompt) -> None:
        if prompt.positions > self._runner.room(slot):
            raise BadRequest(
                f"the text and its voice take more than the model's {self.max_positions} positions: send the "
                "text in shorter sentences, or use a voice with a shorter recording",
                field="text",
            )
        self._runner.prefill(slot, self._runner.embed(prompt))

    # A frame

    def step(self, slots: Sequence[int]) -> Pending:
        """One frame of every slot, as yet under way. Raises OutOfMemory."""
        with _remembering(), torch.inference_mode():
            frame = self._runner.step(slots)
            speak = self._speak_on_gpu if self._on_gpu else self._speak_on_cpu
            pcm = speak(slots, frame.codes, frame.is_eos)  # (B, 1920)
            loudness = pcm.square().mean(dim=1).sqrt()
            pcm16 = (pcm.clamp(-1.0, 1.0) * 32767.0).round_().to(torch.int16)
            if not self._on_gpu:
                return Pending(frame.codes, frame.is_eos, pcm16, loudness, ready=None)
            copies = [_copied(tensor) for tensor in (frame.codes, frame.is_eos, pcm16, loudness)]
            # Blocking: whoever waits sleeps, instead of keeping a core busy.
            ready = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call, unused-ignore]
            ready.record()
            return Pending(copies[0], copies[1], copies[2], copies[3], ready)

    def collect(self, pending: Pending) -> list[MadeFrame]:
        """The frames, in the order of the slots; waits until they are there. Raises OutOfMemory."""
        if pending.ready is not None:
            pending.ready.synchronize()
        codes, pcm16 = pending.codes.numpy(), pending.pcm16.numpy()
        flags, loudness = pending.is_eos.tolist(), pending.loudness.tolist()
        return [
            MadeFrame(codes[row].copy(), flags[row], pcm16[row].tobytes(), loudness[row])
            for row in range(len(flags))
        ]

    def _speak_on_cpu(self, slots: Sequence[int], codes: Tensor, is_eos: Tensor) -> Tensor:
        """codes (B, 32), is_eos (B,) → (B, 1920). After its end a slot is silent, its decoder at rest."""
        ids = self._device_ids(slots)
        self._ended[ids] |= is_eos
        rows = (~self._ended[ids]).nonzero()[:, 0]
        pcm = torch.zeros(len(slots), self._mimi.samples_per_frame)
        if rows.shape[0]:
            pcm[rows] = self._mimi.decode([slots[row] for row in rows.tolist()], codes[rows].unsqueeze(2))
        return pcm

    def _speak_on_gpu(self, slots: Sequence[int], codes: Tensor, is_eos: Tensor) -> Tensor:
        """The same without waiting for the GPU: a slot after its end is decoded in the spare one instead."""
        ids = self._device_ids(slots)
        self._ended[ids] |= is_eos
        return self._mimi.decode(
            torch.where(self._ended[ids], self._mimi.spare_slot, ids), codes.unsqueeze(2)
        )

    def _device_ids(self, slots: Sequence[int]) -> Tensor:
        known, ids = self._ids
        if known != tuple(slots):
            ids = torch.tensor(slots, dtype=torch.int64)
            if self._on_gpu:
                ids = ids.pin_memory().to(self._loaded.device, non_blocking=True)
            self._ids = (tuple(slots), ids)
        return ids


def _copied(tensor: Tensor) -> Tensor:
    """A copy under way to pinned memory of the host. The allocator reuses it once it is dropped and done."""
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


@contextmanager
def _remembering() -> Iterator[None]:
    """Out of memory in whatever form → OutOfMemory."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            "the model ran out of memory on this request: shorter text, or fewer streams (MAX_STREAMS)"
        ) from error


@contextmanager
def _fitting(slots: int, free: int | None, each: int) -> Iterator[None]:
    """`free`: bytes beside the model before the slots were made, if known; `each`: what one takes of them."""
    try:
        yield
    except Exception as error:
        if not (isinstance(error, OutOfMemory) or is_out_of_memory(error)):
            raise
        beside = f" ({free / 1e9:.1f} GB are free there)" if free is not None else ""
        raise EngineUnavailable(
            f"MAX_STREAMS={slots} streams of {each / 1e6:.0f} MB do not fit into this device's memory beside "
            f"the model{beside}: lower MAX_STREAMS, set DTYPE=bfloat16, or take a larger device"
        ) from error


def _free_bytes(loaded: LoadedCsm) -> int | None:
    return torch.cuda.mem_get_info(loaded.device)[0] if loaded.device.type == "cuda" else None


def _kv_bytes(loaded: LoadedCsm) -> int:
    """What the backbone remembers of one stream; the codec's part is a tenth of that."""
    return loaded.shapes.kv_bytes_per_position(loaded.dtype.itemsize) * (loaded.shapes.max_positions + 1)
