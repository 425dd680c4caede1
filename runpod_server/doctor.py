"""`sesame-server doctor`: judges what `machine` found, line by line, each with what to do about it.

Pure but for `diagnose`, which looks first and asks the composition root which engine it would choose.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from runpod_server.app import choose_engine
from runpod_server.errors import StartError
from runpod_server.extras import install_command
from runpod_server.machine import Access, Machine, Torch, examine
from runpod_server.settings import Settings, Surroundings
from runpod_server.voices.shipped import open_voices
from runpod_server.voices.store import SPEAKERS

State = Literal["ok", "warn", "fail"]

_GIB = 1024**3
_DOWNLOAD_BYTES = 8 * _GIB  # csm-1b with its tokenizer and what downloading needs beside it
_LEAST_MIB, _GOOD_MIB = 5 * 1024, 10 * 1024  # weights in bfloat16; with room for MAX_STREAMS and graphs
_OLDEST_TRANSFORMERS = (5, 21)
_OLDEST_TORCH = (2, 6)
_TOKEN = re.compile(r"hf_[A-Za-z0-9_]{20,}")
_WIDTH = 110


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked at, how it is, what was found, and what to do ("": nothing)."""

    name: str
    state: State
    found: str
    do: str = ""


@dataclass(frozen=True, slots=True)
class Need:
    """How much a thing that only CSM uses matters: `lacking` is the state of its absence."""

    lacking: State
    why: str


def diagnose(settings: Settings, around: Surroundings, *, network: bool = True) -> list[Check]:
    """Look at the machine and judge it."""
    machine = examine(settings, around, network=network)
    return [*checks(settings, machine, around), engine_check(settings, machine)]


def checks(settings: Settings, machine: Machine, around: Surroundings) -> list[Check]:
    """Everything but the engine, which only the composition root can tell."""
    need = need_of_csm(settings)
    return [
        gpu_check(settings, machine, need),
        torch_check(settings, machine, need),
        transformers_check(machine.transformers, need),
        weights_check(settings, machine, need),
        token_check(settings, machine, need),
        access_check(settings, machine, need),
        disk_check(machine, need),
        port_check(settings, machine),
        address_check(settings, around),
        *voices_check(settings.voices_dir, need),
    ]


def need_of_csm(settings: Settings) -> Need:
    """What it means, under this ENGINE, that something CSM needs is not there."""
    if settings.engine == "preview":
        return Need("ok", "ENGINE=preview does without")
    if settings.engine == "":
        return Need("warn", "without it an empty ENGINE means the preview voice")
    return Need("fail", f"ENGINE={settings.engine} needs it")


def gpu_check(settings: Settings, machine: Machine, need: Need) -> Check:
    """Is there a GPU with room for the model?"""
    if settings.device == "cpu":
        return Check("gpu", "ok", "not used: DEVICE=cpu; CSM is far slower than speech there")
    if not machine.gpus:
        asked_for = settings.device.startswith("cuda")
        state: State = "fail" if asked_for and need.lacking == "fail" else min_state(need.lacking, "warn")
        return Check(
            "gpu",
            state,
            f"none ({machine.gpu_problem}); {need.why}",
            "" if state == "ok" else "start the pod or container with a GPU; CSM on a CPU is far too slow",
        )
    index = int(settings.device.partition(":")[2] or 0) if settings.device.startswith("cuda") else 0
    if index >= len(machine.gpus):
        todo = f"set DEVICE to one from cuda:0 to cuda:{len(machine.gpus) - 1}"
        return Check("gpu", need.lacking, f"DEVICE={settings.device}, of {len(machine.gpus)} here", todo)
    gpu = machine.gpus[index]
    found = (
        f"{gpu.name}, driver {gpu.driver}, {gpu.free_mib / 1024:.1f} of {gpu.total_mib / 1024:.1f} GiB free"
    )
    if machine.port_answers or not gpu.free_mib:  # a server that runs here holds the memory, rightly
        return Check("gpu", "ok", found)
    if gpu.free_mib < _LEAST_MIB:
        todo = (
            "stop what else uses it (nvidia-smi names it), or take a larger one: CSM-1B needs 5 GiB to load"
        )
        return Check("gpu", need.lacking, found, _unless_ok(need, todo))
    if gpu.free_mib < _GOOD_MIB and need.lacking != "ok":
        return Check("gpu", "warn", found, "few streams fit: lower MAX_STREAMS, or take a larger GPU")
    return Check("gpu", "ok", found)


