"""Every speech route against every fault: the right reason, what came before it, and usable afterwards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Protocol

import numpy as np
import pytest

from backend.core.g711 import Codec
from backend.core.speech import Sound
from backend.errors import SpeechError
from backend.tts.elevenlabs_rest import ElevenLabsRestService
from backend.tts.elevenlabs_ws import ElevenLabsWebSocketService
from backend.tts.hosted import HostedInferenceService
from backend.tts.sesame_rest import SesameRestService
from backend.tts.sesame_ws import SesameWebSocketService
from tests.faults.servers import SERVICES, Fault, Service, chunk_count, faulty, healthy, speech

KEY = "sk-very-secret"
ENDLESS_S = 50.0  # for what must not be told by a deadline: no machine is as slow
TEXT = "Hello there, how are you?"
AFTER = (0, 1, 3)
EVERY_REASON: dict[str, str] = {
    "refuse": "unreachable",
    "silence": "timeout",
    "tls": "unreachable",
    "close": "closed",
    "reset": "closed",
    "half_closed": "closed",
    "stall": "timeout",
    "no_audio": "no_audio",
    "error": "generation_failed",
    "malformed": "protocol",
    "odd": "protocol",
}
# Once sound has come over HTTP there is no status left to tell an error by.
HTTP_LATE: dict[str, str] = {"error": "closed"}
HTTP_STATUS: dict[Service, dict[int, str]] = {
    "sesame_ws": {401: "unauthorized", 429: "busy", 500: "generation_failed"},
    "sesame_rest": {401: "unauthorized", 429: "busy", 500: "generation_failed"},
    "sesame_fallback": {401: "unauthorized", 429: "busy", 500: "generation_failed"},
    "sesame_hosted": {401: "unauthorized", 429: "rate_limited", 500: "generation_failed"},
    "elevenlabs": {401: "unauthorized", 429: "rate_limited", 500: "generation_failed"},
    "elevenlabs_rest": {401: "unauthorized", 429: "rate_limited", 500: "generation_failed"},
}


class Route(Protocol):
    async def connect(self) -> None: ...
    def speak(self, text: str, *, before: str = "") -> Any: ...
    async def aclose(self) -> None: ...


def route(service: Service, url: str, **options: Any) -> Route:
    bounds = {"first_audio_timeout_s": 4.0, "chunk_timeout_s": 4.0, "connect_timeout_s": 4.0, **options}
    match service:
        case "sesame_ws":
            return SesameWebSocketService(url, api_key=KEY, **bounds)
        case "sesame_rest":
            return SesameRestService(url, api_key=KEY, **bounds)
        case "sesame_fallback":
            return SesameRestService(url, name="sesame_fallback", api_key=KEY, **bounds)
        case "sesame_hosted":
            return HostedInferenceService(url, api_key=KEY, **bounds)
        case "elevenlabs":
            return ElevenLabsWebSocketService(url, api_key=KEY, voice_id="ada", **bounds)
        case "elevenlabs_rest":
            return ElevenLabsRestService(url, api_key=KEY, voice_id="ada", **bounds)


async def said(route: Route, text: str = TEXT) -> tuple[list[Sound], SpeechError | None]:
    """What came, and how it failed."""
    sounds: list[Sound] = []
    try:
        async with asyncio.timeout(ENDLESS_S), aclosing(route.speak(text, before="Well.")) as speaking:
            async for sound in speaking:
                sounds.append(sound)
    except SpeechError as error:
        return sounds, error
    return sounds, None


def pcm(sounds: list[Sound]) -> np.ndarray:
    """Everything as int16 samples."""
    data = b"".join(sound.data for sound in sounds)
    raw = Codec.PCMU.decode(data) if sounds and sounds[0].encoding == "ulaw" else data
    return np.frombuffer(raw, "<i2")


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    speech(TEXT)  # made beforehand, so that no deadline waits for it
    before = asyncio.all_tasks()
    yield
    async with asyncio.timeout(20):
        while left := asyncio.all_tasks() - before - {asyncio.current_task()}:
            await asyncio.wait(left)


# --- what goes well ------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVICES)
async def test_a_healthy_server_is_heard_to_the_last_sample(service: Service) -> None:
    async with healthy(service) as server:
        voice = route(service, server.url)
        await voice.connect()
        for _ in range(2):
            sounds, error = await said(voice)
            assert error is None
            assert {sound.rate_hz for sound in sounds} == {8_000 if "eleven" in service else 24_000}
            heard_ms = sum(sound.duration_ms for sound in sounds)
            assert heard_ms == pytest.approx(speech(TEXT).duration_ms, abs=3)
            assert np.abs(pcm(sounds)).max() > 10_000
        await voice.aclose()
        assert [asked.text for asked in server.requests] == [TEXT, TEXT]
        assert {asked.ended for asked in server.requests} == {"done"}
        assert server.connections == 1, "the connection was kept"


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("text", ["", " \n\t"])
async def test_empty_text_asks_for_nothing_and_fails_nothing(service: Service, text: str) -> None:
    voice = route(service, "http://127.0.0.1:9")
    assert await said(voice, text) == ([], None)
    await voice.aclose()


@pytest.mark.parametrize("service", SERVICES)
async def test_a_slow_server_is_heard_as_it_speaks(service: Service) -> None:
    async with faulty(service, Fault("slow", speed=8)) as server:
        voice = route(service, server.url)
        sounds, error = await said(voice)
        assert error is None
        assert len(sounds) == (1 if service == "sesame_hosted" else len(sounds))
        if service not in ("sesame_hosted", "sesame_fallback"):  # those come whole
            assert len(sounds) >= chunk_count(service, TEXT)
        await voice.aclose()


# --- every fault ---------------------------------------------------------------------------------------


def cells() -> list[Any]:
    found = []
    for service in SERVICES:
        for kind, reason in EVERY_REASON.items():
            late = kind in ("close", "reset", "half_closed", "stall", "error", "malformed", "odd")
            for after in AFTER if late else (0,):
                if kind == "odd" and service == "elevenlabs_rest":
                    continue  # μ-law has no half samples
                in_body = service not in ("sesame_ws", "elevenlabs")
                expected = HTTP_LATE.get(kind, reason) if after and in_body else reason
                fault = Fault(kind, after_chunks=after)  # type: ignore[arg-type]
                found.append(pytest.param(service, fault, expected, id=f"{service}-{fault}"))
        for status, reason in HTTP_STATUS[service].items():
            fault = Fault("http", status=status)
            found.append(pytest.param(service, fault, reason, id=f"{service}-{fault}"))
    return found


CELLS = cells()


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Any]:
    """All cells are played at once, by the first test that asks: most of them wait."""
    return {}


def patience(fault: Fault) -> dict[str, float]:
    """Short where silence is expected, endless where it would only be the machine's."""
    return {
        "connect_timeout_s": 2.0 if fault.kind == "silence" else ENDLESS_S,
        "first_audio_timeout_s": 2.0 if fault.kind == "silence" or str(fault) == "stall-0" else ENDLESS_S,
        "chunk_timeout_s": 2.0 if fault.kind == "stall" else ENDLESS_S,
    }


