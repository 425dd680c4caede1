"""The device a thread works on: chosen, checked and set up; and how it looks when its memory is full."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from runpod_server.errors import EngineUnavailable

_DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
}
# As torch, cuBLAS and cuDNN say it.
_NO_MEMORY = ("can't allocate memory", "out of memory", "alloc_failed")


def device_and_dtype(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """DEVICE and DTYPE as torch's; empty: the GPU if there is one, and what suits the device.

    Raises EngineUnavailable for what is neither.
    """
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(name)
    except RuntimeError as error:
        raise EngineUnavailable(f"DEVICE={device} is no device: use cuda, cuda:1 or cpu") from error
    if place.type not in ("cuda", "cpu"):
        raise EngineUnavailable(f"DEVICE={device} is not supported: use cuda, cuda:1 or cpu")
    if not dtype:
        return place, _default_dtype(place)
    if dtype.lower() not in _DTYPES:
        raise EngineUnavailable(f"DTYPE={dtype} is not supported: use bfloat16, float16 or float32")
    return place, _DTYPES[dtype.lower()]


def _default_dtype(place: torch.device) -> torch.dtype:
    if place.type == "cpu":
        return torch.float32
    if not _is_there(place):  # refused when it is taken
        return torch.bfloat16
    # GPUs before Ampere have no bfloat16 of their own.
    return torch.bfloat16 if torch.cuda.get_device_capability(place) >= (8, 0) else torch.float16


def take_device(place: torch.device) -> None:
    """Make `place` the calling thread's, and choose the kernels that suit many streams. For CPUs: nothing.

    Raises EngineUnavailable for a GPU that is not there.
    """
    if place.type != "cuda":
        return
    if not torch.cuda.is_available():
        raise EngineUnavailable(
            "DEVICE=cuda, but torch sees no GPU: check nvidia-smi, install a CUDA build of torch that fits "
            "the driver, or set DEVICE=cpu"
        )
    if not _is_there(place):
        raise EngineUnavailable(
            f"DEVICE={place}, but torch sees only {torch.cuda.device_count()} GPU(s), counted from 0: set "
            "DEVICE=cuda, or check CUDA_VISIBLE_DEVICES"
        )
    if place.index is not None:
        torch.cuda.set_device(place)  # else this thread's streams, events and graphs are GPU 0's
    # cuDNN makes a plan for every new length it attends to, while all streams wait.
    torch.backends.cuda.enable_cudnn_sdp(False)
    # Mimi's convolutions in full: 10 bits of a mantissa are heard before they are worth their speed.
    torch.backends.cudnn.allow_tf32 = False


def _is_there(place: torch.device) -> bool:
    return torch.cuda.is_available() and (place.index or 0) < torch.cuda.device_count()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, on either device, or Python had no memory left: of the error, or of what caused it."""
    return any(_says_out_of_memory(cause) for cause in causes(error))


def _says_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _NO_MEMORY)


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from or while handling, and so on."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__
