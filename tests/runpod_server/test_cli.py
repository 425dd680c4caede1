"""The server as its user starts it: a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import websockets
from typer.testing import CliRunner

from runpod_server.app import listen
from runpod_server.audio import pcm16_from_float, wav
from runpod_server.cli import cli

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0


@asynccontextmanager
async def process(*arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    surroundings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOST": "127.0.0.1", "PORT": "0"}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "runpod_server", *arguments,
        env=surroundings | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def read_until(child: asyncio.subprocess.Process, pattern: str) -> re.Match[str]:
    assert child.stderr is not None
    async for line in child.stderr:
        if found := re.search(pattern, line.decode()):
            return found
    raise AssertionError(f"the server ended without saying {pattern!r}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_serves_until_the_signal_then_closes_with_1001(number: signal.Signals) -> None:
    async with process("serve", "--engine", "preview") as child:
        port = (await read_until(child, r"http://127\.0\.0\.1:(\d+)"))[1]
        await read_until(child, "loaded and warm")
        async with websockets.connect(f"ws://127.0.0.1:{port}/ws/generate", compression=None) as socket:
            await socket.send(json.dumps({"text": "Hello.", "speaker_id": 0}))
            assert len(await socket.recv()) == 1920 * 2
            child.send_signal(number)
            with pytest.raises(websockets.ConnectionClosed):
                while True:
                    await socket.recv()
            assert socket.close_code == 1001
        _, said = await child.communicate()
        assert child.returncode == 0
        assert b"Traceback" not in said


async def test_the_preview_voice_is_announced_loudly() -> None:
    async with process() as child:
        assert await read_until(child, r"WARNING .*PREVIEW VOICE")


async def test_a_taken_port_is_one_sentence_and_a_failure() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        async with process("serve", "--port", port) as child:
            _, said = await child.communicate()
        assert child.returncode == 1
        assert said.decode().startswith(f"speech server: port {port} on 127.0.0.1 is in use")
        assert b"Traceback" not in said


@pytest.mark.parametrize(
    "environment, sentence",
    [
        ({"VOICES_DIR": "/dev/null/voices"}, "VOICES_DIR=/dev/null/voices cannot be used"),
        ({"PORT": "x"}, "PORT='x'"),
        pytest.param(
            {"ENGINE": "csm", "CSM_MODEL": "./nothing"},
            "CSM_MODEL=./nothing is no folder here",
            marks=pytest.mark.skipif(find_spec("transformers") is None, reason="pip install -e '.[csm]'"),
        ),
    ],
)
async def test_what_cannot_start_says_why(environment: dict[str, str], sentence: str) -> None:
    async with process(**environment) as child:
        _, said = await child.communicate()
    assert child.returncode == 1
    assert sentence in said.decode()
    assert b"Traceback" not in said


def test_voices_are_installed_listed_added_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOICES_DIR", str(tmp_path / "voices"))
    (tmp_path / "mine.wav").write_bytes(wav(pcm16_from_float(0.3 * np.sin(np.arange(80_000) / 20))))

    def run(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(cli, ["voices", *arguments])
        return result.exit_code, result.stdout, result.stderr

    lines = run("list")[1].splitlines()
    assert len(lines) == 10 and lines[6].split()[:5] == ["6", "laurel", "9.7", "s", "shipped"]
    assert not (tmp_path / "voices").exists()
    assert "`sesame-server voices install` makes it" in run("remove", "alder")[2]
    added = run("add", "mara", "mine.wav", "--transcript", "Hello there.", "--speaker", "7")
    assert added == (0, f"{tmp_path}/voices/mara.wav: 3.3 s\n", "")
    code, _, why = run("add", "ole", "mine.wav", "--transcript", "Hello there.", "--speaker", "7")
    assert code == 1 and "speaker 7 is bound to voice 'mara' already" in why
    assert "nothing.wav cannot be read" in run("add", "ole", "nothing.wav", "--transcript", "Hi.")[2]
    listed = [line.split() for line in run("list")[1].splitlines()]
    assert listed[7][:5] == ["7", "mara", "3.3", "s", "yours"] and listed[10][:2] == ["-", "elm"]
    installed = run("install")
    assert installed[1].startswith(f"{tmp_path}/voices: alder, aspen, holly,")
    assert installed[2].startswith("left out: elm: speaker 7 is bound to voice 'mara' already")
    again = run("install")
    assert again[:2] == (0, f"{tmp_path}/voices: nothing installed\n") and again[2].count("left out:") == 10
    assert run("remove", "alder")[:2] == (0, "alder removed\n")
    assert run("remove", "alder")[0] == 1
    monkeypatch.setenv("VOICES_DIR", "")
    assert len(run("list")[1].splitlines()) == 10
    assert "name the folder of voices with --dir or VOICES_DIR" in run("install")[2]
    monkeypatch.setenv("VOICES_DIR", "none")
    assert "no voice is bound to speaker 0, 1, 2, 3, 4, 5, 6, 7, 8, 9" in run("list")[2]


def test_a_bench_that_measures_nothing_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with listen("127.0.0.1", 0) as free:
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    for options in (["--streams", "x"], ["--streams", "1", "--seconds", "0.1"]):
        assert CliRunner().invoke(cli, ["bench", "--url", nobody, *options]).exit_code == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(find_spec("torchao") is None, reason="pip install -e '.[csm,quantize]'")
async def test_torchao_does_not_talk_of_kernels_for_other_machines() -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import runpod_server.model.weights as weights; weights._model_class()",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await child.communicate()
    assert (child.returncode, said.decode()) == (0, "")
