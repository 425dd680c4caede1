from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backend.core.records import CallRecord, CallRecording, SpokenBy, ToolUse, TurnRecord, TurnTimings
from backend.errors import CarrierError, StorageError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORDER = {"agent_id": "front-desk", "to": "+15550100009"}


def call(number: int, **changes) -> CallRecord:
    values = {
        "id": f"call-{number}",
        "direction": "inbound",
        "agent_id": "front-desk",
        "from_number": "+15550100001",
        "to_number": "+15550100002",
        "state": "in_progress",
        "created_at": NOON + timedelta(seconds=number),
        "call_control_id": f"v3:control-{number}",
    }
    return CallRecord(**{**values, **changes})


async def test_a_call_is_placed(backend, client) -> None:
    order = {**ORDER, "from": "+15550100007", "variables": {"name": "Zoë"}}
    answer = await client.post("/api/v1/calls", json=order)
    assert answer.status_code == 202
    placed = answer.json()
    assert (placed["state"], placed["direction"]) == ("queued", "outbound")
    assert (placed["from"], placed["to"]) == ("+15550100007", "+15550100009")
    assert placed["variables"] == {"name": "Zoë"}
    assert datetime.fromisoformat(placed["created_at"]).utcoffset() == timedelta(0)
    assert answer.headers["location"] == f"/api/v1/calls/{placed['id']}"
    assert (await client.get(answer.headers["location"])).json() == placed


async def test_the_same_key_gives_the_same_call(backend, client) -> None:
    key = {"Idempotency-Key": "order-7"}
    first = (await client.post("/api/v1/calls", json=ORDER, headers=key)).json()
    again = await client.post("/api/v1/calls", json=ORDER, headers=key)
    assert (again.status_code, again.json()) == (202, first)

    other = await client.post("/api/v1/calls", json={**ORDER, "to": "+15550100010"}, headers=key)
    assert (other.status_code, other.json()["error"]) == (409, "idempotency_key_reused")
    assert len(await backend.store.list()) == 1

    long = await client.post("/api/v1/calls", json=ORDER, headers={"Idempotency-Key": "x" * 256})
    assert (long.status_code, long.json()["fields"][0]["field"]) == (422, "idempotency-key")


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({"to": "+15550100009"}, "agent_id", "is missing"),
        ({"agent_id": "front-desk"}, "to", "is missing"),
        ({**ORDER, "to": "5550100009"}, "to", "international form"),
        ({**ORDER, "to": "+1 555 010 0009"}, "to", "international form"),
        ({**ORDER, "to": "+15550100009\n"}, "to", "international form"),
        ({**ORDER, "to": 15550100009}, "to", "string"),
        ({**ORDER, "from": "anonymous"}, "from", "international form"),
        ({**ORDER, "agent": "x"}, "agent", "is not a field of this request"),
        ({**ORDER, "variables": {"name": 7}}, "variables.name", "string"),
        ({**ORDER, "variables": {"bad name": "x"}}, "variables.bad name", "bad name"),
        ({**ORDER, "variables": {"name": "x" * 4001}}, "variables.name", "4000"),
        ([], "", "send a JSON object"),
    ],
)
async def test_bad_orders_name_the_field(backend, client, body, field, said) -> None:
    answer = await client.post("/api/v1/calls", json=body)
    assert answer.status_code == 422
    told = answer.json()
    assert told["error"] == "invalid_request"
    assert told["fields"][0]["field"] == field
    assert said in told["fields"][0]["reason"]
    assert said in told["message"]
    assert backend.manager.orders == []


async def test_bodies_that_are_no_json(backend, client) -> None:
    json_type = {"content-type": "application/json"}
    broken = await client.post("/api/v1/calls", content=b'{"to": ', headers=json_type)
    assert broken.status_code == 422 and "not JSON" in broken.json()["message"]
    binary = await client.post("/api/v1/calls", content=b"\xff\xfe", headers=json_type)
    assert binary.status_code in (400, 422) and set(binary.json()) >= {"error", "message"}
    missing = await client.post("/api/v1/calls")
    assert missing.status_code == 422 and "send a JSON object" in missing.json()["message"]
    # A web page may post a form or plain text anywhere without asking; it is not taken for JSON.
    form = await client.post("/api/v1/calls", content=b'{"agent_id":"front-desk","to":"+15550100009"}',
                             headers={"content-type": "text/plain"})  # fmt: skip
    assert form.status_code == 422 and "application/json" in form.json()["message"]
    assert backend.manager.orders == []


async def test_what_the_calls_refuse_is_told(backend, client) -> None:
    answer = await client.post("/api/v1/calls", json={**ORDER, "agent_id": "nobody"})
    assert answer.status_code == 404
    assert answer.json() == {
        "error": "unknown_agent",
        "message": "There is no agent 'nobody'; known: front-desk.",
    }


