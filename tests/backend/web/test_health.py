from __future__ import annotations

import asyncio

import pytest

from backend.core.health import RouteHealth
from backend.core.llm_health import LlmHealth
from backend.errors import CarrierError, SpeechError
from backend.web.health import Kept, PartView, overall

UP, DOWN, UNKNOWN, NOT_SET = (
    PartView(state=state, detail="") for state in ("up", "down", "unknown", "not_set")
)


async def test_all_is_well(backend, client) -> None:
    answer = await client.get("/api/v1/health")
    assert answer.status_code == 200
    health = answer.json()
    assert (health["status"], health["version"], health["live_calls"]) == ("ok", "1.2.3", 2)
    assert health["database"]["state"] == "up"
    assert health["telnyx"]["state"] == "up"
    assert health["speech"] == [
        {
            "name": "sesame_ws",
            "server": "http://pod-1",
            "state": "up",
            "detail": "works",
            "latency_ms": 3.5,
            "breaker": "closed",
        }
    ]


async def test_an_agents_folder_that_is_away_is_told_and_costs_no_agent(backend, client) -> None:
    assert "problems" not in (await client.get("/api/v1/health")).json()
    folder = backend.files.dir
    folder.rename(folder.parent / "away")
    backend.files.reload_changed()
    health = (await client.get("/api/v1/health")).json()
    assert health["status"] == "degraded"
    assert "its agents stay in use as they were" in health["problems"][0]
    assert len((await client.get("/api/v1/agents")).json()["agents"]) == 1
    (folder.parent / "away").rename(folder)
    backend.files.reload_changed()
    assert (await client.get("/api/v1/health")).json()["status"] == "ok"


async def test_each_agent_s_voices_are_told(backend, client) -> None:
    health = (await client.get("/api/v1/health")).json()
    assert health["voices"] == {"front-desk": "sesame_ws → telnyx"}


async def test_a_refused_key_is_told(backend, client) -> None:
    backend.carrier.failure = CarrierError("Telnyx did not take the key. Set TELNYX_API_KEY.", status=401)
    health = (await client.get("/api/v1/health")).json()
    assert health["status"] == "down"
    assert health["telnyx"] == {"state": "down", "detail": "Telnyx did not take the key. Set TELNYX_API_KEY."}


async def test_one_voice_of_two_is_down(backend, client) -> None:
    backend.manager.routes.append(RouteHealth("elevenlabs", "down", "ELEVENLABS_API_KEY is not set"))
    health = (await client.get("/api/v1/health")).json()
    assert health["status"] == "degraded"
    assert health["speech"][1]["detail"] == "ELEVENLABS_API_KEY is not set"


async def test_voices_that_cannot_be_asked(backend, client) -> None:
    backend.manager.failure = SpeechError("no voice", route="sesame_ws", reason="unreachable")
    answer = await client.get("/api/v1/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "down")


async def test_a_database_that_went_away(backend, client) -> None:
    for file in backend.files.dir.parent.glob("calls.sqlite3*"):
        file.unlink()
    (backend.files.dir.parent / "calls.sqlite3").mkdir()
    await backend.store.close()
    answer = await client.get("/api/v1/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "down")
    assert "Set DATABASE_URL" in answer.json()["database"]["detail"]


@pytest.mark.parametrize("backend", [{"telnyx": False}], indirect=True)
async def test_without_a_telnyx_key(client) -> None:
    health = (await client.get("/api/v1/health")).json()
    assert (health["status"], health["telnyx"]["state"]) == ("degraded", "not_set")
    assert "TELNYX_API_KEY" in health["telnyx"]["detail"]


@pytest.mark.parametrize("backend", [{"key": "k"}], indirect=True)
async def test_strangers_learn_the_status_alone(backend) -> None:
    async with backend.client() as client:
        assert (await client.get("/api/v1/health")).json() == {"status": "ok"}
        full = await client.get("/api/v1/health", headers={"authorization": "Bearer k"})
        assert full.json()["database"]["state"] == "up"


async def test_many_askers_are_one_to_telnyx(backend, client) -> None:
    await asyncio.gather(*(client.get("/api/v1/health") for _ in range(10)))
    assert backend.carrier.asked == 1


async def test_an_answer_is_kept_for_its_time() -> None:
    now_s, asked = 100.0, 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        return asked

    kept = Kept(ask, kept_s=5.0, clock_s=lambda: now_s)
    assert [await kept.get(), await kept.get()] == [1, 1]
    now_s = 104.9
    assert await kept.get() == 1
    now_s = 105.0
    assert await kept.get() == 2


@pytest.mark.parametrize(
    ("database", "telnyx", "speech", "status"),
    [
        (UP, UP, [UP], "ok"),
        (UP, UP, [UP, DOWN], "degraded"),
        (UP, UP, [UNKNOWN], "degraded"),
        (UP, UP, [], "degraded"),
        (UP, NOT_SET, [UP], "degraded"),
        (UP, UP, [DOWN, DOWN], "down"),
        (DOWN, UP, [UP], "down"),
        (UP, DOWN, [UP], "down"),
    ],
)
def test_the_whole_from_its_parts(database, telnyx, speech, status) -> None:
    assert overall(database, telnyx, speech) == status


@pytest.mark.parametrize(
    ("hearing", "status"),
    [
        ([], "ok"),
        ([UNKNOWN], "ok"),
        ([UP, UNKNOWN], "ok"),
        ([DOWN, UP], "degraded"),
        ([DOWN, DOWN], "down"),
    ],
)
def test_an_agent_that_hears_nothing_is_down(hearing: list[PartView], status: str) -> None:
    assert overall(UP, UP, [UP], hearing) == status


async def test_a_password_in_an_address_is_not_told(backend, client) -> None:
    backend.manager.routes.append(RouteHealth("sesame_ws", "up", "works", server="https://me:key@pod-2/x"))
    health = (await client.get("/api/v1/health")).json()
    assert health["speech"][-1]["server"] == "https://pod-2/x"


@pytest.mark.parametrize(
    ("thinking", "status"),
    [([], "ok"), ([UP, UNKNOWN], "ok"), ([UP, DOWN], "degraded"), ([DOWN], "degraded")],
)
def test_without_a_language_model_calls_work_as_far_as_they_are_written(
    thinking: list[PartView], status: str
) -> None:
    assert overall(UP, UP, [UP], (), thinking) == status


async def test_a_language_model_that_is_left_alone_is_told_without_its_password(backend, client) -> None:
    server = "http://user:password@models.example/v1"
    row = LlmHealth("gpt", server, "down", "Does not answer.", "OPENAI_API_KEY", "open", 812.5)
    backend.manager.models.append(row)
    answer = await client.get("/api/v1/health")
    assert answer.json()["status"] == "degraded"
    assert answer.json()["language_models"] == [
        {
            "state": "down",
            "detail": "Does not answer.",
            "model": "gpt",
            "server": "http://models.example/v1",
            "key": "OPENAI_API_KEY",
            "breaker": "open",
            "first_word_ms": 812.5,
        }
    ]
