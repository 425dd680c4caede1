"""What is judged of a machine, line by line, and the command around it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from runpod_server.cli import cli
from runpod_server.doctor import Check, as_json, as_table, checks, passed
from runpod_server.machine import Gpu, Machine, Torch, Weights
from runpod_server.settings import Settings, Surroundings
from runpod_server.voices.shipped import SHIPPED, install, open_voices

GIB = 1024**3
TOKEN = "hf_" + "a" * 34
KEY = "a-key-nobody-guesses"
H200 = Gpu(0, "NVIDIA H200", "570.86.15", 143_771, 143_000, "9.0")
TORCH = Torch("2.13.0+cu126", "12.6", 1, ("sm_80", "sm_86", "sm_90"))
READY = Machine(
    gpus=(H200,),
    gpu_problem="",
    torch=TORCH,
    transformers="5.23.0",
    preview_voice=True,
    weights=Weights(Path("/workspace/hf/hub/x"), "here"),
    stored_token=False,
    access="granted",
    cache=Path("/workspace/hf/hub"),
    cache_free_bytes=40 * GIB,
    cache_writable=True,
    port_problem="",
    port_answers="",
)
FRESH = replace(READY, weights=Weights(Path("/workspace/hf/hub/x"), "absent"))
BARE = replace(
    FRESH, gpus=(), gpu_problem="nvidia-smi is not here", torch=None, transformers=None, access="unknown"
)
POD = Surroundings(runpod_pod_id="abc123")
HERE = Surroundings(runpod_pod_id="")


@pytest.fixture
def judged(settings: Callable[..., Settings]) -> Callable[..., dict[str, Check]]:
    """The lines by name, for a machine and settings that are right but for what is given."""

    def judge(machine: Machine = READY, around: Surroundings = HERE, **given: Any) -> dict[str, Check]:
        right = {"engine": "csm", "hf_token": TOKEN, "sesame_api_key": KEY, "voices_dir": SHIPPED}
        return {check.name: check for check in checks(settings(**right | given), machine, around)}

    return judge


Judge = Callable[..., dict[str, Check]]


def test_a_ready_machine(judged: Judge) -> None:
    lines = judged()
    assert {check.state for check in lines.values()} == {"ok"}
    assert not any(check.do for check in lines.values())
    assert lines["gpu"].found == "NVIDIA H200, driver 570.86.15, 139.6 of 140.4 GiB free"


@pytest.mark.parametrize(
    "engine, state, why",
    [
        ("csm", "fail", "ENGINE=csm needs it"),
        ("csm-chunked", "fail", "ENGINE=csm-chunked needs it"),
        ("", "warn", "without it an empty ENGINE means the preview voice"),
        ("preview", "ok", "ENGINE=preview does without"),
    ],
)
def test_a_machine_without_torch(engine: str, state: str, why: str, judged: Judge) -> None:
    lines = judged(BARE, engine=engine, hf_token=None)
    for name in ("torch", "transformers"):
        assert lines[name].state == state
        assert lines[name].found == f"not installed; {why}"
        assert bool(lines[name].do) == (state != "ok")
    assert lines["token"].state == state
    assert lines["gpu"].state == ("ok" if state == "ok" else "warn"), "a CPU will do, slowly"


@pytest.mark.parametrize(
    "machine, given, state, found, do",
    [
        (BARE, {"device": "cuda"}, "fail", "nvidia-smi is not here", "with a GPU"),
        (READY, {"device": "cuda:1"}, "fail", "DEVICE=cuda:1, of 1 here", "cuda:0"),
        (BARE, {"device": "cpu"}, "ok", "not used", ""),
        (replace(READY, gpus=(replace(H200, free_mib=2000),)), {}, "fail", "2.0 of 140.4 GiB", "nvidia-smi"),
        (replace(READY, gpus=(replace(H200, free_mib=8000),)), {}, "warn", "7.8 of", "MAX_STREAMS"),
        (replace(READY, gpus=(replace(H200, free_mib=0),)), {}, "ok", "NVIDIA H200", ""),
        (
            replace(
                READY, gpus=(replace(H200, free_mib=2000),), port_answers="healthy", port_problem="taken"
            ),
            {},
            "ok",
            "2.0 of",
            "",
        ),
    ],
)
def test_gpus(
    machine: Machine, given: dict[str, Any], state: str, found: str, do: str, judged: Judge
) -> None:
    check = judged(machine, **given)["gpu"]
    assert (check.state, found in check.found, do in check.do) == (state, True, True), check


@pytest.mark.parametrize(
    "torch, state, found",
    [
        (replace(TORCH, version="2.4.1+cu121"), "fail", "2.4.1"),
        (Torch("2.13.0+cpu", None, 0, ()), "fail", "cannot use the GPU that is here"),
        (replace(TORCH, gpus=0, problem="the driver is too old"), "fail", "the driver is too old"),
        (replace(TORCH, kernels=("sm_100", "sm_120")), "fail", "no kernels for this GPU"),
        (replace(TORCH, kernels=("sm_80", "compute_80")), "ok", "CUDA 12.6"),
        (replace(TORCH, kernels=("sm_100", "compute_100")), "fail", "no kernels"),
        (replace(TORCH, kernels=()), "ok", "CUDA 12.6"),
        (Torch("2.13.0", None, 0, (), "importing it fails: libcudart"), "fail", "importing it fails"),
    ],
)
def test_torch_builds(torch: Torch, state: str, found: str, judged: Judge) -> None:
    check = judged(replace(READY, torch=torch))["torch"]
    assert check.state == state and found in check.found, check
    assert bool(check.do) == (state != "ok")


@pytest.mark.parametrize("version, state", [("5.20.0", "fail"), ("4.57.1", "fail"), ("5.21.0", "ok")])
def test_transformers_versions(version: str, state: str, judged: Judge) -> None:
    assert judged(replace(READY, transformers=version))["transformers"].state == state


@pytest.mark.parametrize(
    "token, state, found",
    [
        ("hf_short", "warn", "does not look like"),
        (f'"{TOKEN}"', "warn", "does not look like"),
        ("{{ RUNPOD_SECRET_hf_token }}", "fail", "placeholder"),
        (TOKEN, "ok", "hf_…aaaa"),
        (" ", "fail", "not set"),
    ],
)
def test_tokens(token: str, state: str, found: str, judged: Judge) -> None:
    check = judged(FRESH, hf_token=token)["token"]
    assert check.state == state and found in check.found, check
    assert TOKEN not in str(check)


def test_no_token_is_needed_where_the_weights_are(judged: Judge) -> None:
    assert judged(READY, hf_token=None)["token"].state == "ok"
    assert judged(replace(FRESH, stored_token=True), hf_token=None)["token"].state == "ok"


@pytest.mark.parametrize(
    "access, do",
    [
        ("licence", "accept it"),
        ("token", "new read token"),
        ("absent", "CSM_MODEL"),
        ("unreachable", "network"),
    ],
)
def test_access(access: Any, do: str, judged: Judge) -> None:
    refused = judged(replace(FRESH, access=access))["licence"]
    assert refused.state == "fail" and do in refused.do
    assert judged(replace(READY, access=access))["licence"].state == "warn", "the weights are here"


def test_weights(judged: Judge, tmp_path: Path) -> None:
    assert judged(FRESH)["weights"].state == "warn"
    partial = replace(READY, weights=Weights(tmp_path, "partial", "model.safetensors is missing"))
    assert "partly downloaded" in judged(partial)["weights"].found
    local = judged(partial, csm_model=str(tmp_path))["weights"]
    assert local.state == "fail" and "model.safetensors is missing" in local.found


def test_the_disk(judged: Judge) -> None:
    assert judged(FRESH)["disk"].state == "ok"
    full = replace(FRESH, cache_free_bytes=5 * GIB)
    assert judged(full)["disk"].state == "fail" and "8 GiB" in judged(full)["disk"].do
    assert judged(replace(full, weights=READY.weights))["disk"].state == "ok"
    assert judged(full, engine="preview")["disk"].state == "ok"
    assert "HF_HOME" in judged(replace(FRESH, cache_writable=False))["disk"].do


def test_the_port(judged: Judge) -> None:
    taken = replace(READY, port_problem="port 8000 on 0.0.0.0 is in use")
    assert judged(taken)["port"].state == "fail"
    assert judged(replace(taken, port_answers="healthy"))["port"].state == "warn"


def test_the_address(judged: Judge) -> None:
    everywhere = {"host": "0.0.0.0", "port": 8000}
    assert "https://abc123-8000.proxy.runpod.net" in judged(READY, POD, **everywhere)["address"].found
    assert judged(READY, POD, host="127.0.0.1")["address"].state == "fail", "the proxy cannot reach it"
    assert judged(READY, host="127.0.0.1", sesame_api_key=None)["address"].state == "ok"
    assert judged(READY, **everywhere, sesame_api_key=None)["address"].state == "warn"
    placeholder = judged(READY, POD, **everywhere, sesame_api_key="{{ RUNPOD_SECRET_sesame_api_key }}")
    assert placeholder["address"].state == "fail"


def test_the_voices_folder(judged: Judge, tmp_path: Path) -> None:
    as_shipped = judged(voices_dir=None)["voices"]
    assert as_shipped.state == "ok"
    assert as_shipped.found.startswith("as shipped: 0 juniper, 1 rowan, 2 linden,")
    assert judged(voices_dir="none")["voices"].state == "warn", "another voice in every answer"
    assert "voices" not in judged(voices_dir="none", engine="preview")
    assert judged(voices_dir=tmp_path)["voices"].found.startswith(f"{tmp_path}: 0 juniper,")
    new = tmp_path / "new" / "voices"
    assert judged(voices_dir=new)["voices"].state == "ok" and not new.parent.exists()
    install(open_voices(new))
    assert judged(voices_dir=new)["voices"].found.endswith("8 holly, 9 maple")
    (new / "rowan.wav").write_bytes(b"torn")
    assert judged(voices_dir=new)["voices"].state == "warn"
    assert judged(voices_dir=new / "rowan.wav" / "more")["voices"].state == "fail"


def test_the_table_and_the_json() -> None:
    found = [
        Check("gpu", "ok", "NVIDIA H200"),
        Check("licence", "fail", "a sentence " * 20, "open https://example.com/a-long-address"),
    ]
    table = as_table(found)
    lines = table.splitlines()
    assert lines[0] == "ok    gpu      NVIDIA H200"
    assert lines[1].startswith("FAIL  licence  a sentence")
    assert all(len(line) <= 110 for line in lines)
    assert "→ open https://example.com/a-long-address" in table
    assert lines[-1] == "1 to mend before the server can start"
    assert not passed(found) and passed(found[:1])
    told = json.loads(as_json(found))
    assert told["ok"] is False
    assert told["checks"][0] == {"name": "gpu", "state": "ok", "found": "NVIDIA H200", "do": ""}


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """`sesame-server doctor`, in an empty folder and with nothing but these settings."""
    monkeypatch.chdir(tmp_path)
    for name in (*Settings.model_fields, *Surroundings.model_fields):
        monkeypatch.delenv(name.upper(), raising=False)

    def run(*arguments: str, **environment: str) -> Result:
        for name, value in {"HF_HOME": str(tmp_path / "hf"), "PORT": "0", **environment}.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(cli, ["doctor", *arguments])

    return run


def test_the_preview_engine_can_start_here(doctor: Callable[..., Result]) -> None:
    result = doctor("--json", ENGINE="preview")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["ok"] is True
    engine = next(check for check in told["checks"] if check["name"] == "engine")
    assert engine["found"] == "preview (hibari-tts) on cpu"


def test_what_cannot_start_is_exit_code_1(doctor: Callable[..., Result]) -> None:
    result = doctor("--offline", "--engine", "csm", VOICES_DIR="/dev/null/voices")
    assert result.exit_code == 1
    assert "FAIL  voices" in result.stdout and "FAIL  token" in result.stdout
    assert "to mend before the server can start" in result.stdout


def test_settings_that_cannot_be_read(doctor: Callable[..., Result]) -> None:
    result = doctor(PORT="many")
    assert result.exit_code == 1
    assert "FAIL  settings" in result.stdout and "PORT='many'" in result.stdout