async def test_one_call_with_its_turns(backend, client) -> None:
    timings = TurnTimings(
        caller_speech_ended_ms=4000, recognised_ms=4090, first_frame_ms=4600, heard_ms=4655.5
    )
    turns = (
        TurnRecord(0, "caller", "Hello.", "Hello.", 3000, 4000, "hello"),
        TurnRecord(
            1,
            "agent",
            "Good morning!",
            "Good",
            4655.5,
            5000,
            "hello",
            "speech",
            True,
            "sesame_ws",
            timings,
            (SpokenBy("sesame_ws", "Good"), SpokenBy("elevenlabs", "morning!", "closed")),
        ),
        TurnRecord(2, "caller", "12", "12", 6000, 6500, "hello", "dtmf"),
        TurnRecord(3, "agent", "Thanks.", "Thanks.", 7000, 7500, None, "speech", False, "sesame_ws"),
    )
    await backend.store.create(
        call(1, answered_at=NOON, ended_at=NOON + timedelta(seconds=42.5), state="ended", turns=turns)
    )
    for any_id in ("call-1", "v3:control-1"):
        shown = (await client.get(f"/api/v1/calls/{any_id}")).json()
        assert shown["duration_s"] == 42.5
        assert shown["routes"] == ["sesame_ws", "elevenlabs"]
        assert shown["turns"][1]["spoken"] == [
            {"route": "sesame_ws", "text": "Good", "reason": None},
            {"route": "elevenlabs", "text": "morning!", "reason": "closed"},
        ]
        assert shown["turns"][0]["spoken"] == []
        assert [turn["response_ms"] for turn in shown["turns"]] == [None, 655.5, None, None]
        assert shown["turns"][1]["timings"]["recognised_ms"] == 4090
        assert shown["turns"][1]["timings"]["turn_ended_ms"] is None
        assert (shown["turns"][1]["heard_text"], shown["turns"][1]["interrupted"]) == ("Good", True)
        assert shown["turns"][2]["via"] == "dtmf"

    unknown = await client.get("/api/v1/calls/call-9")
    assert (unknown.status_code, unknown.json()["error"]) == (404, "unknown_call")


async def test_one_call_with_what_its_tools_did(backend, client) -> None:
    tools = (
        ToolUse(0, "book", {"day": "Friday", "people": 4}, True, 2000.5, 310.0, "booking"),
        ToolUse(1, "cancel", {}, False, 9000.0, 5000.0, "booking", "cancel did not answer in time."),
    )
    await backend.store.create(call(1, tools=tools))
    shown = (await client.get("/api/v1/calls/call-1")).json()
    assert shown["tools"][0] == {
        "index": 0, "name": "book", "arguments": {"day": "Friday", "people": 4}, "ok": True,
        "at_ms": 2000.5, "took_ms": 310.0, "node_id": "booking", "problem": None,
    }  # fmt: skip
    assert (shown["tools"][1]["ok"], shown["tools"][1]["problem"]) == (
        False,
        "cancel did not answer in time.",
    )
    assert "tools" not in (await client.get("/api/v1/calls")).json()["calls"][0]


async def test_one_call_with_its_recordings(backend, client) -> None:
    recordings = (
        CallRecording("saved", NOON, NOON + timedelta(minutes=1), "dual", {"mp3": "https://b.example/a?s=1"}),
        CallRecording("failed", problem="the carrier did not record: no room", index=1),
    )
    await backend.store.create(call(1, recordings=recordings))
    shown = (await client.get("/api/v1/calls/call-1")).json()["recordings"]
    assert shown[0] == {
        "state": "saved", "started_at": "2026-03-01T12:00:00Z", "ended_at": "2026-03-01T12:01:00Z",
        "channels": "dual", "urls": {"mp3": "https://b.example/a?s=1"}, "problem": None,
    }  # fmt: skip
    assert (shown[1]["state"], shown[1]["urls"], shown[1]["channels"]) == ("failed", {}, None)
    assert "recordings" not in (await client.get("/api/v1/calls")).json()["calls"][0]


async def test_who_answered_is_shown(backend, client) -> None:
    await backend.store.create(call(1, answered_by="machine", voicemail="left"))
    shown = (await client.get("/api/v1/calls/call-1")).json()
    assert (shown["answered_by"], shown["voicemail"]) == ("machine", "left")


async def test_what_a_call_costs_is_shown(backend, client) -> None:
    await backend.store.create(call(1, estimated_usd=0.012))
    await backend.store.update("call-1", billed_usd=0.018, billed_parts={"sip-trunking": 0.018})
    shown = (await client.get("/api/v1/calls/call-1")).json()
    assert shown["cost"] == {
        "estimated_usd": 0.012, "billed_usd": 0.018, "billed_parts": {"sip-trunking": 0.018},
    }  # fmt: skip
    assert (await client.get("/api/v1/calls")).json()["calls"][0]["cost"]["billed_usd"] == 0.018


