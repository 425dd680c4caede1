"""Loading a CSM checkpoint, checked, or making one of random weights; every failure says what to do.

Knows nothing of how the model is run.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from runpod_server.errors import EngineUnavailable
from runpod_server.extras import install_command
from runpod_server.model.config import CsmShapes
from runpod_server.model.device import causes, is_out_of_memory, take_device
from runpod_server.model.prompt import END_OF_TEXT, ByteTokenizer, HubTokenizer, TextTokenizer

OLDEST_TRANSFORMERS = (5, 21)  # 5.0 to 5.20 leave the backbone's audio embeddings random
_LICENCE_URL = "https://huggingface.co/sesame/csm-1b"


@dataclass(frozen=True, slots=True)
class LoadedCsm:
    """A model ready to run, in eval mode. The codec is float32 whatever `dtype` is."""

    model: Any  # transformers CsmForConditionalGeneration
    tokenizer: TextTokenizer
    shapes: CsmShapes
    device: torch.device
    dtype: torch.dtype
    source: str  # what CSM_MODEL said, or "random"


def load_csm(
    source: str | Path, *, device: torch.device | str, dtype: torch.dtype, token: str | None = None
) -> LoadedCsm:
    """Load a hub id or a local folder onto `device`. Blocks for as long as that takes.

    Raises EngineUnavailable with one sentence: no transformers or one too old, no such checkpoint, not a CSM,
    no token, licence not accepted, hub out of reach, disk full, out of memory.
    """
    _check_transformers()
    place = torch.device(device)
    take_device(place)
    try:
        model, loading = _model_class().from_pretrained(
            str(source), dtype=dtype, token=token, output_loading_info=True
        )
        tokenizer = _load_tokenizer(source, token)
        shapes = CsmShapes.from_config(model.config)
        _check_complete(loading, source)
        model = model.to(place).eval()
    except EngineUnavailable:
        raise
    except Exception as error:  # every library below raises its own kind: told apart by why_not_loaded
        raise EngineUnavailable(why_not_loaded(error, str(source), token)) from error
    check_embedding_tie(model)
    return LoadedCsm(model, tokenizer, shapes, place, dtype, str(source))


def random_csm(
    config: Any | None = None, *, device: torch.device | str, dtype: torch.dtype, seed: int = 0
) -> LoadedCsm:
    """A model of random weights, by default of CSM-1B's sizes: to measure by, as speed does not mind.

    Raises EngineUnavailable.
    """
    _check_transformers()
    place = torch.device(device)
    take_device(place)
    try:
        torch.manual_seed(seed)
        with torch.device(place):
            model = _model_class()._from_config(config or csm_1b_config(), dtype=dtype)
        model.codec_model.float()
        model = model.to(place).eval()
    except Exception as error:
        raise EngineUnavailable(why_not_loaded(error, "random", None)) from error
    check_embedding_tie(model)
    shapes = CsmShapes.from_config(model.config)
    tokenizer = ByteTokenizer(end_of_text_id=shapes.begin_text_id + 1)
    return LoadedCsm(model, tokenizer, shapes, place, dtype, "random")


def csm_1b_config() -> Any:
    """The CsmConfig of sesame/csm-1b, as far as sizes and rotary scaling go."""
    from transformers import CsmConfig, MimiConfig

    scaling = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0}
    backbone = {"high_freq_factor": 0.5, "low_freq_factor": 0.125, "original_max_position_embeddings": 1024}
    depth = {
        "high_freq_factor": 0.0078125,
        "low_freq_factor": 0.001953125,
        "original_max_position_embeddings": 16,
    }
    return CsmConfig(
        rope_parameters=scaling | backbone,
        depth_decoder_config={"rope_parameters": scaling | depth},
        codec_config=MimiConfig().to_dict(),
    )


def check_embedding_tie(model: Any) -> None:
    """Raises EngineUnavailable unless backbone and depth decoder share one table of audio embeddings.

    transformers 5.0 to 5.20 load CSM without the tie, and it then babbles.
    """
    backbone = model.backbone_model.embed_tokens.embed_audio_tokens.weight
    depth = model.depth_decoder.model.embed_tokens.weight
    if backbone.data_ptr() != depth.data_ptr() or backbone.shape != depth.shape:
        raise EngineUnavailable(
            "the checkpoint's audio embeddings came loose from the depth decoder's, so its speech would be "
            "noise: pip install -U 'transformers>=5.21'"
        )


@functools.cache
def _model_class() -> Any:
    from transformers import CsmForConditionalGeneration

    class _Csm(CsmForConditionalGeneration):  # type: ignore[misc, unused-ignore]
        # Mimi in bf16 is audibly worse and saves next to nothing.
        _keep_in_fp32_modules_strict = ["codec_model"]

    return _Csm


def _check_transformers() -> None:
    try:
        version = metadata.version("transformers")
    except metadata.PackageNotFoundError as error:
        raise EngineUnavailable(
            f"ENGINE=csm needs torch and transformers: {install_command('csm')}"
        ) from error
    check_transformers_version(version)


def check_transformers_version(version: str) -> None:
    """Raises EngineUnavailable for versions that load CSM wrongly."""
    major, minor = (int("".join(filter(str.isdigit, part)) or 0) for part in (version.split(".") + ["0"])[:2])
    if (major, minor) < OLDEST_TRANSFORMERS:
        raise EngineUnavailable(
            f"transformers {version} loads CSM wrongly (its audio embeddings stay random): "
            "pip install -U 'transformers>=5.21'"
        )


def _load_tokenizer(source: str | Path, token: str | None) -> HubTokenizer:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(source), token=token)
    if tokenizer.convert_tokens_to_ids(END_OF_TEXT) in (None, tokenizer.unk_token_id):
        raise EngineUnavailable(f"the tokenizer of {source} has no {END_OF_TEXT}: it belongs to no CSM")
    return HubTokenizer(tokenizer)


def _check_complete(loading: dict[str, Any], source: str | Path) -> None:
    missing = sorted(loading["missing_keys"])
    if missing:
        raise EngineUnavailable(
            f"{source} lacks {len(missing)} of CSM's weights ({missing[0]} …): the download is incomplete or "
            "it is another model; delete it and download it again, or set CSM_MODEL to sesame/csm-1b"
        )


def why_not_loaded(error: Exception, source: str, token: str | None) -> str:
    """The sentence for whatever torch, transformers or the hub raised."""
    chain = list(causes(error))
    for test, sentence in _SENTENCES:
        if any(test(cause) for cause in chain):
            return sentence(source, token)
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"{source} cannot be loaded as a CSM checkpoint ({first_line}): set CSM_MODEL to sesame/csm-1b or to "
        "a folder with a whole one"
    )


def _is_disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _named(*names: str) -> Callable[[BaseException], bool]:
    """By class name: the hub's error classes moved between its versions."""
    return lambda error: any(kind.__name__ in names for kind in type(error).__mro__)


