"""`sesame-server bench` as its user runs it: on a tiny model, and against a running server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from runpod_server.app import listen
from runpod_server.cli import cli

pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[csm]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[csm]'")

TINY = ("--size", "tiny", "--device", "cpu", "--dtype", "float32", "--threads", "1", "--voice-seconds", "3")
QUICK = ("--seconds", "0.5", "--utterance-seconds", "0.4")


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
    result = bench(*TINY, *QUICK, "--streams", "1,3")
    assert result.exit_code == 0, result.output
    report = told(result)
    assert report["same_codes"] == {"engine and generate": True}
    assert [level["streams"] for level in report["levels"]] == [1, 3]
    for level in report["levels"]:
        assert set(level["loads"]) == {"flat-out", "steady", "poisson"}
        flat_out = level["loads"]["flat-out"]
        assert flat_out["frames_per_s"] > 12.5 and flat_out["asked"] > 0
        assert level["generate_single"]["frames_per_s"] > 0 and level["speedup_over_generate"] > 0
        assert 0 < level["steps"]["roofline"] < 1
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