async def play(service: Service, fault: Fault) -> tuple[int, SpeechError | None, float, float, Any]:
    """→ bytes heard, error, seconds until it, seconds for closing, the server."""
    clock = asyncio.get_running_loop().time
    async with faulty(service, fault) as server:
        voice = route(service, server.url, **patience(fault))
        began = clock()
        sounds, error = await said(voice)
        failed = clock()
        await voice.aclose()
        return sum(map(len, (s.data for s in sounds))), error, failed - began, clock() - failed, server


@pytest.mark.parametrize(("service", "fault", "reason"), CELLS)
async def test_every_fault_is_told_by_its_reason(
    service: Service, fault: Fault, reason: str, outcomes: dict[str, Any]
) -> None:
    if not outcomes:
        gate = asyncio.Semaphore(8)

        async def one(service: Service, fault: Fault) -> None:
            async with gate:
                outcomes[f"{service}-{fault}"] = await play(service, fault)

        async with asyncio.TaskGroup() as group:
            for cell in CELLS:
                group.create_task(one(*cell.values[:2]))
    heard, error, took_s, closing_s, server = outcomes[f"{service}-{fault}"]
    assert error is not None
    assert (error.reason, error.route) == (reason, service)
    assert KEY not in str(error)
    assert len(str(error)) > 30, "a sentence for the operator"
    assert took_s < ENDLESS_S, "told by what happened, or by the short deadline"
    assert closing_s < ENDLESS_S
    if fault.kind in ("close", "stall", "half_closed", "error", "malformed") and service in (
        "sesame_ws", "elevenlabs", "sesame_rest", "elevenlabs_rest",
    ):  # fmt: skip
        assert [asked.chunks_sent for asked in server.requests][-1:] == [fault.after_chunks]
        assert (heard > 0) == (fault.after_chunks > 0), "what came before the fault was given out"


