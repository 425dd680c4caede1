"""A tiny CSM of random weights, saved to disk with a tokenizer and loaded by the real loading code."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

TORCH_IS_HERE = find_spec("torch") is not None and find_spec("transformers") is not None
collect_ignore_glob = [] if TORCH_IS_HERE else ["test_*.py"]

CODES = 64
CODEBOOKS = 8
BEGIN, END, AUDIO, AUDIO_EOS = 256, 257, 258, 259
SPECIAL = {"<|begin_of_text|>": BEGIN, "<|end_of_text|>": END, "<|AUDIO|>": AUDIO, "<|audio_eos|>": AUDIO_EOS}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 16,  # so that the scaling is felt within a few positions
}


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def csm_config(*, codebooks: int = CODEBOOKS, **changes: Any) -> Any:
    """A CsmConfig of a few thousand weights; every special id is inside the codec's codebook."""
    from transformers import CsmConfig, MimiConfig

    codec = MimiConfig(
        hidden_size=16,
        num_filters=2,
        upsampling_ratios=[4, 3, 2],
        num_hidden_layers=1,
        intermediate_size=16,
        num_attention_heads=2,
        num_key_value_heads=2,
        codebook_size=CODES,
        codebook_dim=8,
        vector_quantization_hidden_dimension=8,
        num_quantizers=codebooks,
        upsample_groups=16,
        sampling_rate=24_000,
    )
    depth = {
        "num_codebooks": codebooks,
        "backbone_hidden_size": 32,
        "vocab_size": CODES,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": codebooks + 1,
        "initializer_range": 0.3,
        "rope_parameters": LLAMA3,
    }
    backbone = {
        "num_codebooks": codebooks,
        "vocab_size": CODES,
        "text_vocab_size": 260,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 160,
        "initializer_range": 0.3,  # far from 0.02, where random models repeat one code for ever
        "rope_parameters": LLAMA3,
        "bos_token_id": BEGIN,
        "pad_token_id": AUDIO,
        "audio_token_id": AUDIO,
        "audio_eos_token_id": AUDIO_EOS,
        "codebook_pad_token_id": CODES - 1,
    }
    return CsmConfig(**(backbone | changes), depth_decoder_config=depth, codec_config=codec.to_dict())


def byte_tokenizer() -> Any:
    """A real fast tokenizer: one id a byte, and CSM's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={sign: id_ for id_, sign in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|begin_of_text|>",
        eos_token="<|end_of_text|>",
        pad_token="<|AUDIO|>",
    )


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the hub would give it."""
    import torch
    from transformers import CsmForConditionalGeneration

    folder = tmp_path_factory.mktemp("csm")
    torch.manual_seed(11)
    model = CsmForConditionalGeneration(csm_config())
    with torch.no_grad():
        for name, buffer in model.codec_model.named_buffers():
            if name.endswith("embed_sum"):  # zeros by default: every sound would have the same codes
                buffer.normal_()
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Any:
    """The LoadedCsm of `tiny_folder`, float32."""
    import torch

    from runpod_server.model.weights import load_csm

    return load_csm(tiny_folder, device="cpu", dtype=torch.float32)


@pytest.fixture(scope="session")
def make_config() -> Any:
    """`csm_config`, for tests that want another one."""
    return csm_config
