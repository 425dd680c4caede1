"""Choosing a device. What a GPU would say is told by stand-ins; the kernels themselves need one."""

from __future__ import annotations

import pytest
import torch

from runpod_server.errors import EngineUnavailable
from runpod_server.model.device import device_and_dtype, is_out_of_memory, take_device


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """A machine with two Turing GPUs; returns the devices that became a thread's own."""
    taken: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", lambda enabled: None)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    return taken


def test_without_a_gpu_it_is_the_cpu_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_and_dtype("", "") == (torch.device("cpu"), torch.float32)
    assert device_and_dtype("cpu", "BF16") == (torch.device("cpu"), torch.bfloat16)
    assert device_and_dtype("cuda", "") == (torch.device("cuda"), torch.bfloat16)
    with pytest.raises(EngineUnavailable, match="torch sees no GPU.*DEVICE=cpu"):
        take_device(torch.device("cuda"))


def test_a_gpu_without_bfloat16_gets_float16(
    two_gpus: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert device_and_dtype("", "") == (torch.device("cuda"), torch.float16)
    assert device_and_dtype("cuda:1", "bfloat16")[1] == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert device_and_dtype("cuda", "")[1] == torch.bfloat16


@pytest.mark.parametrize(
    ("device", "dtype", "sentence"),
    [("gpu", "", "is no device"), ("meta", "", "is not supported"), ("cpu", "int4", "DTYPE=int4")],
)
def test_what_cannot_be_is_refused(device: str, dtype: str, sentence: str) -> None:
    with pytest.raises(EngineUnavailable, match=sentence):
        device_and_dtype(device, dtype)


def test_a_thread_takes_the_gpu_it_was_given(two_gpus: list[torch.device]) -> None:
    take_device(torch.device("cpu"))
    assert torch.backends.cudnn.allow_tf32 and not two_gpus
    take_device(torch.device("cuda:1"))
    assert two_gpus == [torch.device("cuda:1")]
    assert not torch.backends.cudnn.allow_tf32
    with pytest.raises(EngineUnavailable, match="DEVICE=cuda:2, but torch sees only 2 GPU"):
        take_device(torch.device("cuda:2"))


def test_out_of_memory_is_known_under_all_its_names() -> None:
    for text in (
        "CUDA out of memory. Tried to allocate 20.00 GiB",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes",
    ):
        assert is_out_of_memory(RuntimeError(text))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(ValueError("out of memory"))
    assert not is_out_of_memory(RuntimeError("a shape is wrong"))


def test_out_of_memory_is_known_behind_the_error_it_led_to() -> None:
    """As when it breaks the capture of a graph, whose end then fails too."""
    with pytest.raises(RuntimeError) as caught:
        try:
            raise torch.OutOfMemoryError("no")
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
    assert is_out_of_memory(caught.value)
