"""Prompts against transformers' own processor, and what fits of a conversation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CsmProcessor, EncodecFeatureExtractor

from runpod_server.model.prompt import (
    ByteTokenizer,
    Turn,
    build_prompt,
    encode_recording,
    newest_that_fit,
    turn_positions,
)
from runpod_server.model.weights import LoadedCsm


def frames(count: int, codebooks: int = 8) -> torch.Tensor:
    """(count, codebooks)"""
    return torch.arange(count * codebooks).view(count, codebooks) % 60 + 1


def test_ids_are_those_of_transformers_processor(tiny: LoadedCsm) -> None:
    hub: Any = tiny.tokenizer
    processor = CsmProcessor(EncodecFeatureExtractor(feature_size=1, sampling_rate=24_000), hub.tokenizer)
    said = [np.zeros(1920 * 3, np.float32), np.zeros(1920 * 2 + 7, np.float32)]
    # As the checkpoint's chat template renders a conversation.
    rendered = (
        "<|begin_of_text|>[0]Hello, is it free?<|end_of_text|><|AUDIO|><|audio_eos|>"
        "<|begin_of_text|>[7]Ja, natürlich.<|end_of_text|><|AUDIO|><|audio_eos|>"
        "<|begin_of_text|>[0]Good.<|end_of_text|>"
    )
    expected = processor(text=rendered, audio=said)["input_ids"][0]
    turns = [
        Turn(0, "Hello, is it free?", frames(3)),
        Turn(7, "Ja, natürlich.", frames(3)),
        Turn(0, "Good."),
    ]
    prompt = build_prompt(turns, tiny.tokenizer, tiny.shapes)
    assert prompt.ids.tolist() == expected.tolist()
    assert torch.equal(prompt.codes, torch.cat([frames(3), frames(3)]))
    assert prompt.positions == sum(turn_positions(turn, tiny.tokenizer, tiny.shapes) for turn in turns)


def test_a_prompt_in_pieces_is_the_prompt(tiny: LoadedCsm) -> None:
    turns = [Turn(1, "One.", frames(2)), Turn(2, "Two.", frames(4)), Turn(1, "Three.")]
    whole = build_prompt(turns, tiny.tokenizer, tiny.shapes)
    pieces = [build_prompt([turn], tiny.tokenizer, tiny.shapes) for turn in turns]
    assert torch.equal(torch.cat([piece.ids for piece in pieces]), whole.ids)
    assert torch.equal(torch.cat([piece.codes for piece in pieces]), whole.codes)


@pytest.mark.parametrize("word", ["<|AUDIO|>", "<|audio_eos|>", "<|end_of_text|>", "<|begin_of_text|>"])
def test_a_text_that_spells_a_special_token_is_only_text(tiny: LoadedCsm, word: str) -> None:
    prompt = build_prompt([Turn(0, f"say {word} now")], tiny.tokenizer, tiny.shapes)
    assert [id_ for id_ in prompt.ids.tolist() if id_ >= 256] == [256, 257]
    assert prompt.positions == 2 + len(f"[0]say {word} now")


def test_bytes_for_weights_that_know_no_words(tiny: LoadedCsm) -> None:
    prompt = build_prompt([Turn(4, "né")], ByteTokenizer(end_of_text_id=257), tiny.shapes)
    assert prompt.ids.tolist() == [256, *b"[4]n\xc3\xa9", 257]


def test_nothing_to_say_is_an_empty_prompt(tiny: LoadedCsm) -> None:
    prompt = build_prompt([], tiny.tokenizer, tiny.shapes)
    assert prompt.positions == 0 and prompt.codes.shape == (0, 8)


@pytest.mark.parametrize("speaker_id", [-1, 10])
def test_speakers_are_single_digits(tiny: LoadedCsm, speaker_id: int) -> None:
    with pytest.raises(ValueError, match="speaker_id must be 0 to 9"):
        build_prompt([Turn(speaker_id, "Hi.")], tiny.tokenizer, tiny.shapes)


@pytest.mark.parametrize("shape", [(8,), (3, 7), (0, 8)])
def test_codes_of_another_shape_are_refused(tiny: LoadedCsm, shape: tuple[int, ...]) -> None:
    turn = Turn(0, "Hi.", torch.zeros(shape, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"must be \(frames, 8\)"):
        build_prompt([turn], tiny.tokenizer, tiny.shapes)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(sizes=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 9)), max_size=7), room=st.integers(0, 120))
def test_the_oldest_turns_go_first_and_no_more_than_must(
    tiny: LoadedCsm, sizes: list[tuple[int, int]], room: int
) -> None:
    turns = [Turn(0, "x" * letters, frames(count)) for letters, count in sizes]

    def positions(some: Any) -> int:
        return build_prompt(some, tiny.tokenizer, tiny.shapes).positions

    kept = list(newest_that_fit(turns, tiny.tokenizer, tiny.shapes, positions=room))
    dropped = len(turns) - len(kept)
    assert kept == turns[dropped:]
    assert positions(kept) <= room
    if dropped:
        assert positions(turns[dropped - 1 :]) > room


def test_a_recording_becomes_the_codecs_codes(tiny: LoadedCsm) -> None:
    codec = tiny.model.codec_model
    samples = torch.randn(48 * 5 + 1, generator=torch.Generator().manual_seed(2)) * 0.2
    codes = encode_recording(codec, samples)
    with torch.no_grad():
        expected = codec.encode(samples.view(1, 1, -1)).audio_codes[0].T
    assert codes.shape == (6, 8) and codes.dtype == torch.int64
    assert torch.equal(codes, expected)
    assert build_prompt([Turn(0, "Hi.", codes)], tiny.tokenizer, tiny.shapes).codes.shape == (6, 8)
