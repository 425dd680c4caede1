"""The transcription client against a server on a real socket that hears for real, or fails in every way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from backend.errors import HearingError
from backend.simulator.wordcount import word_errors
from backend.stt.local import LocalTranscriber
from backend.stt.openai import OpenAiTranscriber, make_client
from tests.backend.stt.openai_server import free_port, transcription_server

TONE = bytes(8000)


@pytest.fixture(scope="module")
def recogniser() -> Iterator[LocalTranscriber]:
    pytest.importorskip("moonshine_voice")
    ears = LocalTranscriber()
    yield ears
    ears.close()


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with make_client() as client:
        yield client


async def test_real_speech_is_uploaded_and_recognised(
    recogniser: LocalTranscriber, http: httpx.AsyncClient, on_the_line: Any
) -> None:
    said = "I would like to book an appointment for Tuesday."
    async with transcription_server(recogniser) as server:
        ears = OpenAiTranscriber(
            server.url + "/", http=http, api_key="sk-test", model="whisper-large", language="en-GB",
            key_terms=("Bluebird Dental", "Kowalski"),
        )  # fmt: skip
        text = await ears.transcribe(on_the_line(said))
    assert word_errors(said, text).errors == 0
    assert server.asked == [
        {"model": "whisper-large", "response_format": "json", "language": "en",
         "prompt": "Bluebird Dental, Kowalski"}
    ]  # fmt: skip
    assert server.headers[0]["authorization"] == "bearer sk-test"


async def test_words_come_without_space_around_and_the_connection_is_kept(http: httpx.AsyncClient) -> None:
    async with transcription_server() as server:
        ears = OpenAiTranscriber(server.url, http=http)
        assert [await ears.transcribe(TONE) for _ in range(2)] == ["hello there"] * 2
        assert "authorization" not in server.headers[0]


async def test_next_to_nothing_is_not_uploaded(http: httpx.AsyncClient) -> None:
    async with transcription_server() as server:
        assert await OpenAiTranscriber(server.url, http=http).transcribe(bytes(1000)) == ""
        assert server.asked == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (401, "unauthorized"),
        (403, "unauthorized"),
        (404, "protocol"),
        (302, "protocol"),
        (429, "rate_limited"),
        ((429, {"error": {"message": "You exceeded your quota.", "code": "insufficient_quota"}}), "quota"),
        (400, "bad_request"),
        (500, "generation_failed"),
        (503, "busy"),
        ((200, {"words": []}), "protocol"),
        ((200, {"text": None}), "protocol"),
        ((200, ["text"]), "protocol"),
        ((500, "what"), "generation_failed"),
        ("close", "closed"),
        ("malformed", "protocol"),
        ("endless", "protocol"),
    ],
)
async def test_failures_are_told_apart(fault: Any, reason: str, http: httpx.AsyncClient) -> None:
    async with transcription_server() as server:
        server.fault = fault
        with pytest.raises(HearingError) as raised:
            await OpenAiTranscriber(server.url, http=http, api_key="sk-secret").transcribe(TONE)
    assert (raised.value.reason, raised.value.route) == (reason, "openai")
    assert "sk-secret" not in str(raised.value)


async def test_empty_transcript_is_no_words(http: httpx.AsyncClient) -> None:
    async with transcription_server() as server:
        server.fault = "empty"
        assert await OpenAiTranscriber(server.url, http=http).transcribe(TONE) == ""


async def test_nobody_there(http: httpx.AsyncClient) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(HearingError) as raised:
        await OpenAiTranscriber(url, http=http).transcribe(TONE)
    assert raised.value.reason == "unreachable"


async def test_a_server_that_says_nothing_is_left_at_once_when_cancelled(http: httpx.AsyncClient) -> None:
    async with transcription_server() as server:
        server.fault = "silence"
        asking = asyncio.create_task(OpenAiTranscriber(server.url, http=http).transcribe(TONE))
        await server.came.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(5):
            await server.gone.wait()


async def test_names_that_do_not_fit_are_left_out_whole() -> None:
    terms = [f"Kowalski{number:04} and Sons" for number in range(100)]
    async with transcription_server() as server, make_client() as http:
        server.fault = 401
        with pytest.raises(HearingError):
            await OpenAiTranscriber(server.url, http=http, key_terms=terms).transcribe(bytes(16_000))
    named = server.asked[0]["prompt"].split(", ")
    assert 20 < len(named) < 30
    assert set(named) <= set(terms)
