"""Which CSM is to be loaded, and where. Imports torch only to load it, in the thread that will own it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runpod_server.errors import EngineUnavailable
from runpod_server.extras import install_command

if TYPE_CHECKING:
    from runpod_server.engine.csm_stage import Stage
    from runpod_server.model.quantize import Weights
    from runpod_server.model.weights import LoadedCsm


@dataclass(frozen=True, slots=True)
class CsmSource:
    """A hub id or local folder; empty device and dtype: what suits the machine."""

    model: str | Path
    device: str = ""
    dtype: str = ""
    token: str | None = None
    cuda_graphs: bool = True
    weights: Weights = "full"

    @property
    def likely_device(self) -> Literal["cuda", "cpu"]:
        """Where it will run, as far as that is known before loading."""
        return "cuda" if self.device.startswith("cuda") else "cpu"

    def load(self) -> LoadedCsm:
        """Import torch and load the model, however long it takes. Raises EngineUnavailable."""
        source = _folder_or_id(self.model)
        try:
            from runpod_server.model.device import device_and_dtype
            from runpod_server.model.weights import load_csm
        except ImportError as error:
            raise EngineUnavailable(
                f"CSM needs torch and transformers ({error}): {install_command('csm')}, or ENGINE=preview"
            ) from error
        device, dtype = device_and_dtype(self.device, self.dtype)
        return load_csm(source, device=device, dtype=dtype, token=self.token)

    def open_stage(self, *, slots: int) -> Stage:
        """Load the model and make its slots. Raises EngineUnavailable."""
        loaded = self.load()
        from runpod_server.engine.csm_stage import Stage

        return Stage(loaded, slots=slots, use_graphs=self.cuda_graphs, weights=self.weights)


def _folder_or_id(model: str | Path) -> str | Path:
    """What looks like a folder must be one: the hub's library would call it a wrong name."""
    if isinstance(model, str) and not model.startswith(("/", ".", "~")):
        return model
    folder = Path(model).expanduser()
    if not folder.is_dir():
        raise EngineUnavailable(
            f"CSM_MODEL={model} is no folder here: name one that holds a whole checkpoint, or a model of the "
            "hub such as sesame/csm-1b"
        )
    return folder