def torch_check(settings: Settings, machine: Machine, need: Need) -> Check:
    """Is torch there, new enough, and able to use the GPU?"""
    torch = machine.torch
    if torch is None:
        return Check(
            "torch", need.lacking, f"not installed; {need.why}", _unless_ok(need, install_command("csm"))
        )
    found = f"{torch.version}, " + (f"built for CUDA {torch.cuda}" if torch.cuda else "built for the CPU")
    if _version(torch.version) < _OLDEST_TORCH:
        return Check("torch", need.lacking, found, _unless_ok(need, "pip install -U 'torch>=2.6'"))
    trouble = "" if settings.device == "cpu" else _why_torch_cannot_use(torch, machine)
    if trouble:
        reinstall = (
            "install the build of torch that fits the GPU and its driver: https://pytorch.org/get-started"
        )
        return Check("torch", need.lacking, f"{found}; {trouble}", _unless_ok(need, reinstall))
    if torch.cuda is None and torch.problem:
        return Check(
            "torch", need.lacking, f"{found}; {torch.problem}", _unless_ok(need, install_command("csm"))
        )
    return Check("torch", "ok", found)


def _why_torch_cannot_use(torch: Torch, machine: Machine) -> str:
    if not machine.gpus:
        return ""
    if torch.cuda is None:
        return torch.problem or "it cannot use the GPU that is here"
    if torch.gpus == 0:
        return f"it sees no GPU though one is here: {torch.problem}"
    gpu = machine.gpus[0]
    if not _has_kernels(torch.kernels, gpu.capability):
        return f"it has no kernels for this GPU (compute capability {gpu.capability})"
    return ""


def _has_kernels(kernels: Sequence[str], capability: str) -> bool:
    """Binary kernels run on the same major version, from their minor one up; PTX on all later GPUs."""
    if not kernels or not re.fullmatch(r"\d+\.\d+", capability):
        return True  # not told: no ground to complain
    major, minor = (int(part) for part in capability.split("."))
    for kind, digits in re.findall(r"(sm|compute)_(\d+)", " ".join(kernels)):
        made_major, made_minor = int(digits[:-1]), int(digits[-1])
        if kind == "sm" and made_major == major and made_minor <= minor:
            return True
        if kind == "compute" and (made_major, made_minor) <= (major, minor):
            return True
    return False


def transformers_check(version: str | None, need: Need) -> Check:
    """Is transformers there, and not one of those that load CSM wrongly?"""
    if version is None:
        return Check(
            "transformers",
            need.lacking,
            f"not installed; {need.why}",
            _unless_ok(need, install_command("csm")),
        )
    if _version(version) < _OLDEST_TRANSFORMERS:
        todo = "pip install -U 'transformers>=5.21': older ones load CSM wrongly, and it babbles"
        return Check("transformers", need.lacking, version, _unless_ok(need, todo))
    return Check("transformers", "ok", version)


def weights_check(settings: Settings, machine: Machine, need: Need) -> Check:
    """Are the weights on this machine already?"""
    weights, model = machine.weights, settings.csm_model
    if weights.state == "here":
        return Check("weights", "ok", f"{model} is in {weights.place}")
    if Path(model).expanduser().is_dir():
        todo = "put a whole checkpoint there, or set CSM_MODEL=sesame/csm-1b"
        return Check(
            "weights",
            need.lacking,
            f"{model} is no whole checkpoint: {weights.missing}",
            _unless_ok(need, todo),
        )
    if need.lacking == "ok":
        return Check("weights", "ok", "none here; ENGINE=preview does without")
    how = "partly downloaded" if weights.state == "partial" else "not downloaded yet"
    return Check(
        "weights",
        "warn",
        f"{model}: {how}",
        "nothing: the first start downloads some 7 GB, which takes minutes",
    )


