from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import numpy as np
import pytest


async def events(socket: Any) -> list[dict[str, Any]]:
    """Everything up to the end of one request."""
    heard: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        while not heard or heard[-1]["type"] not in ("completion", "error"):
            heard.append(json.loads(await socket.recv()))
    return heard


async def test_the_events_of_a_request(server) -> None:
    async with server.connect("/ws/tts") as socket:
        await socket.send(json.dumps({"text": "Hello there.", "voice_id": "birch", "request_id": "r"}))
        heard = await events(socket)
    assert {event["request_id"] for event in heard} == {"r"}
    queued, generating, *chunks, completion = heard
    assert (queued["type"], queued["status"]) == ("audio_status", "queued")
    assert (generating["type"], generating["status"]) == ("audio_status", "generating")
    assert generating["sample_rate"] == 24_000
    assert {chunk["type"] for chunk in chunks} == {"audio_chunk"}
    assert [chunk["seq"] for chunk in chunks] == list(range(len(chunks)))
    samples = np.concatenate([np.frombuffer(base64.b64decode(chunk["data"]), "<f4") for chunk in chunks])
    assert 0.1 < np.abs(samples).max() <= 1.0
    assert completion["type"] == "completion"
    assert completion["reason"] == "eos"
    assert completion["audio_ms"] == round(len(samples) / 24)


@pytest.mark.parametrize(
    "message, says",
    [("{}", "text"), ('{"text": "Hi.", "voice_id": 12}', "speaker_id"),
     ('{"text": "Hi.", "voice_id": "x"}', "'x'"), ("nonsense", "JSON")],
)  # fmt: skip
async def test_mistakes_are_error_events_and_the_connection_lives(server, message: str, says: str) -> None:
    async with server.connect("/ws/tts") as socket:
        await socket.send(message)
        error = (await events(socket))[-1]
        assert (error["type"], error["error"]) == ("error", "bad_request")
        assert says in error["message"]
        await socket.send(json.dumps({"text": "Hello.", "voice_id": "0"}))
        assert (await events(socket))[-1]["type"] == "completion"


async def test_cancel_and_going_away(server) -> None:
    async with server.connect("/ws/tts", max_queue=1) as socket:
        await socket.send(json.dumps({"text": "A long text it is. " * 200, "voice_id": 0}))
        await server.until_health(lambda health: health["streams"]["active"] == 1)
        await socket.send('{"cancel": true}')
        assert (await events(socket))[-1]["reason"] == "cancelled"
        await socket.send(json.dumps({"text": "A long text it is. " * 200, "voice_id": 0}))
        await server.until_health(lambda health: health["streams"]["active"] == 1)
        socket.transport.abort()
    await server.until_health(lambda health: health["streams"]["active"] == 0)


async def test_what_was_heard_is_noted_as_an_event(start, commanded) -> None:
    server = start(commanded({}))
    tone = (8000 * np.sin(np.arange(24_000) / 20)).astype("<i2").tobytes()
    turn = {"text": "Can you hear me?", "audio": base64.b64encode(tone).decode()}
    async with server.connect("/ws/tts") as socket:
        await socket.send(json.dumps({"context_id": "call", "heard": turn, "request_id": "h"}))
        event = json.loads(await socket.recv())
    assert event == {"type": "noted", "noted": True, "request_id": "h", "context_id": "call"}
