"""The client that ships with the server, against real servers, and `sesame-server say` around it."""

from __future__ import annotations

import asyncio
import threading
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from runpod_server.app import listen
from runpod_server.cli import cli
from runpod_server.client import health, speak, websocket_url
from runpod_server.errors import ClientError, NotReady

KEY = "a-key-nobody-guesses"
HELLO = {"text": "Hello, this is a test.", "speaker_id": 3, "seed": 1}


@contextmanager
def answering(status: int) -> Iterator[str]:
    """An HTTP server that is no speech server: it answers everything with one status."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "url, address",
    [
        ("http://127.0.0.1:8000", "ws://127.0.0.1:8000/ws/generate"),
        ("https://pod-8000.proxy.runpod.net/", "wss://pod-8000.proxy.runpod.net/ws/generate"),
        ("https://pod.example/health", "wss://pod.example/ws/generate"),
        ("wss://pod.example/ws/generate", "wss://pod.example/ws/generate"),
        ("https://example.com/speech/", "wss://example.com/speech/ws/generate"),
        ("localhost:8000", "ws://localhost:8000/ws/generate"),
    ],
)
def test_any_way_to_name_a_server(url: str, address: str) -> None:
    assert websocket_url(url) == address


@pytest.mark.parametrize("url", ["ftp://example.com", "http://", "  "])
def test_what_names_no_server(url: str) -> None:
    with pytest.raises(ClientError, match="no server's address"):
        websocket_url(url)


async def test_speaks(server: Any) -> None:
    spoken = await speak(server.host, HELLO)
    assert spoken.reason == "eos"
    assert 1000 < spoken.audio_ms < 5000
    assert spoken.first_audio_ms is not None and spoken.first_audio_ms <= spoken.total_ms
    assert (await speak(f"http://{server.host}", HELLO)).pcm16 == spoken.pcm16


async def test_tells_health(server: Any) -> None:
    assert (await health(server.host))["engine"] == "preview"


async def test_the_key_is_sent_and_asked_for(start: Callable[..., Any]) -> None:
    locked = start(sesame_api_key=KEY)
    assert (await speak(locked.host, HELLO, api_key=KEY)).pcm16
    for wrong in (None, "another"):
        with pytest.raises(ClientError, match="the key is missing or wrong"):
            await speak(locked.host, HELLO, api_key=wrong)


async def test_a_refusal_is_told(server: Any) -> None:
    with pytest.raises(ClientError, match="bad_request: speaker_id must be"):
        await speak(server.host, {"text": "Hello.", "speaker_id": 10})


async def test_a_server_that_still_loads(start: Callable[..., Any], commanded: Callable[..., Any]) -> None:
    runs = start(commanded({"early": NotReady("still loading: watch /health")}))
    with pytest.raises(ClientError, match="not_ready: still loading"):
        await speak(runs.host, {"text": "early"})


async def test_a_server_that_stops_while_speaking(
    start: Callable[..., Any], commanded: Callable[..., Any]
) -> None:
    runs = start(commanded({}))
    async with asyncio.timeout(20):
        speaking = asyncio.create_task(speak(runs.host, {"text": "wait"}))
        await asyncio.to_thread(asyncio.run, runs.until_health(lambda told: told["streams"]["active"] == 1))
        runs.stop()
        with pytest.raises(ClientError, match="ended before the speech did"):
            await speaking


@pytest.mark.parametrize(
    "status, sentence",
    [
        (401, "refuses the key"),
        (404, "its port is not exposed"),
        (502, "reaches no server"),
        (524, "reaches no server"),
        (200, "is this a speech server"),
    ],
)
async def test_what_a_proxy_answers(status: int, sentence: str) -> None:
    with answering(status) as url:
        with pytest.raises(ClientError, match=sentence):
            await speak(url, HELLO)
        with pytest.raises(ClientError, match="tells no health"):
            await health(url)


async def test_nobody_there() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ClientError, match="is the server started"):
        await speak(f"http://127.0.0.1:{port}", HELLO)


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """`sesame-server say`, in an empty folder and without settings of the surroundings."""
    monkeypatch.chdir(tmp_path)
    for name in ("PORT", "HOST", "SESAME_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments: CliRunner().invoke(cli, ["say", *arguments])


def test_say_writes_a_wav(say: Callable[..., Result], server: Any, tmp_path: Path) -> None:
    result = say("Hello, this is a test.", "--url", server.host, "--out", "x.wav")
    assert result.exit_code == 0, result.output
    assert "x.wav: " in result.stdout and "(engine preview)" in result.stdout
    assert "the preview voice, not CSM" in result.stderr
    with wave.open(str(tmp_path / "x.wav")) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (24_000, 1, 2)
        assert sound.getnframes() > 24_000


def test_say_finds_this_machines_server_and_key(
    say: Callable[..., Result], start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = start(sesame_api_key=KEY)
    monkeypatch.setenv("PORT", locked.host.partition(":")[2])
    assert say("Hello.").exit_code == 1
    assert say("Hello.", "--key", KEY).exit_code == 0
    monkeypatch.setenv("SESAME_API_KEY", KEY)
    assert say("Hello.").exit_code == 0


def test_say_fails_with_a_sentence(say: Callable[..., Result], server: Any) -> None:
    result = say("Hello.", "--url", server.host, "--out", "nowhere/x.wav")
    assert result.exit_code == 1
    assert "nowhere/x.wav cannot be written" in result.stderr
    result = say("", "--url", server.host)
    assert result.exit_code == 1
    assert "text is empty" in result.stderr
    assert say("Hello.", "--speaker", "10").exit_code == 2
