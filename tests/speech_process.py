"""The speech server with its preview voice, as a process of its own on a free port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

_ROOT = Path(__file__).parents[1]


@contextmanager
def speech_process(folder: Path, key: str, *, start_s: float, stop_s: float) -> Iterator[int]:
    """Its port, once it is healthy, in `start_s` at most; `stop_s`: it is to end within that, when told to.

    `folder`: where it runs, and its log is written. `key`: asked of its clients; "": of none.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    environment = {
        **os.environ, "ENGINE": "preview", "HOST": "127.0.0.1", "PORT": str(port), "SESAME_API_KEY": key,
        "PYTHONPATH": str(_ROOT),
    }  # fmt: skip
    log = folder / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "runpod_server"]
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=out, stderr=out)
        try:
            _wait_until_healthy(port, process, log, time.monotonic() + start_s)
            yield port
        finally:
            process.terminate()
            process.wait(stop_s)


def _wait_until_healthy(port: int, process: subprocess.Popen[bytes], log: Path, give_up_s: float) -> None:
    while time.monotonic() < give_up_s:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health").json()["status"] == "healthy":
                return
        except httpx.TransportError:
            pass  # not up yet
        time.sleep(0.1)
    raise AssertionError(f"the speech server did not get healthy: {log.read_text()}")
