from __future__ import annotations

import json

import pytest


def agent(backend, **changes):
    return {**json.loads((backend.files.dir / "front-desk.json").read_text()), **changes}


async def test_agents_are_listed_with_what_is_wrong(backend, client) -> None:
    (backend.files.dir / "broken.json").write_text('{"id": "broken", "nam": "x"}')
    backend.files.reload_changed()
    listed = (await client.get("/api/v1/agents")).json()
    assert listed["agents"] == [
        {
            "id": "front-desk",
            "name": "Front desk",
            "description": None,
            "phone_numbers": ["+15550100002"],
            "language": "en-US",
            "tts_provider": "sesame",
            "nodes": 1,
        }
    ]
    assert {problem["file"] for problem in listed["problems"]} == {"broken.json"}
    assert all(problem["reason"] for problem in listed["problems"])


async def test_an_agent_is_shown_as_its_file_says_it(backend, client) -> None:
    answer = await client.get("/api/v1/agents/front-desk")
    assert answer.status_code == 200
    assert answer.json() == agent(backend)
    unknown = await client.get("/api/v1/agents/nobody")
    assert (unknown.status_code, unknown.json()["error"]) == (404, "unknown_agent")


async def test_an_agent_is_changed(backend, client) -> None:
    changed = agent(backend, greeting="Welcome.")
    answer = await client.put("/api/v1/agents/front-desk", json=changed)
    assert (answer.status_code, answer.json()) == (200, changed)
    assert backend.files.get("front-desk").greeting == "Welcome."
    assert json.loads((backend.files.dir / "front-desk.json").read_text()) == changed
    assert (await client.get("/api/v1/agents/front-desk")).json() == changed


async def test_an_agent_is_added(backend, client) -> None:
    added = agent(backend, id="reminder", phone_numbers=[])
    answer = await client.put("/api/v1/agents/reminder", json=added)
    assert (answer.status_code, answer.json()) == (201, added)
    assert len((await client.get("/api/v1/agents")).json()["agents"]) == 2
    assert (await client.put("/api/v1/agents/reminder", json=added)).status_code == 200


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"greting": "Hi"}, "greting"),
        ({"language": 7}, "language"),
        ({"phone_numbers": ["555"]}, "phone_numbers"),
        ({"call_flow": {"start": "nowhere", "nodes": [{"id": "hello", "say": "Hi."}]}}, "call_flow"),
    ],
)
async def test_a_broken_agent_is_not_written(backend, client, changes, field) -> None:
    before = agent(backend)
    answer = await client.put("/api/v1/agents/front-desk", json=agent(backend, **changes))
    assert answer.status_code == 422
    told = answer.json()
    assert told["error"] == "invalid_agent"
    assert told["file"]
    assert field in told["fields"][0]["field"]
    assert told["fields"][0]["reason"] and told["fields"][0]["reason"] in told["message"]
    assert agent(backend) == before


async def test_another_agents_number_is_not_taken(backend, client) -> None:
    answer = await client.put("/api/v1/agents/other", json=agent(backend, id="other"))
    assert answer.status_code == 422
    assert answer.json()["fields"][0]["field"] == "phone_numbers[0]"
    assert not (backend.files.dir / "other.json").exists()


@pytest.mark.parametrize("agent_id", ["reminder", "..%2F..%2Fetc", "front-desk-2.json"])
async def test_address_and_agent_must_agree(backend, client, agent_id) -> None:
    answer = await client.put(f"/api/v1/agents/{agent_id}", json=agent(backend))
    assert answer.status_code in (404, 422)
    assert [path.name for path in backend.files.dir.iterdir()] == ["front-desk.json"]


async def test_a_body_that_is_no_agent(client) -> None:
    answer = await client.put("/api/v1/agents/front-desk", json=["not", "one"])
    assert answer.status_code == 422
    assert "send a JSON object" in answer.json()["message"]


async def test_an_agent_is_found_by_its_file_and_a_wrong_name_gets_the_nearest(backend, client) -> None:
    assert (await client.get("/api/v1/agents/front-desk.json")).json()["id"] == "front-desk"
    told = (await client.get("/api/v1/agents/frontdesk")).json()["message"]
    assert told == "There is no agent 'frontdesk'; did you mean 'front-desk'?"
    changed = agent(backend, greeting="Welcome.")
    assert (await client.put("/api/v1/agents/front-desk.json", json=changed)).status_code == 200