def token_check(settings: Settings, machine: Machine, need: Need) -> Check:
    """Is there a token of the model hub, and does it look like one?"""
    token = settings.hub_token or ""
    if not token.strip():
        if machine.weights.state == "here" or need.lacking == "ok":
            return Check("token", "ok", "HF_TOKEN is not set, and not needed")
        if machine.stored_token:
            return Check("token", "ok", "HF_TOKEN is not set; the one that `hf auth login` stored is used")
        todo = (
            "accept the licence at https://huggingface.co/sesame/csm-1b, make a read token at "
            "https://huggingface.co/settings/tokens, set HF_TOKEN to it"
        )
        return Check("token", need.lacking, f"HF_TOKEN is not set; {need.why}", todo)
    if "{{" in token:
        todo = "make the secret that the pod's environment names (RunPod: Secrets), then restart the pod"
        return Check("token", _softened(need, machine), "HF_TOKEN still holds a secret's placeholder", todo)
    if not _TOKEN.fullmatch(token):
        todo = "copy it again, whole and without quotes or spaces: it is hf_ and some 34 letters and digits"
        return Check("token", min_state(need.lacking, "warn"), "HF_TOKEN does not look like a token", todo)
    return Check("token", "ok", f"HF_TOKEN is set (hf_…{token[-4:]})")


_ACCESS: dict[Access, tuple[str, str]] = {
    "licence": (
        "the model's licence is not accepted by the token's account",
        "open https://huggingface.co/sesame/csm-1b signed in as that account, accept it, and try again",
    ),
    "token": (
        "the model hub does not accept the token (or none was sent)",
        "make a new read token at https://huggingface.co/settings/tokens and set HF_TOKEN to it",
    ),
    "absent": (
        "the model hub shows no such model to this token",
        "check the spelling of CSM_MODEL; a fine-grained token must allow reading gated repositories",
    ),
    "unreachable": (
        "the model hub gives no answer",
        "check the network (and HF_ENDPOINT), or put the weights in a folder and set CSM_MODEL to it",
    ),
}


def access_check(settings: Settings, machine: Machine, need: Need) -> Check:
    """Would the hub give us the model?"""
    if machine.access == "granted":
        return Check("licence", "ok", f"{settings.csm_model} may be downloaded")
    if machine.access == "unknown":
        return Check("licence", "ok", "not asked: no network wanted, or no need")
    found, todo = _ACCESS[machine.access]
    return Check("licence", _softened(need, machine), f"{settings.csm_model}: {found}", todo)


def disk_check(machine: Machine, need: Need) -> Check:
    """Is there room for the weights, where they will be put?"""
    found = f"{machine.cache_free_bytes / _GIB:.1f} GiB free at {machine.cache}"
    if machine.weights.state == "here" or need.lacking == "ok":
        return Check("disk", "ok", found)
    if not machine.cache_writable:
        todo = "set HF_HOME to a folder this user may write to, such as /workspace/hf on a pod"
        return Check("disk", need.lacking, f"{machine.cache} may not be written to", todo)
    if machine.cache_free_bytes < _DOWNLOAD_BYTES:
        todo = "the weights need 8 GiB: enlarge the volume, delete old models in it, or set HF_HOME elsewhere"
        return Check("disk", need.lacking, found, todo)
    return Check("disk", "ok", found)


def port_check(settings: Settings, machine: Machine) -> Check:
    """Can the port be had?"""
    where = f"{settings.host}:{settings.port}"
    if not machine.port_problem:
        return Check("port", "ok", "any free one" if settings.port == 0 else f"{where} is free")
    if machine.port_answers:
        found = f"a speech server listens at {where} already, and is {machine.port_answers}"
        return Check("port", "warn", found, "nothing if you mean that one; else stop it, or change PORT")
    return Check(
        "port",
        "fail",
        machine.port_problem,
        "mind that .env gives HOST and PORT to the call backend and to this server alike",
    )


def address_check(settings: Settings, around: Surroundings) -> Check:
    """Who can reach the server, and may they?"""
    alone = settings.host.startswith("127.") or settings.host in ("localhost", "::1")
    if alone and around.runpod_pod_id:
        todo = "unset HOST, or set it to 0.0.0.0 (.env may hold it for the call backend)"
        return Check("address", "fail", f"HOST={settings.host}: the pod's proxy cannot reach that", todo)
    if alone:
        return Check("address", "ok", f"http://{settings.host}:{settings.port}, from this machine only")
    found = f"port {settings.port} of this machine's addresses"
    if around.runpod_pod_id:
        found = (
            f"https://{around.runpod_pod_id}-{settings.port}.proxy.runpod.net, if port {settings.port} is "
            "exposed over HTTP"
        )
    if settings.api_key is None:
        return Check(
            "address", "warn", f"{found}; open to everybody", "set SESAME_API_KEY to a long random word"
        )
    if "{{" in settings.api_key:
        todo = "make the secret that the pod's environment names (RunPod: Secrets), then restart the pod"
        return Check("address", "fail", "SESAME_API_KEY still holds a secret's placeholder", todo)
    return Check("address", "ok", f"{found}; SESAME_API_KEY is set")


