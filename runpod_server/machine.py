"""What this machine has to run the speech server with: GPU, libraries, disk, port, access to the model.

Looks and tells, judges nothing (see `doctor`). Works without torch; torch is asked in a process of its own,
so that its import can neither block nor crash whoever asks.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import httpx

from runpod_server.app import listen
from runpod_server.errors import PortUnavailable
from runpod_server.settings import Settings, Surroundings

Access = Literal["granted", "licence", "token", "absent", "unreachable", "unknown"]

_NVIDIA_SMI = ("index", "name", "driver_version", "memory.total", "memory.free", "compute_cap")
_NVIDIA_SMI_TIMEOUT_S = 20
_TORCH_TIMEOUT_S = 120  # the first import from a network volume
_HTTP_TIMEOUT_S = 8.0
_ASK_TORCH = """
import json
from importlib.util import find_spec
told = None
if find_spec("torch"):
    import torch
    told = {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "gpus": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "kernels": torch.cuda.get_arch_list() if torch.version.cuda else [],
    }
print(json.dumps(told))
"""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU, as nvidia-smi tells."""

    index: int
    name: str
    driver: str
    total_mib: int
    free_mib: int
    capability: str  # "9.0"


@dataclass(frozen=True, slots=True)
class Torch:
    """The torch that this Python would import."""

    version: str
    cuda: str | None  # the CUDA it was built for; None: a build for the CPU
    gpus: int  # how many it can use
    kernels: tuple[str, ...]  # "sm_90", …: what it was compiled for
    problem: str = ""  # why it cannot be imported, or what it complained of


@dataclass(frozen=True, slots=True)
class Weights:
    """The model's files on this machine."""

    place: Path
    state: Literal["here", "partial", "absent"]
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything found. None where a thing is not there."""

    gpus: tuple[Gpu, ...]
    gpu_problem: str
    torch: Torch | None
    transformers: str | None
    preview_voice: bool
    weights: Weights
    stored_token: bool  # `hf auth login` left one, which the hub's library uses without HF_TOKEN
    access: Access
    cache: Path
    cache_free_bytes: int
    cache_writable: bool
    port_problem: str  # "": it is free
    port_answers: str  # the health of a speech server that already listens there


def examine(settings: Settings, around: Surroundings, *, network: bool) -> Machine:
    """Look at everything; takes seconds, most of them torch's import. Never raises for what it finds."""
    gpus, gpu_problem = find_gpus()
    weights = find_weights(settings.csm_model, around.hub_cache)
    token = (settings.hub_token or "").strip()
    access: Access = "unknown"
    if asks_hub(settings, around, network=network):
        access = find_access(around.hf_endpoint, settings.csm_model, token)
    port_problem, port_answers = find_port(settings.host, settings.port)
    return Machine(
        gpus=gpus,
        gpu_problem=gpu_problem,
        torch=find_torch(),
        transformers=_installed_version("transformers"),
        preview_voice=find_spec("hibari") is not None,
        weights=weights,
        stored_token=(around.hf_home.expanduser() / "token").is_file(),
        access=access,
        cache=around.hub_cache,
        cache_free_bytes=shutil.disk_usage(_existing(around.hub_cache)).free,
        cache_writable=os.access(_existing(around.hub_cache), os.W_OK),
        port_problem=port_problem,
        port_answers=port_answers,
    )


def asks_hub(settings: Settings, around: Surroundings, *, network: bool) -> bool:
    """Whether the model comes from the hub, and the hub may be asked."""
    is_local = Path(settings.csm_model).expanduser().is_dir()
    return network and not around.offline and settings.engine != "preview" and not is_local


