"""What the machine is found to have: real files, real sockets, and stand-ins for nvidia-smi and Python."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from runpod_server.app import listen
from runpod_server.machine import (
    Gpu,
    asks_hub,
    examine,
    find_access,
    find_gpus,
    find_port,
    find_torch,
    find_weights,
)
from runpod_server.settings import Settings, Surroundings


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., str]:
    """A program that says something and ends with a status."""

    def make(stdout: str = "", *, stderr: str = "", status: int = 0) -> str:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{stdout}\nEND\necho '{stderr}' >&2\nexit {status}\n")
        path.chmod(0o755)
        return str(path)

    return make


def test_gpus(command: Callable[..., str]) -> None:
    told = "0, NVIDIA H200, 570.86.15, 143771, 143000, 9.0\n1, NVIDIA L4, 570.86.15, [N/A], [N/A], 8.9"
    assert find_gpus(command(told)) == (
        (
            Gpu(0, "NVIDIA H200", "570.86.15", 143_771, 143_000, "9.0"),
            Gpu(1, "NVIDIA L4", "570.86.15", 0, 0, "8.9"),
        ),
        "",
    )


def test_no_gpus(command: Callable[..., str]) -> None:
    assert find_gpus("no-such-nvidia-smi") == (
        (),
        "nvidia-smi is not here: no NVIDIA driver reaches this machine or container",
    )
    broken = command("NVIDIA-SMI has failed because it couldn't communicate with the driver.", status=9)
    assert find_gpus(broken)[1].startswith("nvidia-smi fails: NVIDIA-SMI has failed")


def test_torch_as_it_tells(command: Callable[..., str]) -> None:
    told = {"version": "2.13.0+cu126", "cuda": "12.6", "gpus": 1, "kernels": ["sm_80", "sm_90"]}
    torch = find_torch(command(json.dumps(told), stderr="a warning of no interest"))
    assert torch and (torch.version, torch.cuda, torch.gpus, torch.problem) == ("2.13.0+cu126", "12.6", 1, "")
    assert torch.kernels == ("sm_80", "sm_90")
    blind = find_torch(command(json.dumps(told | {"gpus": 0}), stderr="The NVIDIA driver is too old"))
    assert blind and blind.problem == "The NVIDIA driver is too old"


def test_torch_that_is_not_there_or_broken(command: Callable[..., str]) -> None:
    assert find_torch(command("null")) is None
    broken = find_torch(command(stderr="ImportError: libcudart.so.12: cannot open", status=1))
    assert broken and broken.problem == "importing it fails: ImportError: libcudart.so.12: cannot open"
    missing = find_torch("/no/such/python")
    assert missing and "asking it failed" in missing.problem


def test_torch_of_this_python() -> None:
    torch = find_torch(sys.executable)
    assert (torch is not None) == (find_spec("torch") is not None)
    assert torch is None or (torch.version[0].isdigit() and not torch.problem)


def checkpoint(folder: Path, *shards: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    for shard in shards:
        (folder / shard).write_bytes(b"weights")
    return folder


def cached(cache: Path, *shards: str) -> Path:
    repository = cache / "models--sesame--csm-1b"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123")
    return checkpoint(repository / "snapshots" / "abc123", *shards)


def test_weights_in_a_folder(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "csm", "model.safetensors")
    assert find_weights(str(folder), tmp_path / "hub").state == "here"
    (folder / "model.safetensors").unlink()
    assert find_weights(str(folder), tmp_path / "hub").missing == "model.safetensors is missing"
    (folder / "config.json").unlink()
    assert find_weights(str(folder), tmp_path / "hub").state == "absent"


def test_weights_in_the_cache(tmp_path: Path) -> None:
    assert find_weights("sesame/csm-1b", tmp_path).state == "absent"
    (tmp_path / "models--sesame--csm-1b" / "blobs").mkdir(parents=True)
    assert find_weights("sesame/csm-1b", tmp_path).state == "partial"
    snapshot = cached(tmp_path, "one.safetensors", "two.safetensors")
    assert find_weights("sesame/csm-1b", tmp_path).state == "here"
    index = snapshot / "transformers.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "three.safetensors"}}))
    assert find_weights("sesame/csm-1b", tmp_path).missing == "three.safetensors is missing"
    (snapshot / "three.safetensors").symlink_to(tmp_path / "a blob that is still being downloaded")
    assert find_weights("sesame/csm-1b", tmp_path).state == "partial"
    index.write_text('{"weight_map"')
    assert find_weights("sesame/csm-1b", tmp_path).missing.endswith("cannot be read")


@contextmanager
def hub(status: int, code: str = "") -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    """A model hub that answers every access check alike, and what it was asked."""
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "status, code, token, access",
    [
        (200, "", "hf_token", "granted"),
        (403, "GatedRepo", "hf_token", "licence"),
        (401, "GatedRepo", "", "licence"),
        (401, "", "hf_token", "token"),
        (401, "RepoNotFound", "", "token"),
        (401, "RepoNotFound", "hf_token", "absent"),
        (404, "RepoNotFound", "hf_token", "absent"),
        (500, "", "hf_token", "unreachable"),
    ],
)
def test_access(status: int, code: str, token: str, access: str) -> None:
    with hub(status, code) as (endpoint, asked):
        assert find_access(endpoint, "sesame/csm-1b", token) == access
    expected = f"Bearer {token}" if token else None
    assert asked == [("/api/models/sesame/csm-1b/auth-check", expected)]


def test_a_hub_out_of_reach() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
    assert find_access(f"http://127.0.0.1:{port}", "sesame/csm-1b", "hf_token") == "unreachable"


def test_ports(server: Any) -> None:
    host, _, port = server.host.partition(":")
    problem, health = find_port(host, int(port))
    assert "in use" in problem and health == "healthy"
    assert find_port(host, 0) == ("", "")
    with hub(404) as (url, _asked):
        problem, health = find_port("127.0.0.1", int(url.rpartition(":")[2]))
    assert "in use" in problem and health == ""


@pytest.mark.parametrize(
    "given, offline, network, asks",
    [
        ({"engine": "csm"}, "", True, True),
        ({"engine": ""}, "", True, True),
        ({"engine": "preview"}, "", True, False),
        ({"engine": "csm", "csm_model": "."}, "", True, False),
        ({"engine": "csm"}, "1", True, False),
        ({"engine": "csm"}, "", False, False),
    ],
)
def test_when_the_hub_is_asked(
    given: dict[str, str], offline: str, network: bool, asks: bool, settings: Callable[..., Settings]
) -> None:
    around = Surroundings(hf_hub_offline=offline)
    assert asks_hub(settings(**given), around, network=network) is asks


def test_everything_at_once(settings: Callable[..., Settings], tmp_path: Path) -> None:
    with hub(200) as (endpoint, asked):
        around = Surroundings(hf_home=tmp_path / "not made yet", hf_endpoint=endpoint, hf_hub_offline="")
        around.hf_hub_cache = None
        machine = examine(settings(engine="csm", hf_token=" hf_abc "), around, network=True)
    assert machine.access == "granted" and asked[0][1] == "Bearer hf_abc"
    assert machine.cache == tmp_path / "not made yet" / "hub"
    assert machine.cache_writable and machine.cache_free_bytes > 0
    assert not machine.stored_token and machine.weights.state == "absent"
    assert machine.port_problem == ""
