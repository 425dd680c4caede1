"""What the tiny CSM checkpoints of random weights have in common. Imports torch only when asked for one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TORCH_IS_HERE = find_spec("torch") is not None and find_spec("transformers") is not None

BEGIN, END, AUDIO, AUDIO_EOS = 256, 257, 258, 259
SPECIAL = {"<|begin_of_text|>": BEGIN, "<|end_of_text|>": END, "<|AUDIO|>": AUDIO, "<|audio_eos|>": AUDIO_EOS}


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Tiny models are quickest so, and round alike on every machine. Does nothing without torch."""
    if not TORCH_IS_HERE:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def csm_config(
    *,
    codes: int,
    codebooks: int,
    initializer_range: float,
    rope: Mapping[str, Any],
    codec: Mapping[str, Any],
    depth: Mapping[str, Any],
    backbone: Mapping[str, Any],
) -> Any:
    """A CsmConfig: the sizes given, and what must agree between its three parts."""
    from transformers import CsmConfig, MimiConfig

    codec_config = MimiConfig(
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        codebook_size=codes,
        num_quantizers=codebooks,
        **codec,
    )
    depth_config = {
        "num_codebooks": codebooks,
        "backbone_hidden_size": backbone["hidden_size"],
        "vocab_size": codes,
        "max_position_embeddings": codebooks + 1,
        "initializer_range": initializer_range,
        "rope_parameters": rope,
        **depth,
    }
    backbone_config = {
        "num_codebooks": codebooks,
        "vocab_size": codes,
        "text_vocab_size": 260,
        "initializer_range": initializer_range,
        "rope_parameters": rope,
        "bos_token_id": BEGIN,
        "pad_token_id": AUDIO,
        "audio_token_id": AUDIO,
        "audio_eos_token_id": AUDIO_EOS,
        "codebook_pad_token_id": codes - 1,
        **backbone,
    }
    return CsmConfig(
        **backbone_config, depth_decoder_config=depth_config, codec_config=codec_config.to_dict()
    )


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


def make_codebooks_differ(codec: Any) -> None:
    """Zeros, the default, give every code the same sound: silence. Call it without gradients."""
    for name, buffer in codec.named_buffers():
        if name.endswith("embed_sum"):
            buffer.normal_()


def save(model: Any, folder: Path) -> Path:
    """The checkpoint as the hub would give it, with a tokenizer."""
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