def find_gpus(command: str = "nvidia-smi") -> tuple[tuple[Gpu, ...], str]:
    """The GPUs, and why there are none."""
    query = [command, f"--query-gpu={','.join(_NVIDIA_SMI)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=_NVIDIA_SMI_TIMEOUT_S)
    except FileNotFoundError:
        return (), "nvidia-smi is not here: no NVIDIA driver reaches this machine or container"
    except (OSError, subprocess.TimeoutExpired) as error:
        return (), f"nvidia-smi does not work: {error}"
    if done.returncode != 0:
        return (), f"nvidia-smi fails: {_last_line(done.stdout + done.stderr)}"
    return tuple(_gpu(line) for line in done.stdout.splitlines() if line.strip()), ""


def _gpu(line: str) -> Gpu:
    index, name, driver, total, free, capability = (part.strip() for part in line.split(","))
    return Gpu(_whole(index), name, driver, _whole(total), _whole(free), capability)


def _whole(text: str) -> int:
    return int(float(text)) if text.replace(".", "", 1).isdigit() else 0  # "[N/A]" where it is not told


def find_torch(python: str = sys.executable) -> Torch | None:
    """What torch says of itself in that Python; None when it is not installed there."""
    try:
        done = subprocess.run(
            [python, "-c", _ASK_TORCH], capture_output=True, text=True, timeout=_TORCH_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _broken_torch(f"asking it failed: {error}")
    if done.returncode != 0:
        return _broken_torch(f"importing it fails: {_last_line(done.stderr)}")
    told: dict[str, Any] | None = json.loads(_last_line(done.stdout))
    if told is None:
        return None
    complaint = _last_line(done.stderr) if done.stderr.strip() and not told["gpus"] else ""
    return Torch(told["version"], told["cuda"], told["gpus"], tuple(told["kernels"]), complaint)


def _broken_torch(problem: str) -> Torch:
    return Torch(_installed_version("torch") or "of unknown version", None, 0, (), problem)


def find_weights(model: str, hub_cache: Path) -> Weights:
    """Whether a local folder, or the hub's cache, holds a whole checkpoint."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _checkpoint(folder, otherwise="absent")
    repository = hub_cache / f"models--{model.replace('/', '--')}"
    try:
        revision = (repository / "refs" / "main").read_text().strip()
    except OSError:
        started = (repository / "blobs").is_dir()
        return Weights(repository, "partial" if started else "absent", "the download has not finished")
    return _checkpoint(repository / "snapshots" / revision, otherwise="partial")


def _checkpoint(folder: Path, *, otherwise: Literal["partial", "absent"]) -> Weights:
    wanted = {"config.json"}
    for index in folder.glob("*.safetensors.index.json"):
        try:
            wanted |= set(json.loads(index.read_text())["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError):
            return Weights(folder, "partial", f"{index.name} cannot be read")
    missing = sorted(name for name in wanted if not (folder / name).is_file())  # a dangling link is none
    if not missing and not any(folder.glob("*.safetensors")):
        missing = ["model.safetensors"]
    if missing:
        state = otherwise if "config.json" in missing else "partial"
        return Weights(folder, state, f"{missing[0]} is missing")
    return Weights(folder, "here")


def find_access(endpoint: str, model: str, token: str) -> Access:
    """Whether the hub would give `model` to the owner of `token`."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        reply = httpx.get(
            f"{endpoint.rstrip('/')}/api/models/{model}/auth-check",
            headers=headers,
            timeout=_HTTP_TIMEOUT_S,
            follow_redirects=True,
        )
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError):
        return "unreachable"
    if reply.is_success:
        return "granted"
    code = reply.headers.get("x-error-code", "")
    if code == "GatedRepo" or reply.status_code == 403:
        return "licence"
    if code == "RepoNotFound" and token or reply.status_code == 404:
        return "absent"
    return "token" if reply.status_code == 401 else "unreachable"


def find_port(host: str, port: int) -> tuple[str, str]:
    """Why the port cannot be had ("": it can), and the health of the speech server that has it."""
    try:
        listen(host, port).close()
    except PortUnavailable as error:
        return str(error), _health_of("127.0.0.1" if host in ("0.0.0.0", "::", "") else host, port)
    return "", ""


def _health_of(host: str, port: int) -> str:
    try:
        told = httpx.get(f"http://{host}:{port}/health", timeout=_HTTP_TIMEOUT_S).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return ""
    return str(told["status"]) if isinstance(told, dict) and "status" in told else ""


def _installed_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _existing(path: Path) -> Path:
    """The nearest folder on the way up that is there."""
    while not path.is_dir() and path != path.parent:
        path = path.parent
    return path


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it says nothing"
