"""A tiny CSM of random weights, saved to disk, to be loaded by the real loading code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runpod_server.tiny_csm import csm_config, make_codebooks_differ, one_torch_thread, save

CODES, CODEBOOKS, POSITIONS = 8, 4, 512
EOS_STRESS = 2.5


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    with one_torch_thread():
        yield


def tiny_config() -> Any:
    """Small, but for the 1920 samples of a frame. Few codes, so that some utterances find their end."""
    return csm_config(
        codes=CODES,
        codebooks=CODEBOOKS,
        initializer_range=0.5,
        rope={"rope_type": "default", "rope_theta": 10_000.0},
        codec={
            "hidden_size": 8,
            "num_filters": 2,
            "num_residual_layers": 1,
            "intermediate_size": 8,
            "codebook_dim": 4,
            "vector_quantization_hidden_dimension": 4,
            "upsample_groups": 8,
            "sliding_window": 40,
        },
        depth={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
        },
        backbone={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": POSITIONS,
        },
    )


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the hub would give it, and loud."""
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
        make_codebooks_differ(codec)
        codes = torch.randint(0, CODES, (1, CODEBOOKS, 20))
        last = codec.decoder.decoder_seanet.layers[-1].conv
        loudness = codec.decode(codes).audio_values.std()
        for parameter in last.parameters():
            parameter *= 0.1 / loudness
    return save(model, folder)


@pytest.fixture(scope="session")
def loaded(tiny_folder: Path) -> Any:
    """The same checkpoint, for transformers to speak with."""
    import torch

    from runpod_server.model.weights import load_csm

    return load_csm(tiny_folder, device="cpu", dtype=torch.float32)


@pytest.fixture
def source(tiny_folder: Path) -> Any:
    """The CsmSource of it, for an engine."""
    from runpod_server.engine.csm_source import CsmSource

    return CsmSource(tiny_folder, device="cpu")


@pytest.fixture
def voices(tmp_path: Path) -> Any:
    """A VoiceStore with one recording: "mara", speaker 3."""
    from runpod_server.voices.store import VoiceStore
    from tests.runpod_server.engine.speaking import REFERENCE

    store = VoiceStore.open(tmp_path / "voices")
    store.put("mara", REFERENCE, "What is said in it.", speaker_id=3)
    return store
