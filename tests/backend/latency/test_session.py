"""The whole command: its table, picture, JSON, exit status; interrupted as a user does it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from backend.core.agent import Agent
from backend.errors import ConfigError
from backend.extras import install_command
from backend.latency import session
from backend.latency.session import run_latency
from backend.settings import Settings, load_settings
from tests.faults.servers import Fault, FaultyServer, faulty, healthy

pytest.importorskip("hibari")
Leading = Callable[[FaultyServer], Settings]
ROOT = Path(__file__).parents[3]


class Told:
    """What a user sees."""

    def __init__(self, status: int, output: str, last: dict[str, Any]) -> None:
        self.status, self.output, self.json = status, output, last


@pytest.fixture
def command(speaker: Callable[..., Agent], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    async def run(settings: Settings, *routes: str, voice: str = "adam", **given: Any) -> Told:
        wide = Console(file=io.StringIO(), width=110, highlight=False)
        options = {"agent": None, "runs": 2, "text": "Hello there.", "out": tmp_path, "as_json": True} | given
        status = await run_latency(
            wide, settings, [speaker(elevenlabs_settings={"voice_id": voice})], routes=routes, **options
        )
        assert isinstance(wide.file, io.StringIO)
        printed = capsys.readouterr().out
        return Told(status, wide.file.getvalue(), json.loads(printed.splitlines()[-1]) if printed else {})

    return run


def row(output: str, name: str) -> list[str]:
    return next(line.split() for line in output.splitlines() if line.startswith(f"{name} "))


async def test_a_table_a_picture_and_a_line_for_machines(
    command: Any, leading_to: Leading, tmp_path: Path
) -> None:
    async with healthy("sesame_ws") as server:
        told = await command(leading_to(server), "sesame_ws", "sesame_fallback", "elevenlabs")
    assert told.status == 0
    name, *figures, kilobytes, runs = row(told.output, "sesame_ws")
    assert len(figures) == 12 and int(kilobytes) > 20 and runs == "2"
    assert "its server's own" in told.output and "added on the way" in told.output
    assert "sesame_fallback: not configured: set SESAME_FALLBACK_ENABLED=true" in told.output
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")
    assert told.json["picture"] == str(tmp_path / "latency.png") and not told.json["interrupted"]
    (ws,) = told.json["routes"]
    assert ws["runs"] == 2 and ws["added_ms"]["p50"] > 0
    assert told.json["not_configured"]["elevenlabs"] == "set ELEVENLABS_API_KEY"


async def test_a_failure_is_told_without_keys_and_is_exit_status_1(command: Any, leading_to: Leading) -> None:
    async with faulty("elevenlabs", Fault("http", status=401)) as server:
        told = await command(leading_to(server), "elevenlabs", runs=9)
    assert told.status == 1
    assert "✗ elevenlabs: 3 of 3 runs failed; given up after 3 failures in a row" in told.output
    assert "3 × unauthorized: The key is refused: set the right one" in told.output
    assert "secret" not in told.output + json.dumps(told.json)
    assert row(told.output, "elevenlabs")[-1] == "0/3"


async def test_without_matplotlib_there_is_a_sentence(
    command: Any, leading_to: Leading, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(session, "find_spec", lambda name: None)
    async with healthy("sesame_rest") as server:
        told = await command(leading_to(server), "sesame_rest", runs=1)
    assert told.status == 0 and told.json["picture"] is None
    assert "no picture: Matplotlib is not installed here; " in told.output
    assert install_command("local") in told.output
    assert not (tmp_path / "latency.png").exists()


async def test_both_elevenlabs_routes_at_the_stand_in(command: Any) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "backend.simulator.elevenlabs", "--port", "0", "--api-key", "secret-key",
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            url = (await process.stdout.readline()).decode().strip().partition("=")[2]
            await process.stdout.readline()
            voice = (await process.stdout.readline()).decode().split()[1].strip(",")
        given = {"elevenlabs_base_url": url, "elevenlabs_api_key": "secret-key", "sesame_enabled": False}
        told = await command(load_settings(None, **given), voice=voice)
    finally:
        process.terminate()
        await process.communicate()
    assert told.status == 0, told.output
    assert [(found["route"], found["runs"]) for found in told.json["routes"]] == [
        ("elevenlabs", 2),
        ("elevenlabs_rest", 2),
    ]
    # It waits 75 ms before it speaks, and speaks ten times as fast as one listens.
    assert all(found["first_chunk_ms"]["min"] >= 70 for found in told.json["routes"])
    assert all(0.05 < found["real_time_factor"]["p50"] < 1 for found in told.json["routes"])
    assert told.json["not_configured"]["sesame_ws"] == "set SESAME_ENABLED=true"
    assert "secret" not in told.output + json.dumps(told.json)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"runs": 0}, "--runs 0: give a number from 1 to 1000"),
        ({"runs": 1001}, "--runs 1001"),
        ({"text": "🎉"}, "--text: there is nothing in it"),
        ({"out": Path(__file__)}, "--out .*: no folder can be made there: File exists"),
    ],
)
async def test_bad_input_is_a_sentence(command: Any, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        await command(load_settings(None), **given)


async def test_interrupted_it_tells_what_there_is(leading_to: Leading, tmp_path: Path) -> None:
    fault = Fault("stall", after_chunks=1, from_request=3)
    async with faulty("sesame_rest", fault) as server:
        settings = leading_to(server)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "AGENTS_DIR": str(ROOT / "agents"),
            "SESAME_SELF_HOSTED_URL": settings.sesame_self_hosted_url,
            "SESAME_API_KEY": "secret-ours",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "backend.cli", "latency", "--route", "sesame_rest", "--json",
            env=environment, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            await server.until(
                lambda server: len(server.requests) == 3 and server.requests[2].chunks_sent == 1, timeout_s=30
            )
            process.send_signal(signal.SIGINT)
            out, err = await asyncio.wait_for(process.communicate(), 20)
        finally:
            if process.returncode is None:
                process.kill()
    assert process.returncode == 130, err.decode()
    assert b"Traceback" not in out + err and b"secret" not in out + err
    assert "Interrupted: this is what there is so far." in out.decode()
    last = json.loads(out.decode().splitlines()[-1])
    assert last["interrupted"] and last["routes"][0]["runs"] == 2
    assert row(out.decode(), "sesame_rest")[-1] == "2/2"
    assert (tmp_path / "latency-out" / "latency.png").exists()
