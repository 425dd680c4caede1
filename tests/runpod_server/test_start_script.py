"""start.sh of deploy/runpod and its health check, with the installed server and the preview engine."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

DEPLOY = Path(__file__).parents[2] / "deploy" / "runpod"
DEADLINE_S = 45.0

pytestmark = pytest.mark.skipif(
    not (Path(sys.prefix) / "bin" / "sesame-server").is_file(), reason="the package is not installed here"
)


@asynccontextmanager
async def start_script(volume: Path, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """start.sh as a pod runs it, in a process group of its own, on a volume and an environment of its own."""
    surroundings = {
        "PATH": os.environ["PATH"],
        "HOME": str(volume),
        "SESAME_VOLUME": str(volume),
        "SESAME_VENV": sys.prefix,
        "SESAME_INSTALL": "never",
        "ENGINE": "preview",
        "HOST": "127.0.0.1",
        "PORT": "0",
    }
    child = await asyncio.create_subprocess_exec(
        "bash", DEPLOY / "start.sh",
        env=surroundings | environment,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield child
    finally:
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)
        await child.communicate()


async def read_until(child: asyncio.subprocess.Process, *patterns: str) -> list[str]:
    """What each pattern, in turn, first captures in the log."""
    assert child.stderr is not None
    found: list[str] = []
    async for line in child.stderr:
        if match := re.search(patterns[len(found)], line.decode()):
            found.append(match[1])
            if len(found) == len(patterns):
                return found
    raise AssertionError(f"it ended without saying {patterns[len(found)]!r}")


STARTED = (r"server started, process (\d+)", r"http://127\.0\.0\.1:(\d+)", "engine (preview) .* is loaded")


async def health_check(port: str) -> tuple[int | None, str]:
    check = await asyncio.create_subprocess_exec(
        sys.executable, DEPLOY / "healthcheck.py", env={"PORT": port}, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await check.communicate()
    return check.returncode, said.decode().strip()


async def test_a_killed_server_comes_back_and_sigterm_ends_it(tmp_path: Path) -> None:
    async with start_script(tmp_path) as child:
        server, port, _ = await read_until(child, *STARTED)
        assert await health_check(port) == (0, "healthy")
        os.kill(int(server), signal.SIGKILL)
        await read_until(child, "ended with status (137)", "starting it again in (1) s")
        assert (await health_check(port))[0] == 1
        another, port, _ = await read_until(child, *STARTED)
        assert another != server
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"http://127.0.0.1:{port}/health")).json()["status"] == "healthy"
        child.send_signal(signal.SIGTERM)
        await read_until(child, "(server stopped)")
        assert await child.wait() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(another), 0)


@pytest.mark.parametrize(
    "environment, dotenv, made",
    [
        ({}, "", ["voices"]),
        ({"VOICES_DIR": ""}, "", []),
        ({}, "VOICES_DIR=mine\n", ["mine"]),
    ],
)
async def test_a_pod_keeps_voices_of_its_users_on_the_volume(
    tmp_path: Path, environment: dict[str, str], dotenv: str, made: list[str]
) -> None:
    (tmp_path / "sesame").mkdir()
    (tmp_path / "sesame" / ".env").write_text(dotenv)
    async with start_script(tmp_path, **environment) as child:
        await read_until(child, *STARTED)
        child.send_signal(signal.SIGTERM)
        assert await child.wait() == 0
    assert [path.name for path in (tmp_path / "sesame").iterdir() if path.is_dir()] == made


async def test_a_server_that_cannot_start_is_examined_and_tried_again(tmp_path: Path) -> None:
    async with start_script(tmp_path, VOICES_DIR=str(tmp_path / "nowhere"), PORT="no number") as child:
        await read_until(
            child,
            "(speech server: these settings cannot be used: PORT='no number')",
            "ended with status (1) ",
            "(FAIL  settings)",
            "starting it again in (1) s",
            "starting it again in (2) s",
        )
        child.send_signal(signal.SIGTERM)
        assert await child.wait() == 0


@pytest.mark.parametrize(
    "environment, sentence",
    [
        ({"ENGINE": "csm"}, "(HF_TOKEN is not set and sesame/csm-1b is not on the volume: accept)"),
        (
            {"ENGINE": "csm", "HF_TOKEN": "{{ RUNPOD_SECRET_hf_token }}"},
            "HF_TOKEN (holds the name of a secret that does not exist)",
        ),
        ({"SESAME_VENV": "/nowhere"}, "there is no (/nowhere/bin/sesame-server)"),
        ({"SESAME_HOME": "/dev/null/sesame"}, "cannot write to (/dev/null/sesame)"),
    ],
)
async def test_what_cannot_be_started_says_why_and_ends(
    environment: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    async with start_script(tmp_path, **environment) as child:
        await read_until(child, sentence)
        assert await child.wait() == 1


async def test_weights_on_the_volume_need_no_token(tmp_path: Path) -> None:
    (tmp_path / "hf" / "hub" / "models--sesame--csm-1b" / "snapshots").mkdir(parents=True)
    async with start_script(tmp_path, ENGINE="csm", PORT="no number") as child:
        await read_until(child, STARTED[0])
