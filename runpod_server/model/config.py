"""The sizes of a CSM checkpoint, read once from transformers' CsmConfig. Imports no torch.

A checkpoint this engine cannot run is refused here, in a sentence, before anything is allocated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from runpod_server.errors import EngineUnavailable


@dataclass(frozen=True, slots=True)
class StackShapes:
    """One llama-style stack of transformer layers: the backbone, or the depth decoder."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    norm_eps: float

    @property
    def group(self) -> int:
        """How many query heads share one head of keys and values."""
        return self.heads // self.kv_heads

    @classmethod
    def from_config(cls, config: Any, part: str) -> Self:
        """Raises EngineUnavailable for what no CSM has: biases, another activation."""
        if config.attention_bias or config.mlp_bias or config.hidden_act != "silu":
            raise EngineUnavailable(
                f"this checkpoint's {part} has biases or activation {config.hidden_act!r}; CSM has no biases "
                "and silu: set CSM_MODEL to a CSM checkpoint, or use ENGINE=csm-chunked"
            )
        return cls(
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            mlp=config.intermediate_size,
            norm_eps=config.rms_norm_eps,
        )


@dataclass(frozen=True, slots=True)
class CsmShapes:
    """Everything about a checkpoint that the engine's buffers and loops depend on."""

    backbone: StackShapes
    depth: StackShapes
    codebooks: int  # codes in a frame: 32
    code_vocab: int  # rows of each codebook's embedding: 2051, of which the last three are no sound
    sound_codes: int  # codes Mimi can decode, 0 … 2047
    text_vocab: int
    max_positions: int  # text and frames together
    frame_samples: int  # 1920
    sample_rate_hz: int
    eos_code: int  # a frame of nothing but this code ends the utterance
    begin_text_id: int  # <|begin_of_text|>
    audio_id: int  # <|AUDIO|>: stands for one frame of codes
    audio_eos_id: int  # <|audio_eos|>: stands for a frame of eos codes

    @classmethod
    def from_config(cls, config: Any) -> Self:
        """Shapes of a transformers CsmConfig. Raises EngineUnavailable if it is none or one we cannot run."""
        if getattr(config, "model_type", None) != "csm":
            raise EngineUnavailable(
                f"this checkpoint is a {getattr(config, 'model_type', 'thing without a type')!r} model, not "
                "'csm': set CSM_MODEL to sesame/csm-1b or to a folder that holds a CSM checkpoint"
            )
        codec = config.codec_config
        return cls(
            backbone=StackShapes.from_config(config, "backbone"),
            depth=StackShapes.from_config(config.depth_decoder_config, "depth decoder"),
            codebooks=config.num_codebooks,
            code_vocab=config.vocab_size,
            sound_codes=min(config.vocab_size, codec.codebook_size),
            text_vocab=config.text_vocab_size,
            max_positions=config.max_position_embeddings,
            frame_samples=round(codec.sampling_rate / codec.frame_rate),
            sample_rate_hz=codec.sampling_rate,
            eos_code=config.codebook_eos_token_id,
            begin_text_id=config.bos_token_id,
            audio_id=config.audio_token_id,
            audio_eos_id=config.audio_eos_token_id,
        )

    def kv_bytes_per_position(self, bytes_per_value: int) -> int:
        """Memory the backbone's keys and values of one position take (32 KiB for CSM-1B in bf16)."""
        stack = self.backbone
        return stack.layers * 2 * stack.kv_heads * stack.head_dim * bytes_per_value
