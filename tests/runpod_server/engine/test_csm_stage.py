"""What only a GPU makes the stage do, as far as a CPU can tell: the same sound, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from runpod_server.engine.csm_stage import Stage  # noqa: E402
from runpod_server.errors import EngineUnavailable  # noqa: E402
from runpod_server.model import csm as csm_module  # noqa: E402
from runpod_server.model.weights import load_csm  # noqa: E402


@pytest.fixture
def loaded(tiny_folder: Path) -> Any:
    return load_csm(tiny_folder, device="cpu", dtype=torch.float32)


def test_decoding_all_streams_on_a_gpu_gives_the_sound_of_those_that_speak(
    loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a stream past its end is decoded into the spare slot, as a look at the flags would stall it."""
    by_cpu, by_gpu = (Stage(loaded, slots=4) for _ in range(2))
    monkeypatch.setattr(by_gpu._mimi, "_check_slots", lambda ids, *, batch: ids)  # it takes the spare slot
    generator = torch.Generator().manual_seed(1)
    for slots, ends in (([0, 1, 2], []), ([2, 0, 1], [0]), ([0, 2, 3], [3]), ([1, 2], []), ([0, 1, 3], [])):
        codes = torch.randint(0, 32, (len(slots), 4), generator=generator)
        is_eos = torch.tensor([slot in ends for slot in slots])
        with torch.inference_mode():
            expected = by_cpu._speak_on_cpu(slots, codes, is_eos)
            found = by_gpu._speak_on_gpu(slots, codes, is_eos)
        ended = by_cpu._ended[torch.tensor(slots)]
        assert torch.equal(by_gpu._ended, by_cpu._ended)
        assert found[~ended].abs().max() > 0
        torch.testing.assert_close(found[~ended], expected[~ended], rtol=1e-5, atol=1e-6)


def test_slots_that_do_not_fit_are_refused_with_their_size(
    loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")

    monkeypatch.setattr(csm_module, "KvCache", full)
    with pytest.raises(EngineUnavailable, match=r"MAX_STREAMS=1000 streams of 0 MB do not fit.*lower MAX_ST"):
        Stage(loaded, slots=1000)
