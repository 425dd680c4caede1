"""A tiny CSM of random weights, saved to disk, to be loaded by the real loading code."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

HAS_TORCH = find_spec("torch") is not None and find_spec("transformers") is not None

CODES, CODEBOOKS, POSITIONS = 8, 4, 512
EOS_STRESS = 2.5
BEGIN, END, AUDIO, AUDIO_EOS = 256, 257, 258, 259
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|AUDIO|>", "<|audio_eos|>"]


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread() -> Iterator[None]:
    if not HAS_TORCH:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_config() -> Any:
    """Small, but for the 1920 samples of a frame. Few codes, so that some utterances find their end."""
    from transformers import CsmConfig, MimiConfig

    rope = {"rope_type": "default", "rope_theta": 10_000.0}
    codec = MimiConfig(
        hidden_size=8,
        num_filters=2,
        num_residual_layers=1,
        num_hidden_layers=1,
        intermediate_size=8,
        num_attention_heads=2,
        num_key_value_heads=2,
        codebook_size=CODES,
        codebook_dim=4,
        vector_quantization_hidden_dimension=4,
        num_quantizers=CODEBOOKS,
        upsample_groups=8,
        sliding_window=40,
    )
    depth = {
        "num_codebooks": CODEBOOKS,
        "backbone_hidden_size": 16,
        "vocab_size": CODES,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": CODEBOOKS + 1,
        "initializer_range": 0.5,
        "rope_parameters": rope,
    }
    return CsmConfig(
        num_codebooks=CODEBOOKS,
        vocab_size=CODES,
        text_vocab_size=260,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=POSITIONS,
        initializer_range=0.5,
        rope_parameters=rope,
        bos_token_id=BEGIN,
        pad_token_id=AUDIO,
        audio_token_id=AUDIO,
        audio_eos_token_id=AUDIO_EOS,
        codebook_pad_token_id=CODES - 1,
        depth_decoder_config=depth,
        codec_config=codec.to_dict(),
    )


def byte_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={sign: id_ for id_, sign in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[1])


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the hub would give it. Loud: codebooks of zeros, the default, are silence."""
    import torch
    from transformers import CsmForConditionalGeneration

    folder = tmp_path_factory.mktemp("tiny-csm")
    torch.manual_seed(5)
    model = CsmForConditionalGeneration(tiny_config())
    codec = model.codec_model.eval()
    with torch.no_grad():
        # So that code 0 comes often, and with it the end of an utterance.
        model.lm_head.weight[0] *= EOS_STRESS
        model.depth_decoder.codebooks_head.weight[:, :, 0] *= EOS_STRESS
        for name, buffer in codec.named_buffers():
            if name.endswith("embed_sum"):
                buffer.normal_()
        codes = torch.randint(0, CODES, (1, CODEBOOKS, 20))
        last = codec.decoder.decoder_seanet.layers[-1].conv
        loudness = codec.decode(codes).audio_values.std()
        for parameter in last.parameters():
            parameter *= 0.1 / loudness
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
