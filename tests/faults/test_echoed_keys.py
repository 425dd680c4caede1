"""Servers that tell our key back, in every place an answer has: it is in no error, and in no log."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import pytest

from backend.core.llm import Message
from backend.errors import BackendError
from backend.llm.openai import OpenAiModel
from backend.stt.elevenlabs import ElevenLabsTranscriber
from backend.stt.openai import OpenAiTranscriber, make_client
from backend.tts.elevenlabs_account import ElevenLabsAccount
from backend.tts.elevenlabs_rest import ElevenLabsRestService
from backend.tts.elevenlabs_ws import ElevenLabsWebSocketService
from backend.tts.hosted import HostedInferenceService
from backend.tts.sesame_health import SesameHealth
from backend.tts.sesame_rest import SesameRestService
from backend.tts.sesame_ws import SesameWebSocketService
from tests.faults.parrot import HTTP_ANSWERS, SOCKET_ANSWERS, parrot

CANARY = "c4n4ry-3f9a-do-not-tell"
SECOND = bytes(16_000)


async def _drain(stream: AsyncGenerator[object]) -> None:
    async with aclosing(stream):
        async for _ in stream:
            pass


async def _speak(service: object) -> None:
    try:
        await _drain(service.speak("Good morning."))  # type: ignore[attr-defined]
    finally:
        await service.aclose()  # type: ignore[attr-defined]


async def llm(url: str) -> None:
    model = OpenAiModel(url, CANARY, "m", first_token_timeout_s=2.0)
    try:
        await _drain(model.reply([Message("user", "Hello")]))
    finally:
        await model.aclose()


async def transcriptions(url: str) -> None:
    async with make_client() as http:
        await OpenAiTranscriber(url, http=http, api_key=CANARY).transcribe(SECOND)


async def scribe(url: str) -> None:
    ears = ElevenLabsTranscriber(url, api_key=CANARY)
    try:
        await ears.transcribe(SECOND)
    finally:
        await ears.aclose()


async def account(url: str) -> None:
    looking = ElevenLabsAccount(url, api_key=CANARY)
    try:
        await looking.look()
    finally:
        await looking.aclose()


async def pod(url: str) -> None:
    looking = SesameHealth(api_key=CANARY)
    try:
        await looking.look(url)
    finally:
        await looking.aclose()


BY_HTTP: dict[str, Callable[[str], Awaitable[None]]] = {
    "language model": llm,
    "transcriptions": transcriptions,
    "account": account,
    "pod": pod,
    "ElevenLabs by HTTP": lambda url: _speak(ElevenLabsRestService(url, api_key=CANARY, voice_id="v")),
    "hosted model": lambda url: _speak(HostedInferenceService(url, api_key=CANARY)),
    "speech server by HTTP": lambda url: _speak(SesameRestService(f"{url}/generate", api_key=CANARY)),
}
BY_SOCKET: dict[str, Callable[[str], Awaitable[None]]] = {
    "hearing": scribe,
    "ElevenLabs": lambda url: _speak(ElevenLabsWebSocketService(url, api_key=CANARY, voice_id="v")),
    "speech server": lambda url: _speak(
        SesameWebSocketService(url.replace("http", "ws", 1) + "/ws/generate", api_key=CANARY)
    ),
}
CASES = [*((name, HTTP_ANSWERS) for name in BY_HTTP), *((name, SOCKET_ANSWERS) for name in BY_SOCKET)]


@pytest.mark.parametrize(("client", "answers"), CASES, ids=[name for name, _ in CASES])
async def test_a_key_told_back_is_in_no_error_and_no_log(
    client: str, answers: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    ask = {**BY_HTTP, **BY_SOCKET}[client]
    leaks, sent = [], 0
    async with parrot() as server:
        for server.answer in answers:
            caplog.clear()
            with caplog.at_level(logging.DEBUG):
                try:
                    await ask(server.url)
                except BackendError as error:
                    told = f"{error!r} {error}"
                else:
                    told = ""
            ours = [record for record in caplog.records if record.name.startswith("backend.")]
            logged = " ".join(logging.Formatter().format(record) for record in ours)
            leaks += [f"{server.answer}: {text[:300]}" for text in (told, logged) if CANARY[:12] in text]
        sent = sum(CANARY in head for head in server.heads)
    assert sent >= len(answers), "it was given the key"
    assert not leaks, "\n".join(leaks)
