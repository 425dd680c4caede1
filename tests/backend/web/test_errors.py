from __future__ import annotations


async def test_what_is_not_there_is_told(client) -> None:
    answer = await client.get("/api/v1/cals")
    assert answer.status_code == 404
    assert answer.json() == {
        "error": "not_found",
        "message": "There is no GET /api/v1/cals here; /docs lists what there is.",
    }
    answer = await client.delete("/api/v1/calls")
    assert (answer.status_code, answer.json()["error"]) == (405, "method_not_allowed")
    assert "GET" in answer.headers["allow"] or "POST" in answer.headers["allow"]


async def test_a_bug_tells_nothing_of_the_inside(backend, client) -> None:
    backend.manager.failure = RuntimeError("password=hunter2 at line 7")
    answer = await client.post("/api/v1/calls/x/hangup")
    assert answer.status_code == 500
    assert answer.json()["error"] == "internal_error"
    assert "hunter2" not in answer.text and "Traceback" not in answer.text


async def test_the_documentation_describes_failures(client) -> None:
    schema = (await client.get("/openapi.json")).json()
    place = schema["paths"]["/api/v1/calls"]["post"]
    assert {"202", "401", "422"} <= set(place["responses"])
    reference = place["responses"]["422"]["content"]["application/json"]["schema"]["$ref"]
    assert reference.endswith("/ErrorBody")
    assert place["security"]
    fields = schema["components"]["schemas"]["PlaceCall"]["properties"]
    assert set(fields) == {"agent_id", "to", "from", "variables"}
