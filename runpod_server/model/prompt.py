"""A conversation as the model reads it: each turn `<|begin_of_text|>[S]text<|end_of_text|>`, then its frames.

Knows the order of tokens and what fits into the model's positions; nothing of layers, slots or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from runpod_server.model.config import CsmShapes

END_OF_TEXT = "<|end_of_text|>"


class TextTokenizer(Protocol):
    """Text to ids. What a caller wrote is never read as a special token."""

    @property
    def end_of_text_id(self) -> int:
        """Id of <|end_of_text|>."""

    def encode(self, text: str) -> list[int]:
        """Ids of plain text, with nothing added."""


@dataclass(frozen=True, slots=True)
class HubTokenizer:
    """A checkpoint's own tokenizer."""

    tokenizer: Any  # transformers PreTrainedTokenizerFast

    @property
    def end_of_text_id(self) -> int:
        found: int = self.tokenizer.convert_tokens_to_ids(END_OF_TEXT)
        return found

    def encode(self, text: str) -> list[int]:
        # Split: a text that says "<|AUDIO|>" is six characters of bad taste, not a frame.
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return ids


@dataclass(frozen=True, slots=True)
class ByteTokenizer:
    """One id a UTF-8 byte: for random weights, which know no words."""

    end_of_text_id: int

    def encode(self, text: str) -> list[int]:
        return list(text.encode())


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker said. With codes it is context; without, it is to be spoken."""

    speaker_id: int
    text: str
    codes: Tensor | None = None  # (T, 32) int64, on the host


@dataclass(frozen=True, slots=True)
class Prompt:
    """Tokens for the backbone, on the host. Every audio id stands for the next frame of `codes`."""

    ids: Tensor  # (n,) int64
    codes: Tensor  # (m, 32) int64

    @property
    def positions(self) -> int:
        """How many of the model's positions it takes."""
        return self.ids.shape[0]


def build_prompt(turns: Sequence[Turn], tokenizer: TextTokenizer, shapes: CsmShapes) -> Prompt:
    """The prompt of `turns`, oldest first, the same ids as CsmProcessor's chat template gives.

    Causal, so it may be built and prefilled in pieces: a voice's turns once, then each text after it.
    Raises ValueError for a speaker outside 0-9 or codes of another shape than (T, 32).
    """
    ids: list[int] = []
    frames = [torch.empty(0, shapes.codebooks, dtype=torch.int64)]
    for turn in turns:
        ids += _text_ids(turn, tokenizer, shapes)
        if turn.codes is not None:
            frames.append(_checked_codes(turn.codes, shapes))
            ids += [shapes.audio_id] * turn.codes.shape[0] + [shapes.audio_eos_id]
    return Prompt(ids=torch.tensor(ids, dtype=torch.int64), codes=torch.cat(frames))


def turn_positions(turn: Turn, tokenizer: TextTokenizer, shapes: CsmShapes) -> int:
    """How many of the model's positions a turn takes."""
    frames = 0 if turn.codes is None else turn.codes.shape[0] + 1
    return len(_text_ids(turn, tokenizer, shapes)) + frames


def newest_that_fit(
    turns: Sequence[Turn], tokenizer: TextTokenizer, shapes: CsmShapes, *, positions: int
) -> Sequence[Turn]:
    """The longest tail of `turns` that takes at most `positions`: the oldest go first."""
    first = len(turns)
    while first > 0:
        positions -= turn_positions(turns[first - 1], tokenizer, shapes)
        if positions < 0:
            break
        first -= 1
    return turns[first:]


def encode_recording(codec_model: Any, samples: Tensor) -> Tensor:
    """Codes of a recording, as context for a Turn.

    samples (n,) float32 in -1 … 1 at 24 kHz → (T, 32), on the host.
    """
    with torch.inference_mode():
        encoded = codec_model.encode(samples.to(codec_model.device, codec_model.dtype).view(1, 1, -1))
    codes: Tensor = encoded.audio_codes[0].T.to("cpu", torch.int64)
    return codes


def _text_ids(turn: Turn, tokenizer: TextTokenizer, shapes: CsmShapes) -> list[int]:
    if turn.speaker_id not in range(10):
        raise ValueError(f"speaker_id must be 0 to 9, not {turn.speaker_id}")
    spoken = tokenizer.encode(f"[{turn.speaker_id}]{turn.text}")
    return [shapes.begin_text_id, *spoken, tokenizer.end_of_text_id]


def _checked_codes(codes: Tensor, shapes: CsmShapes) -> Tensor:
    if codes.ndim != 2 or codes.shape[1] != shapes.codebooks or not codes.shape[0]:
        raise ValueError(f"a turn's codes must be (frames, {shapes.codebooks}), not {tuple(codes.shape)}")
    return codes.to("cpu", torch.int64)
