from __future__ import annotations

import asyncio
import base64
import io
from typing import Any

import numpy as np
import pytest
import soundfile

from runpod_server import errors

HELLO = {"text": "Hello, this is a test.", "speaker_id": 0}
LONG = {"text": "This sentence is one of very many in a long text. " * 80, "speaker_id": 0}


def read(wav: bytes) -> np.ndarray:
    samples, rate_hz = soundfile.read(io.BytesIO(wav), dtype="float32")
    assert rate_hz == 24_000
    assert np.abs(samples).max() > 0.1
    return np.asarray(samples)


async def test_base64_is_the_default(server) -> None:
    async with server.client() as http:
        answer = await http.post("/generate", json=HELLO)
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"success", "audio_data", "sample_rate", "duration_ms"}
    assert body["success"] is True and body["sample_rate"] == 24_000
    assert len(read(base64.b64decode(body["audio_data"]))) / 24 == pytest.approx(body["duration_ms"], abs=1)


async def test_wav_is_streamed(server) -> None:
    async with (
        server.client() as http,
        http.stream("POST", "/generate", json={**HELLO, "format": "wav"}) as answer,
    ):
        assert answer.headers["content-type"] == "audio/wav"
        assert "content-length" not in answer.headers
        pieces = [piece async for piece in answer.aiter_raw()]
    assert len(pieces) > 1
    assert len(read(b"".join(pieces))) > 24_000


async def test_url_is_kept(server) -> None:
    async with server.client() as http:
        body = (await http.post("/generate", json={**HELLO, "format": "url"})).json()
        assert body["success"] is True and body["duration_ms"] > 1000
        kept = await http.get(body["audio_url"])
        assert kept.headers["content-type"] == "audio/wav"
        assert len(read(kept.content)) / 24 == pytest.approx(body["duration_ms"], abs=1)
        gone = await http.get("/audio/unknown.wav")
        assert (gone.status_code, gone.json()["error"]) == (404, "not_found")


async def test_the_longest_is_honoured(server) -> None:
    async with server.client() as http:
        body = (await http.post("/generate", json={**HELLO, "max_audio_length_ms": 400})).json()
    assert body["duration_ms"] == 400


@pytest.mark.parametrize(
    "body, says",
    [({}, "text"), ({"text": ""}, "text"), ({"text": 5}, "text"), ({**HELLO, "speaker_id": 10}, "speaker_id"),
     ({**HELLO, "speaker_id": "0"}, "speaker_id"), ({**HELLO, "format": "ogg"}, "format"),
     ({**HELLO, "max_audio_length_ms": 1}, "max_audio_length_ms"), ({**HELLO, "voice": "x"}, "'x'"),
     ({"text": "..."}, "nothing this voice can say"), ({"text": "x" * 5000}, "5000 characters"),
     ([], "object")],
)  # fmt: skip
@pytest.mark.parametrize("form", [None, "wav"])
async def test_mistakes_are_400_and_say_which(server, body: Any, says: str, form: str | None) -> None:
    if form and isinstance(body, dict) and "format" not in body:
        body = {**body, "format": form}
    async with server.client() as http:
        answer = await http.post("/generate", json=body)
    assert answer.status_code == 400
    assert answer.json()["success"] is False
    assert answer.json()["error"] == "bad_request"
    assert says in answer.json()["message"]


async def test_not_json_and_unknown_paths(server) -> None:
    async with server.client() as http:
        answer = await http.post("/generate", content=b"{", headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
        answer = await http.get("/generate")
        assert (answer.status_code, answer.json()["error"]) == (405, "method_not_allowed")
        answer = await http.get("/nothing")
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


@pytest.mark.parametrize(
    "body, says",
    [('{"text": "Hello.", "temperature": NaN}', "not JSON"), ('{"text": "Hello \\ud800."}', "not JSON"),
     ('{"text": "Hello.", "seed": 1' + "0" * 30 + "}", "seed"),
     ('{"text": "Hello.", "seed": 9' + "9" * 5000 + "}", "JSON"),
     ("x" * 9, "not JSON")],
)  # fmt: skip
async def test_json_that_python_reads_and_others_do_not(server, body: str, says: str) -> None:
    async with server.client() as http:
        for path in ("/generate", "/v1/audio/speech"):
            as_asked = body.replace("text", "input") if path.startswith("/v1") else body
            answer = await http.post(path, content=as_asked, headers={"content-type": "application/json"})
            if path == "/generate" or "seed" not in body or "JSON" in says:  # which that one has not
                assert answer.status_code == 400
                assert says in answer.text


async def test_a_form_is_told_to_be_json(server) -> None:
    async with server.client() as http:
        answer = await http.post("/generate", data={"text": "Hello."})
    assert answer.status_code == 400 and "application/json" in answer.json()["message"]


@pytest.mark.parametrize("path", ["/generate", "/v1/audio/speech"])
async def test_a_reader_that_takes_nothing_is_dropped(start, path: str) -> None:
    server = start(options={"send_deadline_s": 0.2})
    asked = {**LONG, "format": "wav", "input": LONG["text"], "response_format": "wav"}
    async with server.client() as http, http.stream("POST", path, json=asked) as answer:
        pieces = answer.aiter_raw()
        await anext(pieces)
        await server.until_health(lambda health: health["streams"]["active"] == 1)
        await server.until_health(lambda health: health["streams"]["active"] == 0)


@pytest.mark.parametrize(
    "failure, status",
    [(errors.NotReady, 503), (errors.OutOfMemory, 503), (errors.GenerationFailed, 500), (errors.Busy, 503)],
)  # fmt: skip
@pytest.mark.parametrize("form", ["base64", "wav"])
async def test_failures_have_their_status(start, commanded, failure: Any, status: int, form: str) -> None:
    server = start(commanded({"fail": failure("what happened")}))
    async with server.client() as http:
        answer = await http.post("/generate", json={"text": "fail", "format": form})
    assert answer.status_code == status
    assert answer.json() == {"success": False, "error": failure.code, "message": "what happened"}


@pytest.mark.parametrize("form", ["base64", "wav"])
async def test_a_client_that_hangs_up_frees_its_slot(start, commanded, form: str) -> None:
    server = start(commanded({}))
    async with server.client() as http:
        asking = asyncio.create_task(http.post("/generate", json={"text": "wait", "format": form}))
        await server.until_health(lambda health: health["streams"]["active"] == 1)
        asking.cancel()
        await asyncio.wait({asking})
    await server.until_health(lambda health: health["streams"]["active"] == 0)


async def test_a_reader_that_stops_reading_is_freed_when_it_goes(server) -> None:
    asked = {**LONG, "format": "wav"}
    async with server.client() as http, http.stream("POST", "/generate", json=asked) as answer:
        pieces = answer.aiter_raw()  # held: httpx hangs up when it is collected
        await anext(pieces)
        await server.until_health(lambda health: health["streams"]["active"] == 1)
    await server.until_health(lambda health: health["streams"]["active"] == 0)
