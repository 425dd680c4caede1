"""Bytes a frame must read, against CSM-1B's known sizes."""

from __future__ import annotations

import pytest

from runpod_server.bench.roofline import FrameBytes, frame_bytes, least_ms
from runpod_server.model.config import CsmShapes, StackShapes

CSM_1B = CsmShapes(
    backbone=StackShapes(layers=16, hidden=2048, heads=32, kv_heads=8, head_dim=64, mlp=8192, norm_eps=1e-5),
    depth=StackShapes(layers=4, hidden=1024, heads=8, kv_heads=2, head_dim=128, mlp=8192, norm_eps=1e-5),
    codebooks=32,
    code_vocab=2051,
    sound_codes=2048,
    text_vocab=128_256,
    max_positions=2048,
    frame_samples=1920,
    sample_rate_hz=24_000,
    eos_code=0,
    begin_text_id=128_000,
    audio_id=128_002,
    audio_eos_id=128_003,
)


def test_csm_1b_in_bfloat16_reads_nine_gigabytes_a_frame() -> None:
    """977 M weights once, and 111 M in layers with 2.1 M of a head 31 times."""
    read = frame_bytes(CSM_1B, value_bytes=2, layer_bytes=2, codec_bytes=0)
    assert read.backbone == pytest.approx(1.955e9, rel=1e-3)
    assert read.depth == pytest.approx(7.025e9, rel=2e-3)
    assert read.per_position == 32 * 1024


def test_layers_in_eight_bits_read_half_but_for_the_heads() -> None:
    full = frame_bytes(CSM_1B, value_bytes=2, layer_bytes=2, codec_bytes=1000)
    eight = frame_bytes(CSM_1B, value_bytes=2, layer_bytes=1, codec_bytes=1000)
    assert 0.5 < (eight.weights - 1000) / (full.weights - 1000) < 0.52
    assert eight.per_position == full.per_position


def test_the_weights_are_read_once_and_every_position_once_more() -> None:
    read = FrameBytes(backbone=100, depth=200, codec=50, per_position=3)
    assert read.weights == 350
    assert read.of(10) == 380


def test_least_time() -> None:
    assert least_ms(9.1e9, 4.3e12) == pytest.approx(2.116, rel=1e-3)
