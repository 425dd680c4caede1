"""Speech-to-text that fails in every way: each utterance is heard by the next route, in time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
import pytest
import websockets
from websockets.asyncio.server import Request, Response, ServerConnection, serve

from backend.calls.boards.ears_board import EarsBoard
from backend.core.agent import Agent
from backend.core.g711 import Codec
from backend.core.hearing import CarrierHearing
from backend.errors import HearingError
from backend.hearing_routes import HearingRoutes
from backend.settings import load_settings
from backend.simulator.wordcount import word_errors
from backend.stt.local import LocalTranscriber
from tests.backend.stt.openai_server import free_port, transcription_server

SAID = "I would like to book an appointment for Tuesday."
TIMEOUT_MS = 400
HTTP_FAULTS = ("refuse", "silence", "close", "malformed", "empty", "endless", 401, 429, 500)
SOCKET_FAULTS = (
    "refuse", "mute", "silence", "close", "error", "quota", "malformed", "empty", 401, 429, 500
)  # fmt: skip


@pytest.fixture(scope="module")
def recogniser() -> Iterator[LocalTranscriber]:
    pytest.importorskip("moonshine_voice")
    ears = LocalTranscriber()
    yield ears
    ears.close()


@pytest.fixture(scope="module")
def utterance() -> bytes:
    hibari = pytest.importorskip("hibari")
    wave = np.clip(np.asarray(hibari.Hibari(threads=1)(SAID)), -1, 1)
    pcm16 = (wave[: len(wave) // 3 * 3].reshape(-1, 3).mean(axis=1) * 32_767).astype("<i2").tobytes()
    return Codec.PCMU.decode(Codec.PCMU.encode(pcm16))


def agent(provider: str, **stt: Any) -> Agent:
    bye = {"id": "bye", "say": "Bye.", "actions": [{"type": "hangup"}]}
    stt = {"provider": provider, "timeout_ms": TIMEOUT_MS, **stt}
    flow = {"start": "bye", "nodes": [bye]}
    return Agent.model_validate_json(json.dumps({"id": "a", "name": "A", "stt": stt, "call_flow": flow}))


@asynccontextmanager
async def scribe(fault: str | int) -> AsyncIterator[str]:
    """ElevenLabs' realtime socket, failing."""

    async def handle(socket: ServerConnection) -> None:
        if fault != "mute":
            await socket.send('{"message_type": "session_started"}')
        with suppress(websockets.ConnectionClosed):
            async for raw in socket:
                if not json.loads(raw)["commit"]:
                    continue
                if fault == "close":
                    return
                answers = {
                    "error": {"message_type": "transcriber_error", "error": "because"},
                    "quota": {"message_type": "quota_exceeded", "error": "used up"},
                    "empty": {"message_type": "committed_transcript", "text": ""},
                }
                if fault in answers:
                    await socket.send(json.dumps(answers[str(fault)]))
                elif fault == "malformed":
                    await socket.send("<html>")

    def refuse(socket: ServerConnection, request: Request) -> Response | None:
        return socket.respond(fault, "no") if isinstance(fault, int) else None  # type: ignore[arg-type]

    if fault == "refuse":
        yield f"http://127.0.0.1:{free_port()}"
        return
    async with serve(handle, "127.0.0.1", 0, process_request=refuse, compression=None) as server:
        yield f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


@asynccontextmanager
async def one_call(
    talker: Agent, local: LocalTranscriber, **settings: Any
) -> AsyncIterator[tuple[Callable[[bytes], Any], HearingRoutes]]:
    def clock() -> float:
        return asyncio.get_running_loop().time() * 1000

    async def start(_: CarrierHearing) -> None:
        raise HearingError("the carrier says no", route="telnyx", reason="unauthorized")

    routes = HearingRoutes(load_settings(None, **settings), EarsBoard(clock), lambda: [talker], clock, local)
    ears = routes.ears(talker, start)
    connecting = asyncio.create_task(ears.connect())

    async def say(pcm16: bytes) -> str:
        for at in range(0, len(pcm16), 320):
            ears.hear(pcm16[at : at + 320], begins=at == 0)
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            return await ears.transcribe(pcm16)

    try:
        yield say, routes
    finally:
        connecting.cancel()
        await asyncio.wait([connecting])
        await ears.aclose()
        await routes.aclose()


async def every_utterance_is_heard(
    say: Callable[[bytes], Any], routes: HearingRoutes, utterance: bytes
) -> None:
    for _ in range(4):
        text = await say(utterance)
        assert word_errors(SAID, text).errors == 0, text
    first, last = routes.health_now()[0], routes.health_now()[-1]
    assert (first.state, first.breaker) != ("up", "closed"), first
    assert "(" in first.detail, "it says why"
    assert (last.name, last.state) == ("local", "up")


@pytest.mark.parametrize("fault", HTTP_FAULTS)
async def test_a_transcription_server(fault: Any, recogniser: LocalTranscriber, utterance: bytes) -> None:
    async with transcription_server() as server:
        server.fault = fault
        url = f"http://127.0.0.1:{free_port()}/v1" if fault == "refuse" else server.url
        async with one_call(agent("openai", base_url=url), recogniser) as (say, routes):
            await every_utterance_is_heard(say, routes, utterance)


@pytest.mark.parametrize("fault", SOCKET_FAULTS)
async def test_elevenlabs(fault: Any, recogniser: LocalTranscriber, utterance: bytes) -> None:
    async with scribe(fault) as url:
        keys = {"elevenlabs_api_key": "k", "elevenlabs_base_url": url}
        async with one_call(agent("elevenlabs"), recogniser, **keys) as (say, routes):
            await every_utterance_is_heard(say, routes, utterance)


async def test_a_carrier_that_does_not_listen(recogniser: LocalTranscriber, utterance: bytes) -> None:
    async with one_call(agent("telnyx"), recogniser, telnyx_api_key="KEY") as (say, routes):
        await every_utterance_is_heard(say, routes, utterance)


async def test_all_of_them_one_after_another(recogniser: LocalTranscriber, utterance: bytes) -> None:
    async with scribe("silence") as url, transcription_server() as server:
        server.fault = 500
        keys = {"elevenlabs_api_key": "k", "elevenlabs_base_url": url, "telnyx_api_key": "KEY"}
        talker = agent("elevenlabs", fallbacks=["openai", "telnyx"], base_url=server.url)
        async with one_call(talker, recogniser, **keys) as (say, routes):
            await every_utterance_is_heard(say, routes, utterance)
            assert [row.name for row in routes.health_now()] == ["elevenlabs", "openai", "telnyx", "local"]