async def test_calls_are_listed_in_pages(backend, client) -> None:
    for number in range(5):
        direction = "inbound" if number % 2 else "outbound"
        await backend.store.create(
            call(number, direction=direction, state="ended" if number < 3 else "ringing")
        )

    seen, before = [], {}
    while True:
        page = (await client.get("/api/v1/calls", params={"limit": 2, **before})).json()
        seen += [item["id"] for item in page["calls"]]
        if page["next"] is None:
            break
        before = {"before": page["next"]}
    assert seen == [f"call-{number}" for number in (4, 3, 2, 1, 0)]
    assert "turns" not in page["calls"][0]

    async def ids(**query) -> list[str]:
        return [item["id"] for item in (await client.get("/api/v1/calls", params=query)).json()["calls"]]

    assert await ids(state="ended", direction="outbound") == ["call-2", "call-0"]
    assert await ids(agent_id="nobody") == []
    exact = (await client.get("/api/v1/calls", params={"limit": 5})).json()
    assert exact["next"] is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"state": "dead"}, "state"),
    ],
)
async def test_bad_queries_name_the_field(client, query, field) -> None:
    answer = await client.get("/api/v1/calls", params=query)
    assert answer.status_code == 422
    assert answer.json()["fields"][0]["field"] == field


async def test_a_page_before_nothing(client) -> None:
    answer = await client.get("/api/v1/calls", params={"before": "call-9"})
    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")


async def test_acting_on_a_live_call(backend, client) -> None:
    await backend.store.create(call(1))
    at = "/api/v1/calls/v3:control-1"
    requests = [
        ("hangup", None),
        ("transfer", {"to": "+15550100009"}),
        ("transfer", {"to": "sip:desk@example.com"}),
        ("dtmf", {"digits": "12w#*AD"}),
        ("say", {"text": "One moment."}),
        ("say", {"text": "Stop!", "interrupt": True}),
    ]
    for action, body in requests:
        answer = await client.post(f"{at}/{action}", json=body)
        assert answer.status_code == 202
        assert answer.json() == {"id": "v3:control-1", "action": action, "status": "accepted"}
    assert backend.manager.orders == [
        ("hangup", "call-1"),
        ("transfer", "call-1", "+15550100009"),
        ("transfer", "call-1", "sip:desk@example.com"),
        ("dtmf", "call-1", "12w#*AD"),
        ("say", "call-1", "One moment.", False),
        ("say", "call-1", "Stop!", True),
    ]


@pytest.mark.parametrize(
    ("action", "body", "said"),
    [
        ("transfer", {"to": "the desk"}, "to: must be a number"),
        ("transfer", {"to": "sip:no at"}, "to: must be a number"),
        ("dtmf", {"digits": ""}, "digits: must be 1 to 64"),
        ("dtmf", {"digits": "12x"}, "digits: must be"),
        ("dtmf", {"digits": "1" * 65}, "digits: must be"),
        ("dtmf", {"digits": "1\n"}, "digits: must be"),
        ("say", {"text": "   "}, "text: is empty"),
        ("say", {"text": "x" * 4001}, "text: has 4001 characters; at most 4000"),
        ("say", {"text": "x", "loud": True}, "loud: is not a field"),
    ],
)
async def test_bad_actions_are_not_carried_out(backend, client, action, body, said) -> None:
    await backend.store.create(call(1))
    answer = await client.post(f"/api/v1/calls/call-1/{action}", json=body)
    assert answer.status_code == 422
    assert answer.json()["message"].startswith(said)
    assert backend.manager.orders == []


async def test_calls_that_are_not_live(backend, client, gone) -> None:
    await backend.store.create(call(1, state="ended"))
    assert (await client.post("/api/v1/calls/call-1/hangup")).status_code == 409
    assert (await client.post("/api/v1/calls/call-2/hangup")).status_code == 404
    backend.manager.failure = gone
    answer = await client.post("/api/v1/calls/call-1/hangup")
    assert (answer.status_code, answer.json()["error"]) == (409, "call_over")
    assert "already ended" in answer.json()["message"]


async def test_failures_of_others_are_theirs(backend, client) -> None:
    backend.manager.failure = CarrierError(
        "Telnyx did not dial: too many commands.", status=429, code="10011"
    )
    answer = await client.post("/api/v1/calls", json=ORDER)
    assert (answer.status_code, answer.json()["error"]) == (502, "carrier_refused")
    backend.manager.failure = StorageError("The database cannot be used: the disk is full.")
    answer = await client.post("/api/v1/calls", json=ORDER)
    assert (answer.status_code, answer.json()["error"]) == (503, "storage_unavailable")
