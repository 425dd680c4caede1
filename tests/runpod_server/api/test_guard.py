from __future__ import annotations

import asyncio
import json

import pytest
import websockets
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from runpod_server.api.guard import Guard, key_is_right

KEY = "a-key-nobody-guesses"


@pytest.mark.parametrize("path", ["/ws/generate", "/ws/tts"])
async def test_a_websocket_without_the_key_is_closed_with_1008(start, commanded, heard, path: str) -> None:
    server = start(commanded({}), sesame_api_key=KEY)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}):
        async with server.connect(path, additional_headers=headers) as socket:
            with pytest.raises(websockets.ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1008
            assert "Authorization: Bearer" in socket.close_reason
    async with server.connect(
        "/ws/generate", additional_headers={"Authorization": f"Bearer {KEY}"}
    ) as socket:
        await socket.send(json.dumps({"text": "Hello."}))
        assert (await heard(socket)).reply["done"] is True


@pytest.mark.parametrize(
    "method, path",
    [("POST", "/generate"), ("GET", "/audio/x.wav"), ("POST", "/v1/audio/speech"), ("GET", "/v1/models"),
     ("GET", "/v1/audio/voices"), ("GET", "/metrics"), ("GET", "/docs"), ("GET", "/openapi.json")],
)  # fmt: skip
async def test_every_endpoint_wants_the_key(start, commanded, method: str, path: str) -> None:
    server = start(commanded({}), sesame_api_key=KEY)
    async with server.client() as http:
        refused = await http.request(method, path, json={"text": "Hello."} if method == "POST" else None)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")
    error = refused.json()["error"]
    assert (error["code"] if path.startswith("/v1/") else error) == "unauthorized"
    async with server.client(KEY) as http:
        assert (await http.request(method, path)).status_code != 401


async def test_the_documentation_opens_in_a_browser_with_the_key_as_password(start, commanded) -> None:
    server = start(commanded({}), sesame_api_key=KEY)
    async with server.client() as http:
        asked = await http.get("/docs")
        page = await http.get("/docs", auth=("anyone", KEY))
        script = await http.get("/static-offline-docs/swagger-ui-bundle.js", auth=("anyone", KEY))
        api = (await http.get("/openapi.json", auth=("anyone", KEY))).json()
        wrong = await http.get("/docs", auth=("anyone", "wrong"))
        other = await http.get("/v1/models", auth=("anyone", KEY))
    assert "Basic realm=" in asked.headers["www-authenticate"]
    assert [each.status_code for each in (page, script, wrong, other)] == [200, 200, 401, 401]
    assert api["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert api["paths"]["/v1/audio/speech"]["post"]["security"] == [{"HTTPBearer": []}]


async def test_a_large_body_is_413(start, commanded) -> None:
    server = start(commanded({}), max_text_chars=100)

    async def without_a_length():
        for _ in range(30):
            yield b"x" * 4096

    async with server.client() as http:
        for content in (b"x" * 100_000, without_a_length()):
            answer = await http.post("/generate", content=content)
            assert (answer.status_code, answer.json()["error"]) == (413, "bad_request")
            assert answer.headers["connection"] == "close"


async def test_a_body_that_never_ends_is_408() -> None:
    sent: list[Message] = []
    first = iter([{"type": "http.request", "body": b"{", "more_body": True}])

    async def receive() -> Message:
        for message in first:
            return message
        return await asyncio.get_running_loop().create_future()

    async def send(message: Message) -> None:
        sent.append(message)

    async def unreachable(*_: object) -> None:
        raise AssertionError("only whole bodies come through")

    guard = Guard(unreachable, api_key=None, max_body_bytes=100, body_deadline_s=0.01)
    await guard({"type": "http", "path": "/generate", "headers": []}, receive, send)
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["success"] is False


@given(st.binary(max_size=40), st.text(min_size=1, max_size=20))
def test_only_the_key_is_right(header: bytes, key: str) -> None:
    assert key_is_right([(b"authorization", b"Bearer " + key.encode())], key) == (
        key.encode() == key.encode().strip()
    )
    assert key_is_right([], None)
    assert not key_is_right([], key)
    if header.partition(b" ")[2].strip() != key.encode():
        assert not key_is_right([(b"authorization", header)], key)
