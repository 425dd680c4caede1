"""Models of random weights to measure by: CSM-1B's own architecture, a quarter of it, and a tiny one.

Their utterances never end by themselves: a frame of nothing but the end code is one draw of 50 per codebook,
32 (tiny: 8) times in a row. Each frame's codes cost what those of real weights cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runpod_server.bench.meters import available_bytes
from runpod_server.bench.plan import Size
from runpod_server.errors import BenchError

if TYPE_CHECKING:
    import torch

    from runpod_server.model.weights import LoadedCsm

_WEIGHTS_1B, _REARRANGED_1B = 1.66e9, 1.3e9  # how many, and how many the engine keeps a second time
_TINY_CODES = 64


def random_model(size: Size, device: torch.device, dtype: torch.dtype) -> LoadedCsm:
    """A model of that size on the device. Raises EngineUnavailable; BenchError: it would fill the memory."""
    from runpod_server.model.weights import csm_1b_config, random_csm

    if size == "1b" and device.type == "cpu":
        check_memory((_WEIGHTS_1B + _REARRANGED_1B) * dtype.itemsize, available_bytes())
    configs = {"1b": csm_1b_config, "middle": middle_config, "tiny": tiny_config}
    return random_csm(configs[size](), device=device, dtype=dtype)


def middle_config() -> Any:
    """CSM-1B at a quarter of its width and half the backbone's depth, with all its 32 codebooks of 2051."""
    from transformers import CsmConfig, MimiConfig

    codec = MimiConfig(num_hidden_layers=1, num_filters=4, hidden_size=32, intermediate_size=32)
    codec.codebook_dim = codec.vector_quantization_hidden_dimension = 16
    codec.upsample_groups, codec.num_attention_heads, codec.num_key_value_heads = 32, 2, 2
    codec.head_dim = 16
    return CsmConfig(
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=2,
        depth_decoder_config={
            "backbone_hidden_size": 512,
            "hidden_size": 256,
            "intermediate_size": 2048,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
        },
        codec_config=codec.to_dict(),
    )


def tiny_config() -> Any:
    """As small as can be, with frames of 80 ms: to try the benchmark itself."""
    from transformers import CsmConfig, MimiConfig

    codec = MimiConfig(
        num_hidden_layers=1, num_filters=2, num_residual_layers=1, hidden_size=8, intermediate_size=8,
        codebook_size=_TINY_CODES, codebook_dim=4, num_quantizers=8, num_attention_heads=2,
        num_key_value_heads=2, vector_quantization_hidden_dimension=4, upsample_groups=8, head_dim=4,
    )  # fmt: skip
    common: dict[str, Any] = {
        "num_codebooks": 8,
        "vocab_size": _TINY_CODES,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "hidden_size": 16,
        "intermediate_size": 32,
        "head_dim": 8,
    }
    special: dict[str, Any] = {
        "bos_token_id": 256,
        "pad_token_id": 258,
        "audio_token_id": 258,
        "audio_eos_token_id": 259,
    }
    return CsmConfig(
        **common,
        **special,
        text_vocab_size=260,
        num_hidden_layers=2,
        codebook_pad_token_id=_TINY_CODES - 1,
        depth_decoder_config=common | {"backbone_hidden_size": 16, "num_hidden_layers": 1},
        codec_config=codec.to_dict(),
    )


def check_memory(needed: float, available: float | None) -> None:
    """Raises BenchError where it would not do: the system kills without a word what takes too much."""
    if available is not None and needed > available:
        raise BenchError(
            f"this needs some {needed / 2**30:.0f} GiB of memory and {available / 2**30:.0f} are free: "
            "take --size middle, or --dtype bfloat16"
        )
