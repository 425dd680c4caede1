"""The Sesame WebSocket client against the real speech server, a process of its own on a free port."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

import numpy as np
import pytest

from backend.errors import SpeechError
from backend.tts.sesame_rest import SesameRestService
from backend.tts.sesame_ws import SesameWebSocketService
from tests.speech_process import speech_process

KEY = "open sesame"
LONG = "This is a rather long story about a telephone that would not stop ringing. " * 12


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    pytest.importorskip("hibari")
    with speech_process(tmp_path_factory.mktemp("speech-server"), KEY, start_s=40, stop_s=10) as number:
        yield number


def client(port: int, key: str = KEY) -> SesameWebSocketService:
    """Seeded: unseeded, the voice varies a little each time, and foreign sound could hide in that."""
    url = f"ws://127.0.0.1:{port}/ws/generate"
    return SesameWebSocketService(url, api_key=key, settings={"seed": 7}, first_audio_timeout_s=20)


async def spoken(service: SesameWebSocketService, text: str, speaker_id: int = 0) -> bytes:
    async with asyncio.timeout(30):
        return b"".join([chunk async for chunk in service.stream_tts(text, speaker_id)])


async def test_several_utterances_over_one_connection(port: int) -> None:
    service = client(port)
    await service.connect()
    connection = service._connection
    for text in ("Hello there.", "How can I help you?", "Goodbye."):
        pcm16 = await spoken(service, text)
        samples = np.frombuffer(pcm16, "<i2")
        assert 0.3 < len(samples) / 24_000 < 5
        assert np.abs(samples.astype(np.int32)).max() > 2000, "it can be heard"
    assert service._connection is connection
    await service.aclose()


async def test_cut_off_in_the_middle_then_another(port: int) -> None:
    service = client(port)
    whole = await spoken(service, "Goodbye.")
    for _ in range(3):
        async with aclosing(service.stream_tts(LONG)) as chunks:
            await anext(chunks)
        assert await spoken(service, "Goodbye.") == whole, "nothing of the story that was cut off"
    await service.aclose()


async def test_calls_at_once_do_not_hear_each_other(port: int) -> None:
    services = [client(port) for _ in range(4)]
    texts = ["One.", "Two and a bit.", "Three, three, three.", "Four is the last of them."]
    alone = [await spoken(service, text) for service, text in zip(services, texts, strict=True)]
    assert len({len(pcm16) for pcm16 in alone}) == 4
    together = await asyncio.gather(*map(spoken, services, texts))
    assert together == alone
    for service in services:
        await service.aclose()


async def test_a_request_the_server_refuses_leaves_the_connection_usable(port: int) -> None:
    service = client(port)
    with pytest.raises(SpeechError) as caught:
        await spoken(service, "Hello.", speaker_id=11)
    assert caught.value.reason == "bad_request"
    assert "speaker_id" in str(caught.value)
    connection = service._connection
    assert connection is not None
    assert await spoken(service, "Hello.")
    assert service._connection is connection
    await service.aclose()


async def test_a_voice_the_server_does_not_know_is_told_apart(port: int) -> None:
    nora = {"voice": "nora"}
    for service in (
        SesameWebSocketService(f"ws://127.0.0.1:{port}/ws/generate", api_key=KEY, settings=nora),
        SesameRestService(f"http://127.0.0.1:{port}/generate", api_key=KEY, settings=nora),
    ):
        with pytest.raises(SpeechError, match="voice 'nora' is not known here; the voices are: ") as caught:
            await anext(service.speak("Hello."))
        assert caught.value.reason == "unknown_voice"
        await service.aclose()


async def test_a_wrong_key_says_which_setting(port: int) -> None:
    service = client(port, key="wrong")
    with pytest.raises(SpeechError, match="SESAME_API_KEY") as caught:
        await spoken(service, "Hello.")
    assert caught.value.reason == "unauthorized"
    await service.aclose()


async def test_a_warmed_connection_serves_every_sentence_and_tells_the_servers_own_time(port: int) -> None:
    """What it adds to that time is measured by `voice-agent latency`."""
    service = client(port)
    await service.connect()
    warmed = service._connection
    for number in range(5):
        assert await spoken(service, f"This is number {number}.")
        assert service.server_first_audio_ms is not None
        assert service._connection is warmed
    await service.aclose()
