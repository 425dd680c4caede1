"""Whether this machine can run CSM well enough to do so unasked: a GPU, torch, and the weights. Looks."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from runpod_server.extras import install_command

_GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))  # Linux; Windows' Linux


def why_not_csm(model: str, *, device: str, has_token: bool) -> str | None:
    """What is missing, to follow "because"; None: nothing. Imports torch only where there is a GPU."""
    if device and not device.startswith("cuda"):
        return f"DEVICE={device} is no GPU"
    if not any(path.exists() for path in _GPU_DEVICES):
        return "there is no NVIDIA GPU here"
    if find_spec("torch") is None or find_spec("transformers") is None:
        return f"torch or transformers is not installed: {install_command('csm')}"
    import torch

    if not torch.cuda.is_available():
        return "torch cannot use the GPU: install a build of torch that fits the driver"
    if not has_token and not weights_are_here(model):
        return f"the weights of {model} are not here, and there is no HF_TOKEN to fetch them with"
    return None


def weights_are_here(model: str) -> bool:
    """Whether `model` is a local folder, or was downloaded before."""
    if Path(model).expanduser().is_dir():
        return True
    try:
        from huggingface_hub import try_to_load_from_cache

        return isinstance(try_to_load_from_cache(model, "config.json"), str)
    except (ImportError, ValueError):  # the latter: no such name could be on the hub
        return False