def _gated(source: str, token: str | None) -> str:
    if token is None:
        return _no_token(source, token)
    return (
        f"{source} is licensed, and the account of HF_TOKEN has not accepted its licence: open "
        f"{_LICENCE_URL} signed in as that account, accept it, and start again"
    )


def _no_token(source: str, token: str | None) -> str:
    if token is None:
        return (
            f"{source} is private or licensed, and HF_TOKEN is not set: accept the licence at "
            f"{_LICENCE_URL}, make a read token at https://huggingface.co/settings/tokens, set HF_TOKEN to it"
        )
    return (
        f"the hub knows no {source} that HF_TOKEN may read: check the spelling of CSM_MODEL, and that the "
        "token is valid and its account accepted the licence"
    )


def _no_hub(source: str, token: str | None) -> str:
    return (
        f"{source} is neither a folder here nor in the cache, and the hub cannot be reached: check the "
        "network (and HF_HUB_OFFLINE), or set CSM_MODEL to a local folder"
    )


def _disk_full(source: str, token: str | None) -> str:
    cache = os.environ.get("HF_HOME", "~/.cache/huggingface")
    return f"the disk is full: {source} needs about 8 GB in {cache}; free some, or set HF_HOME elsewhere"


def _out_of_memory(source: str, token: str | None) -> str:
    return (
        f"not enough memory to load {source}: CSM-1B needs about 4 GB in bfloat16, 8 GB in float32; set "
        "DTYPE=bfloat16, stop what else uses this device, or take a larger one"
    )


def _wrong_sizes(source: str, token: str | None) -> str:
    return f"the weights in {source} do not fit its config.json: download the checkpoint again, whole"


_Sentence = Callable[[str, str | None], str]
_SENTENCES: tuple[tuple[Callable[[BaseException], bool], _Sentence], ...] = (
    (is_out_of_memory, _out_of_memory),
    (_is_disk_full, _disk_full),
    (_named("GatedRepoError"), _gated),
    (_named("RepositoryNotFoundError"), _no_token),
    (_named("LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectionError", "ConnectError"), _no_hub),
    (lambda error: "mismatch" in str(error) and isinstance(error, (RuntimeError, ValueError)), _wrong_sizes),
)
