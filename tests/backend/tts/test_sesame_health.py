"""The look at a speech server, against real HTTP servers on loopback; one of them is ours."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest

from backend.core.pods import PodReport
from backend.errors import SpeechError
from backend.tts.sesame_health import SesameHealth
from tests.backend.tts.answering import server

FULL = {
    "status": "healthy", "device": "cuda", "cuda": True, "model_loaded": True,
    "endpoints": {"websocket": "/ws/generate", "rest": "/generate"}, "engine": "csm",
    "streams": {"active": 3, "free": 29, "capacity": 32}, "queue": {"waiting": 2, "capacity": 64},
    "notice": "hello", "model": "sesame/csm-1b", "unbound_speakers": [4, 6],
}  # fmt: skip


@pytest.fixture
async def health() -> AsyncIterator[SesameHealth]:
    health = SesameHealth(api_key="secret", timeout_s=5)
    yield health
    await health.aclose()


async def reason(health: SesameHealth, url: str) -> tuple[str, str]:
    with pytest.raises(SpeechError) as caught:
        await health.look(url)
    assert url in str(caught.value) and "secret" not in str(caught.value)
    return caught.value.reason, str(caught.value)


async def test_all_it_tells_is_taken(health: SesameHealth) -> None:
    async with server(
        lambda path, key: (200, FULL) if (path, key) == ("/health", "Bearer secret") else (401, {})
    ) as url:
        report = await health.look(url)
    assert report == PodReport("healthy", "csm", "sesame/csm-1b", "cuda", 3, 32, 2, 64, "hello", (4, 6))
    assert report.free == 29


@pytest.mark.parametrize(
    "told",
    [
        {"status": "ok"},
        {"status": "healthy", "streams": [], "queue": None, "engine": 7, "device": None},
        {"status": "healthy", "streams": {"active": "many", "capacity": -1}},
        {"status": "healthy", "unbound_speakers": "none"},
        {"status": "healthy", "unbound_speakers": [4, "six"]},
        {},
    ],
)
async def test_servers_that_tell_less_are_good_too(health: SesameHealth, told: object) -> None:
    async with server(lambda path, key: (200, told) if path == "/health" else (404, {})) as url:
        assert await health.look(url) == PodReport()


async def test_the_key_is_checked_where_only_the_status_is_told(health: SesameHealth) -> None:
    def answer(path: str, key: str) -> tuple[int, object]:
        return (200, {"status": "healthy"}) if path == "/health" else (401, {"error": "unauthorized"})

    async with server(answer) as url:
        assert await reason(health, url) == (
            "unauthorized",
            f"Sesame speech server at {url}: it refuses SESAME_API_KEY",
        )
        keyless = SesameHealth()
        _, said = await reason(keyless, url)
        await keyless.aclose()
        assert said.endswith("it wants a key, and SESAME_API_KEY is not set")


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, {**FULL, "status": "loading", "model_loaded": False}, "not_ready"),
        (200, {"status": "loading"}, "not_ready"),
        (401, {}, "unauthorized"),
        (404, b"pod not found", "unreachable"),
        (502, b"", "unreachable"),
        (200, b"<html>hello</html>", "unreachable"),
        (200, b"\xff\xfe", "unreachable"),
        (200, [1], "unreachable"),
    ],
)
async def test_what_is_no_working_server(health: SesameHealth, status: int, body: object, why: str) -> None:
    async with server(lambda path, key: (status, body) if path == "/health" else (200, {})) as url:
        assert (await reason(health, url))[0] == why


async def test_nobody_there(health: SesameHealth) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        assert (await reason(health, f"http://127.0.0.1:{taken.getsockname()[1]}"))[0] == "unreachable"
    assert (await reason(health, "http://host.invalid:8000"))[0] == "unreachable"


async def test_one_that_never_answers() -> None:
    health = SesameHealth(timeout_s=0.1)
    async with server(lambda path, key: None) as url:
        assert (await reason(health, url))[0] == "timeout"
    await health.aclose()
