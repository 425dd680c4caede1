"""A tiny CSM of random weights, saved to disk with a tokenizer and loaded by the real loading code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runpod_server import tiny_csm

collect_ignore_glob = [] if tiny_csm.TORCH_IS_HERE else ["test_*.py"]

CODES = 64
CODEBOOKS = 8
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 16,  # so that the scaling is felt within a few positions
}


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    with tiny_csm.one_torch_thread():
        yield


def csm_config(*, codebooks: int = CODEBOOKS, **changes: Any) -> Any:
    """A CsmConfig of a few thousand weights; every special id is inside the codec's codebook."""
    backbone = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 160,
    }
    return tiny_csm.csm_config(
        codes=CODES,
        codebooks=codebooks,
        initializer_range=0.3,  # far from 0.02, where random models repeat one code for ever
        rope=LLAMA3,
        codec={
            "hidden_size": 16,
            "num_filters": 2,
            "upsampling_ratios": [4, 3, 2],
            "intermediate_size": 16,
            "codebook_dim": 8,
            "vector_quantization_hidden_dimension": 8,
            "upsample_groups": 16,
            "sampling_rate": 24_000,
        },
        depth={
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
        },
        backbone=backbone | changes,
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
        tiny_csm.make_codebooks_differ(model.codec_model)
    return tiny_csm.save(model, folder)


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
