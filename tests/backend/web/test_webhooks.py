"""The webhook door, with real signatures."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from nacl.signing import SigningKey

from backend.telnyx.webhooks import SeenEvents, TelnyxEvent, WebhookVerifier
from backend.web.errors import install_error_handlers
from backend.web.metrics import Metrics
from backend.web.webhooks import MAX_BODY_BYTES, webhooks_router

KEY = SigningKey(b"\x07" * 32)


class Sink:
    def __init__(self) -> None:
        self.seen = SeenEvents()
        self.events: list[TelnyxEvent] = []

    def accept_event(self, event: TelnyxEvent) -> bool:
        if not self.seen.is_new(event.id):
            return False
        self.events.append(event)
        return True


class Door:
    def __init__(self, verifier: WebhookVerifier | None) -> None:
        self.sink, self.metrics, app = Sink(), Metrics(), FastAPI()
        install_error_handlers(app)
        app.include_router(webhooks_router(self.sink, verifier, self.metrics))
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://voice.example")

    async def post(self, body: bytes, headers: dict[str, str]) -> httpx.Response:
        return await self.http.post("/webhooks/telnyx", content=body, headers=headers)

    def count(self, event: str, outcome: str) -> float | None:
        labels = {"event": event, "outcome": outcome}
        return self.metrics.registry.get_sample_value("voice_webhooks_total", labels)


@pytest.fixture
async def door(request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    key = base64.b64encode(KEY.verify_key.encode()).decode()
    door = Door(None if getattr(request, "param", "") == "no key" else WebhookVerifier(key))
    async with door.http:
        yield door


def event(event_type: str = "call.answered", event_id: str = "e1") -> bytes:
    payload = {"call_control_id": "v3:a"}
    return json.dumps({"data": {"id": event_id, "event_type": event_type, "payload": payload}}).encode()


def signed(body: bytes, *, age_s: float = 0, key: SigningKey = KEY) -> dict[str, str]:
    timestamp = str(int(time.time() - age_s))
    signature = base64.b64encode(key.sign(f"{timestamp}|".encode() + body).signature).decode()
    return {"telnyx-signature-ed25519": signature, "telnyx-timestamp": timestamp}


async def test_an_event_is_taken_once(door: Door) -> None:
    body = event()
    answers = [await door.post(body, signed(body)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert [answer.json()["status"] for answer in answers] == ["accepted", "duplicate", "duplicate"]
    assert [(e.id, e.call_control_id) for e in door.sink.events] == [("e1", "v3:a")]
    assert door.count("call.answered", "accepted") == 1
    assert door.count("call.answered", "duplicate") == 2


async def test_an_unknown_event_is_harmless(door: Door) -> None:
    body = event("fax.dreamt")
    assert (await door.post(body, signed(body))).status_code == 200
    assert door.count("other", "accepted") == 1


async def test_what_is_not_telnyxs_is_refused(door: Door) -> None:
    body = event()
    for sent, headers in (
        (body, {}),
        (body, signed(body, age_s=400)),
        (body, signed(body, age_s=-400)),
        (body, signed(body, key=SigningKey(b"\x08" * 32))),
        (body + b" ", signed(body)),
        (b"", signed(body)),
    ):
        answer = await door.post(sent, headers)
        assert answer.status_code == 401
        assert answer.json()["error"] == "webhook_refused"
        assert answer.json()["message"].startswith("This webhook is refused: ")
    assert door.sink.events == []
    assert door.count("other", "refused") == 6


async def test_signed_nonsense_is_told(door: Door) -> None:
    for body in (b"", b"\xff\xfe\xfd", b"[]", b'{"data": {}}', b"null"):
        answer = await door.post(body, signed(body))
        assert (answer.status_code, answer.json()["error"]) == (400, "webhook_malformed")
    assert door.sink.events == []


async def test_the_raw_body_counts_not_its_meaning(door: Door) -> None:
    body = b'{ "data" : {"id":"e\\u0031", "event_type":"call.answered"} }\r\n'
    assert (await door.post(body, signed(body))).status_code == 200
    assert (await door.post(json.dumps(json.loads(body)).encode(), signed(body))).status_code == 401


async def test_a_body_without_end_is_cut_off(door: Door) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 65_536
            yield b" " * 65_536

    answer = await door.http.post("/webhooks/telnyx", content=endless())
    assert (answer.status_code, answer.json()["error"]) == (413, "too_large")
    assert sent < MAX_BODY_BYTES + 3 * 65_536


@pytest.mark.parametrize("door", ["no key"], indirect=True)
async def test_without_a_public_key_nothing_is_believed(door: Door) -> None:
    body = event()
    answer = await door.post(body, signed(body))
    assert answer.status_code == 401
    assert "TELNYX_PUBLIC_KEY is not set" in answer.json()["message"]


async def test_only_posts_are_webhooks(door: Door) -> None:
    assert (await door.http.get("/webhooks/telnyx")).status_code == 405