@pytest.mark.parametrize("kind", ["error", "no_audio", "close", "malformed", "stall"])
@pytest.mark.parametrize("service", SERVICES)
async def test_after_a_failed_utterance_the_next_one_is_spoken(service: Service, kind: Any) -> None:
    # A kept connection that closes is tried twice.
    async with faulty(service, Fault(kind, after_chunks=1, until_request=1)) as server:
        short_s = 0.8 if kind == "stall" else 4.0
        voice = route(service, server.url, first_audio_timeout_s=4.0, chunk_timeout_s=short_s)
        assert (await said(voice))[1] is not None
        await server.until(lambda s: s.requests[-1].ended is not None)
        assert (await said(voice))[1] is None
        await voice.aclose()


@pytest.mark.parametrize("service", SERVICES)
async def test_leaving_early_stops_it_and_the_next_utterance_is_clean(service: Service) -> None:
    async with healthy(service, pace=4) as server:
        voice = route(service, server.url, first_audio_timeout_s=20)
        async with asyncio.timeout(20):
            async with aclosing(voice.speak(TEXT)) as speaking:
                first = await anext(speaking)
        server.pace = None
        sounds, error = await said(voice, "Goodbye.")
        assert error is None
        assert sum(s.duration_ms for s in sounds) == pytest.approx(speech("Goodbye.").duration_ms, abs=3)
        assert len(first.data) > 0
        await voice.aclose()
        if service in ("sesame_ws", "sesame_rest", "elevenlabs_rest"):
            await server.until(lambda s: s.requests[0].ended == "cancelled")


@pytest.mark.parametrize("service", SERVICES)
async def test_cancelled_while_waiting_for_the_first_sound(service: Service) -> None:
    async with faulty(service, Fault("stall", until_request=1)) as server:
        voice = route(service, server.url, first_audio_timeout_s=20)
        speaking = asyncio.create_task(said(voice))
        await server.until(lambda s: s.requests != [])
        speaking.cancel()
        async with asyncio.timeout(20):
            with pytest.raises(asyncio.CancelledError):
                await speaking
            assert (await said(voice))[1] is None
            await voice.aclose()


@pytest.mark.parametrize("service", SERVICES)
async def test_closed_for_good_means_closed(service: Service) -> None:
    async with healthy(service) as server:
        voice = route(service, server.url)
        await said(voice)
        await voice.aclose()
        await voice.aclose()
        _, error = await said(voice)
        assert error is not None
        assert error.reason == "closed"
        with pytest.raises(SpeechError, match="closed"):
            await voice.connect()


# --- warming -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("refuse"), "unreachable"),
        (Fault("silence"), "timeout"),
        (Fault("tls"), "unreachable"),
        (Fault("http", status=401), "unauthorized"),
    ],
    ids=str,
)
@pytest.mark.parametrize("service", SERVICES)
async def test_warming_tells_what_is_wrong_beforehand(service: Service, fault: Fault, reason: str) -> None:
    async with faulty(service, fault) as server:
        voice = route(service, server.url, connect_timeout_s=0.4 if fault.kind == "silence" else 4.0)
        with pytest.raises(SpeechError) as caught:
            await voice.connect()
        assert caught.value.reason == reason
        assert server.requests == []
        await voice.aclose()


@pytest.mark.parametrize("service", SERVICES)
async def test_the_key_stands_in_no_log(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for fault in (Fault("none"), Fault("http", status=401), Fault("error")):
            async with faulty(service, fault) as server:
                voice = route(service, server.url)
                await said(voice)
                await voice.aclose()
    # The test's own server logs what it was sent: that is not looked at here.
    ours = [r for r in caplog.records if not r.name.startswith("websockets.server")]
    assert not [r for r in ours if KEY in r.getMessage()]
