"""`sesame-server bench` as its user runs it: on a tiny model, and against a running server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from runpod_server.app import listen
from runpod_server.cli import cli

pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[csm]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[csm]'")

ROOT = Path(__file__).parents[3]
DEADLINE_S = 30.0
TINY = ("--size", "tiny", "--device", "cpu", "--dtype", "float32", "--threads", "1", "--voice-seconds", "3")
QUICK = ("--seconds", "0.3", "--utterance-seconds", "0.3")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """In an empty folder and without settings of the surroundings."""
    monkeypatch.chdir(tmp_path)
    for name in ("PORT", "HOST", "SESAME_API_KEY", "DEVICE", "DTYPE", "CSM_WEIGHTS", "VOICES_DIR"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments: CliRunner().invoke(cli, ["bench", *arguments])


def told(result: Result) -> Any:
    return json.loads(result.stdout.splitlines()[-1])


def test_measures_a_tiny_model(bench: Callable[..., Result], tmp_path: Path) -> None:
    result = bench(*TINY, *QUICK, "--streams", "3")
    assert result.exit_code == 0, result.output
    report = told(result)
    assert report["same_codes"] == {"engine and generate": True}
    (level,) = report["levels"]
    assert level["streams"] == 3
    assert set(level["loads"]) == {"flat-out", "steady", "poisson"}
    assert level["loads"]["flat-out"]["frames_per_s"] > 0
    assert level["generate_single"]["frames_per_s"] > 0 and level["speedup_over_generate_batch"] > 0
    assert 0 < level["steps"]["roofline"] < 1 and 0 < level["steps"]["streams"] <= 3
    assert level["memory"]["resident"] > 0
    assert all(load["ended_early"] == 0 for load in level["loads"].values())
    assert "generate ×1" in result.stdout and "first sound ms" in result.stdout
    assert "3 streams, steady" in result.stderr
    assert json.loads((tmp_path / "bench-out" / "bench.json").read_text()) == report
    assert (tmp_path / "bench-out" / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_measures_a_running_server(bench: Callable[..., Result], server: Any) -> None:
    result = bench(*QUICK, "--url", server.host, "--streams", "2", "--arrivals", "flat-out,poisson")
    assert result.exit_code == 0, result.output
    (level,) = told(result)["levels"]
    assert level["loads"]["flat-out"]["frames_per_s"] > 0
    assert level["generate_single"] is None and level["steps"] is None


def test_a_server_that_is_not_there(bench: Callable[..., Result]) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
    result = bench(*QUICK, "--url", f"http://127.0.0.1:{port}", "--streams", "2")
    assert result.exit_code == 1
    assert "is the server started" in result.stderr
    assert told(result)["failure"]


@pytest.fixture
def ctrl_c_works() -> Iterator[None]:
    """A test run in the background of a shell ignores Ctrl-C, and would hand that on to its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_works")
async def test_ctrl_c_shows_what_was_measured_until_then(tmp_path: Path, server: Any) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "runpod_server", "bench", "--url", server.host, "--streams", "1,2",
        "--seconds", "1", "--utterance-seconds", "0.3", "--out", str(tmp_path),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}, cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(DEADLINE_S):
            assert child.stderr is not None
            async for line in child.stderr:
                if b"1 stream, poisson" in line:
                    break
            child.send_signal(signal.SIGINT)
            said, complained = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode == 130, complained.decode()
    assert b"Traceback" not in complained
    assert b"interrupted: what was measured until then" in said
    report = json.loads(said.splitlines()[-1])
    assert report["interrupted"] is True
    assert set(report["levels"][0]["loads"]) == {"flat-out", "steady"}


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("--streams", "1,zwei"), "'zwei' is no number of streams"),
        (("--arrivals", "now"), "give all, or some of"),
        (("--seconds", "0"), "--seconds must be from"),
        (("--size", "8b"), "--size 8b: give one of"),
        ((*TINY, "--device", "tpu"), "DEVICE=tpu"),
        ((*TINY, "--out", "/dev/null/x"), "name another folder with --out"),
    ],
)
def test_what_cannot_be_measured_says_why(
    bench: Callable[..., Result], arguments: tuple[str, ...], sentence: str
) -> None:
    result = bench(*arguments)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert "Traceback" not in result.output
