from __future__ import annotations

CORE = {"status", "device", "cuda", "model_loaded", "endpoints"}


async def test_the_exact_core_and_what_the_engine_does(server) -> None:
    health = await server.health()
    assert {name: health[name] for name in CORE} == {
        "status": "healthy",
        "device": "cpu",
        "cuda": False,
        "model_loaded": True,
        "endpoints": {"websocket": "/ws/generate", "rest": "/generate"},
    }
    assert (health["engine"], health["model"], health["sample_rate"]) == ("preview", "hibari-tts", 24_000)
    assert health["streams"]["capacity"] == health["streams"]["active"] + health["streams"]["free"] == 32
    assert health["queue"] == {"waiting": 0, "capacity": 64}
    assert "PREVIEW VOICE" in health["notice"]
    assert list(health["speakers"]) == [str(speaker) for speaker in range(10)]
    assert (health["speakers"]["6"], health["unbound_speakers"]) == ("hazel", [])
    assert health["version"]


async def test_loading_is_said(start, commanded) -> None:
    server = start(commanded({}, loaded=False))
    health = await server.health()
    assert (health["status"], health["model_loaded"]) == ("loading", False)


async def test_status_only_without_the_key(start, commanded) -> None:
    server = start(commanded({}), sesame_api_key="k")
    async with server.client() as http:
        assert (await http.get("/health")).json() == {"status": "healthy"}
    async with server.client("wrong") as http:
        assert (await http.get("/health")).json() == {"status": "healthy"}
    async with server.client("k") as http:
        assert set((await http.get("/health")).json()) > CORE