def voices_check(folder: Path | Literal["none"] | None, need: Need) -> list[Check]:
    """Has every speaker a voice, and can the folder of the user's own be made?"""
    if folder == "none":
        if need.lacking == "ok":
            return []
        bare = "VOICES_DIR=none: every answer sounds like a different person"
        return [Check("voices", "warn", bare, "leave VOICES_DIR empty for the voices that come with it")]
    if folder is None or folder.is_dir():
        return [_voices_in(folder)]
    above = next(path for path in folder.absolute().parents if path.exists())
    if folder.exists() or not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        found = f"VOICES_DIR={folder} is no folder, and cannot be made one"
        return [Check("voices", "fail", found, "name a folder that can be made, or leave VOICES_DIR empty")]
    return [
        Check("voices", "ok", f"{folder} is made at the start; until it has voices, the shipped ones speak")
    ]


def _voices_in(folder: Path | None) -> Check:
    store = open_voices(folder)
    bound = {voice.speaker_id: voice.name for voice in store.all() if voice.speaker_id is not None}
    found = ", ".join(f"{speaker} {bound[speaker]}" for speaker in sorted(bound))
    found = f"{folder or 'as shipped'}: {found}"
    if bare := [str(speaker) for speaker in SPEAKERS if speaker not in bound]:
        found += f"; no voice for speaker {', '.join(bare)}"
    if store.problems:
        return Check("voices", "warn", f"{found}; left out: {'; '.join(store.problems)}", "mend them")
    return Check("voices", "warn" if bare else "ok", found, "install this program anew" if bare else "")


def engine_check(settings: Settings, machine: Machine) -> Check:
    """What would speak?"""
    try:
        engine = choose_engine(settings.model_copy(update={"voices_dir": None}))  # which would be made
        asyncio.run(engine.close())
    except StartError as error:
        return Check("engine", "fail", str(error), "mend it, or set ENGINE=preview to go on without CSM")
    except ImportError as error:
        return Check("engine", "fail", f"ENGINE={settings.engine}: {error}", install_command("csm"))
    found = f"{engine.name} ({engine.model}) on {engine.device}"
    if engine.name != "preview":
        return Check("engine", "ok", found)
    if not machine.preview_voice:
        return Check("engine", "fail", f"{found}; its voice is not installed", install_command("local"))
    if settings.engine == "preview":
        return Check("engine", "ok", found)
    return Check("engine", "warn", f"{found}: not CSM", "mend the lines above, then set ENGINE=csm")


def passed(found: Sequence[Check]) -> bool:
    """Whether the server can be started as configured."""
    return all(check.state != "fail" for check in found)


def as_table(found: Sequence[Check]) -> str:
    """Plain lines for people and logs."""
    name_width = max(len(check.name) for check in found)
    indent = " " * (name_width + 8)
    lines: list[str] = []
    for check in found:
        state = check.state.upper() if check.state == "fail" else check.state
        lines += _wrapped(f"{state:<4}  {check.name:<{name_width}}  ", indent, check.found)
        if check.do:
            lines += _wrapped(indent[:-2] + "→ ", indent, check.do)
    failures = sum(check.state == "fail" for check in found)
    lines.append("")
    lines.append(f"{failures} to mend before the server can start" if failures else "the server can start")
    return "\n".join(lines)


def as_json(found: Sequence[Check]) -> str:
    """The same for programs."""
    return json.dumps({"ok": passed(found), "checks": [asdict(check) for check in found]}, indent=2)


def min_state(one: State, other: State) -> State:
    """The milder of two."""
    order: tuple[State, ...] = ("ok", "warn", "fail")
    return order[min(order.index(one), order.index(other))]


def _softened(need: Need, machine: Machine) -> State:
    """With the weights here, the hub is not needed to start."""
    return min_state(need.lacking, "warn") if machine.weights.state == "here" else need.lacking


def _unless_ok(need: Need, todo: str) -> str:
    return "" if need.lacking == "ok" else todo


def _version(text: str) -> tuple[int, int]:
    digits = re.findall(r"\d+", text) + ["0", "0"]
    return int(digits[0]), int(digits[1])


def _wrapped(first: str, rest: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
