from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from backend.errors import ConfigError
from backend.web.auth import Guard, is_loopback, make_guard

KEY = "correct horse battery staple"
WITH_KEY = pytest.mark.parametrize("backend", [{"key": KEY}], indirect=True)
PATHS = ["/api/v1/calls", "/api/v1/calls/x", "/api/v1/agents", "/api/v1/agents/front-desk"]


@WITH_KEY
@pytest.mark.parametrize("path", PATHS)
async def test_the_api_wants_the_key(backend, path) -> None:
    async with backend.client() as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {KEY}"},
                        {"authorization": "Bearer"}, {"authorization": b"Bearer \xe9\xff"}):  # fmt: skip
            answer = await client.get(path, headers=headers)
            assert answer.status_code == 401, headers
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["error"] == "unauthorized"
            assert "API" in answer.json()["message"] and KEY not in answer.text
        answer = await client.get(path, headers={"authorization": f"bearer {KEY}"})
        assert answer.status_code in (200, 404)


@WITH_KEY
async def test_acting_wants_the_key_too(backend) -> None:
    async with backend.client() as client:
        body = {"agent_id": "front-desk", "to": "+15550100009"}
        assert (await client.post("/api/v1/calls", json=body)).status_code == 401
        assert (await client.post("/api/v1/calls/x/hangup")).status_code == 401
        assert (await client.put("/api/v1/agents/front-desk", json={})).status_code == 401
    assert backend.manager.orders == []


@WITH_KEY
async def test_what_needs_no_key(backend) -> None:
    async with backend.client("https://voice.example.com") as client:
        for path in ("/", "/docs", "/metrics", "/api/v1/health"):
            assert (await client.get(path)).status_code == 200, path


@WITH_KEY
async def test_the_documentation_can_be_given_the_key(backend) -> None:
    async with backend.client() as client:
        api = (await client.get("/openapi.json")).json()
    assert api["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert api["paths"]["/api/v1/calls"]["post"]["security"] == [{"HTTPBearer": []}]


async def test_without_a_key_only_this_machine_is_served(backend) -> None:
    for local in ("http://127.0.0.1:8080", "http://localhost", "http://[::1]:9", "http://LOCALHOST:1"):
        async with backend.client(local) as client:
            assert (await client.get("/api/v1/calls")).status_code == 200, local
    for elsewhere in (
        "https://some-tunnel.example",
        "http://127.0.0.1.evil.example",
        "http://192.168.1.5:8080",
    ):
        async with backend.client(elsewhere) as client:
            answer = await client.get("/api/v1/calls")
            assert answer.status_code == 401, elsewhere
            assert "Set API_KEY" in answer.json()["message"]
    for header in ("x-forwarded-for", "forwarded", "cf-connecting-ip"):
        async with backend.client() as client:
            answer = await client.get("/api/v1/calls", headers={header: "203.0.113.7"})
            assert answer.status_code == 401, header


def test_a_backend_others_can_reach_needs_a_key() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "voice.example.com", ""):
        for key in (None, "", "  "):
            with pytest.raises(ConfigError, match=r"API_KEY is not set.*HOST"):
                make_guard(api_key=key, host=host)
        make_guard(api_key=KEY, host=host)
    for host in ("127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"):
        assert is_loopback(host)
        make_guard(api_key=None, host=host)


def test_keys_beyond_ascii_work() -> None:
    guard = Guard("clé-secrète")
    header = (b"authorization", "Bearer clé-secrète".encode())
    assert guard.refusal(Headers(raw=[header])) is None
    assert guard.refusal(Headers(raw=[(b"authorization", b"Bearer cle-secrete")])) is not None
