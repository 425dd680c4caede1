"""What `sesame-server bench` does: composes a measurement from options and settings, keeps what came out."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from runpod_server.bench.plan import Plan, Size, Weights
from runpod_server.bench.report import Report
from runpod_server.bench.run import OverTheNetwork, Tell, keep_noise, machine, run
from runpod_server.engine.csm_source import CsmSource
from runpod_server.errors import BenchError
from runpod_server.extras import install_command
from runpod_server.settings import Settings
from runpod_server.voices.shipped import open_voices
from runpod_server.voices.store import VoiceStore

if TYPE_CHECKING:
    from runpod_server.bench.subject import Subject
    from runpod_server.model.weights import LoadedCsm


@dataclass(frozen=True, slots=True)
class Model:
    """Which model, and where."""

    weights: Weights
    size: Size
    device: str  # "": the GPU if there is one
    dtype: str  # "": what suits the device
    cuda_graphs: bool
    threads: int  # of the CPU; 0: as many as torch takes by itself


def bench_model(plan: Plan, model: Model, settings: Settings, report: Report, tell: Tell) -> None:
    """Measure a model in this process. Raises BenchError, EngineUnavailable; see the report."""
    if find_spec("torch") is None or find_spec("transformers") is None:
        raise BenchError(
            f"torch and transformers are needed: {install_command('csm')}; or measure a running "
            "server with --url"
        )
    subject = _subject(model, settings, tell)
    report.machine = machine(subject.device_name, threads=subject.threads)
    report.options = asdict(plan) | {
        "model": f"{model.size}, random" if model.weights == "random" else settings.csm_model,
        "device": str(subject.loaded.device),
        "dtype": str(subject.loaded.dtype).removeprefix("torch."),
        "layer_weights": subject.weights,
        "cuda_graphs": subject.cuda_graphs,
    }
    report.first_audio_limit_ms = plan.first_audio_ms
    from runpod_server.bench.in_process import InProcess

    with tempfile.TemporaryDirectory(prefix="sesame-bench-") as folder:
        if model.weights == "random" and plan.voice_s:
            keep_noise(Path(folder), plan.voice_s)

        def voices() -> VoiceStore:
            if model.weights == "random":
                return VoiceStore.open(Path(folder))
            return open_voices(settings.voices_dir if plan.voice_s else "none")

        run(plan, InProcess(plan, subject, voices, report, tell), report)


def bench_server(plan: Plan, url: str, api_key: str | None, report: Report, tell: Tell) -> None:
    """Measure a running server. Raises ClientError; the report has what was found until then."""
    report.machine = {"server": url, **machine(None, threads=None)}
    report.options = asdict(plan)
    report.first_audio_limit_ms = plan.first_audio_ms
    run(plan, OverTheNetwork(plan, url, api_key, report, tell), report)


def make_folder(folder: Path) -> bool:
    """Before anything is measured for it: whether it was not there. Raises BenchError."""
    there = folder.is_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error
    return not there


def keep(report: Report, folder: Path) -> str:
    """Write the figures and their picture; a sentence about what was written. Raises BenchError."""
    figures, picture = folder / "bench.json", folder / "bench.png"
    try:
        figures.write_text(report.as_json() + "\n")
        if find_spec("matplotlib") is None:
            return f"{figures}; no picture, for want of matplotlib: {install_command('local')}"
        from runpod_server.bench.plot import draw

        draw(report, picture)
    except OSError as error:
        raise _not_writable(folder, error) from error
    return f"{figures}, {picture}"


def _not_writable(folder: Path, error: OSError) -> BenchError:
    return BenchError(f"{folder} cannot be written ({error}): name another folder with --out")


def _subject(model: Model, settings: Settings, tell: Tell) -> Subject:
    from runpod_server.bench.subject import Subject, quiet_libraries, set_threads

    quiet_libraries()
    if model.threads:
        set_threads(model.threads)
    tell("making the model" if model.weights == "random" else f"loading {settings.csm_model}")
    return Subject(_loaded(model, settings), cuda_graphs=model.cuda_graphs, weights=settings.csm_weights)


def _loaded(model: Model, settings: Settings) -> LoadedCsm:
    device, dtype = model.device or settings.device, model.dtype or settings.dtype
    if model.weights == "real":
        return CsmSource(settings.csm_model, device=device, dtype=dtype, token=settings.hub_token).load()
    from runpod_server.bench.sizes import random_model
    from runpod_server.model.device import device_and_dtype

    return random_model(model.size, *device_and_dtype(device, dtype))
