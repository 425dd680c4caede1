"""Calls from first ring to last row, on a carrier and a database in memory."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import Any

import pytest

from backend.calls.hearing.listener import Listener
from backend.calls.ports import CallParts
from backend.core.agent import Agent
from backend.core.records import CallRecord, TurnRecord
from backend.core.sentences import pieces
from backend.errors import CallGone, RequestError, SpeechError
from tests.backend.calls.carrier import CALLED, CALLER, CCID, REFUSED, House, house
from tests.backend.calls.fakes import Script, ScriptedRoute, agent, now_ms, takes_ms, tone, until

ASK = agent(
    {
        "id": "ask",
        "say": "Shall we?",
        "transitions": [
            {"to": "bye", "when": {"digits": "1"}},
            {"to": "move", "when": {"digits": "2"}},
        ],
    },
    {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]},
    {"id": "move", "say": "One moment.", "actions": [{"type": "transfer", "to": "+15552223333"}]},
    greeting="Hello {{caller_number}}.",
)
HELLO = f"Hello {CALLER}."
SPOKEN_HELLO = pieces(HELLO)[0].spoken
HELLO_MS = takes_ms(SPOKEN_HELLO)
QUESTION = f"{HELLO} Shall we?"
NAMED = agent(
    {"id": "bye", "say": "Hello {{name}}.", "actions": [{"type": "hangup"}]}, variables={"name": None}
)
SPEECH_FAILURE = SpeechError("nobody there", route="scripted", reason="unreachable")


def place(house_: House, talker: Agent = ASK, **changes: Any) -> Any:
    request: dict[str, Any] = {
        "agent_id": talker.id,
        "to": "+15553334444",
        "from_number": None,
        "variables": {},
        "idempotency_key": None,
    }
    return house_.manager.place_call(**{**request, **changes})


def moves(house_: House) -> list[str]:
    return [now for _, now in house_.counter.moves]


async def key(house_: House, digit: str) -> None:
    house_.carrier.line.hear("dtmf", dtmf={"digit": digit})


@pytest.fixture
def quick_to_reconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.core.call.LOST_MEDIA_S", 0.1)


# --- inbound -------------------------------------------------------------------------------------------


async def test_an_inbound_call_from_ring_to_row() -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        assert h.store.only.state == "in_progress"
        assert h.manager.live_calls == 1
        await key(h, "1")
        await h.calls_over()
    assert h.carrier.done == ["answer", "start_streaming", "hangup"]
    record = h.store.only
    assert (record.direction, record.agent_id, record.state) == ("inbound", "tester", "ended")
    assert (record.from_number, record.to_number) == (CALLER, CALLED)
    assert (record.call_control_id, record.call_session_id) == (CCID, "session")
    assert (record.hangup_cause, record.hangup_source) == ("normal_clearing", "callee")
    assert record.answered_at is not None
    assert record.ended_at is not None
    assert record.created_at <= record.answered_at <= record.ended_at
    assert record.error is None
    assert record.variables["caller_number"] == CALLER
    assert h.store.spoken() == [("agent", QUESTION), ("caller", "1"), ("agent", "Goodbye.")]
    assert moves(h) == ["ringing", "answered", "in_progress", "ended"]
    assert len(h.counter.turns) == 2


async def test_the_day_is_that_of_the_agents_time_zone() -> None:
    days = {}
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):  # 25 hours apart: never the same day
        async with house(ASK.model_copy(update={"timezone": zone})) as h:
            h.carrier.ring()
            await h.says("Shall we?")
            h.carrier.hang_up()
            await h.calls_over()
        days[zone] = h.store.only.variables["now_weekday"]
    assert len(set(days.values())) == 2


async def test_an_agent_that_names_no_time_zone_has_that_of_the_settings() -> None:
    days = set()
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        async with house(ASK, timezone=zone) as h:
            h.carrier.ring()
            await h.says("Shall we?")
            h.carrier.hang_up()
            await h.calls_over()
        days.add(h.store.only.variables["now_weekday"])
    assert len(days) == 2


async def test_a_caller_without_a_number_is_answered_and_has_none_on_record() -> None:
    async with house(ASK) as h:
        h.carrier.tell("call.initiated", CCID, direction="incoming", **{"from": None, "to": CALLED})
        await h.says("Shall we?")
        h.carrier.hang_up()
        await h.calls_over()
    assert h.store.only.from_number == ""
    assert h.store.only.variables["caller_number"] == ""


async def test_whoever_sees_that_a_call_is_over_sees_all_of_it() -> None:
    async with house(ASK) as h:
        seen: list[tuple[object, ...]] = []
        store_update = h.store.update

        async def update(call_id: str, **changes: object) -> CallRecord:
            record = await store_update(call_id, **changes)
            if record.state == "ended":
                seen.append((h.store.spoken(), record.variables.get("caller_number"), record.estimated_usd))
            return record

        h.store.update = update  # type: ignore[method-assign]
        h.carrier.ring()
        await h.heard(QUESTION)
        await key(h, "1")
        await h.calls_over()
    turns, number, estimated_usd = seen[0]
    assert turns == [("agent", QUESTION), ("caller", "1"), ("agent", "Goodbye.")]
    assert number == CALLER
    assert estimated_usd is not None


async def test_streaming_is_asked_for_with_a_secret_address() -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        asked = h.carrier.last("start_streaming")
        assert re.fullmatch(r"wss://example\.test/media/[\w-]{32,}", asked["stream_url"])
        assert len(asked["auth_token"]) >= 32
        assert asked["auth_token"] not in asked["stream_url"]
        assert asked["codec"] == "PCMU"


async def test_a_number_no_agent_has_is_rejected_and_on_record() -> None:
    async with house(ASK) as h:
        h.carrier.ring(to="+15557770000")
        await until(lambda: h.store.calls)
        assert h.manager.live_calls == 0
    assert h.carrier.commands == [("reject", CCID, {"cause": "NOT_FOUND"})]
    record = h.store.only
    assert (record.state, record.hangup_cause) == ("failed", "rejected")
    assert record.error is not None
    assert "+15557770000" in record.error
    assert "phone_numbers" in record.error


async def test_a_full_house_is_busy() -> None:
    async with house(ASK, max_calls=1) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        h.carrier.ring("v3:second")
        await until(lambda: "reject" in h.carrier.done)
        assert h.carrier.last("reject") == {"cause": "USER_BUSY"}
        with pytest.raises(RequestError) as caught:
            await place(h)
        assert caught.value.status == 503
        await key(h, "1")
        await h.calls_over()
        h.carrier.ring("v3:third")
        await until(lambda: h.carrier.done.count("answer") == 2, "a place is free again")


async def test_a_rejection_that_fails_is_on_record_all_the_same() -> None:
    async with house(ASK) as h:
        h.carrier.refuse["reject"] = REFUSED
        h.carrier.ring(to="+15557770000")
        await until(lambda: h.store.calls)
    assert h.store.only.state == "failed"


@pytest.mark.parametrize("event", ["call.initiated", "call.answered"])
async def test_an_event_delivered_twice_counts_once(event: str) -> None:
    async with house(ASK) as h:
        payload = {"direction": "incoming", "from": CALLER, "to": CALLED}
        first = h.carrier.event("call.initiated", **payload)
        assert h.manager.accept_event(first)
        assert not h.manager.accept_event(first)
        await h.heard(QUESTION)
        h.carrier.tell(event, **payload)  # the same again, under another id
        await key(h, "1")
        await h.calls_over()
        h.carrier.tell(event, **payload)
        h.carrier.tell("call.hangup", hangup_cause="late")
    assert h.carrier.done == ["answer", "start_streaming", "hangup"]
    assert h.store.only.hangup_cause == "normal_clearing"


async def test_events_nobody_knows_are_harmless() -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        for event_type in ("call.cost", "call.bridged", "streaming.started", "call.dtmf.received", "x.y"):
            h.carrier.tell(event_type)
            h.carrier.tell(event_type, "v3:unknown")
        h.manager.accept_event(h.carrier.event("call.initiated", "", direction="incoming"))
        h.carrier.tell("call.dtmf.received", digit="1")
        await h.calls_over()


async def test_a_key_told_by_socket_and_by_webhook_is_one_key() -> None:
    two = agent(
        {"id": "ask", "say": "Shall we?", "transitions": [{"to": "bye", "when": {"digits": "11"}}]},
        {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]},
    )
    async with house(two) as h:
        h.carrier.ring()
        await h.heard("Shall we?")
        await key(h, "1")
        h.carrier.tell("call.dtmf.received", digit="1")
        h.carrier.tell("call.dtmf.received", digit="1")
        await key(h, "1")
        await h.calls_over()
    assert ("caller", "11") in h.store.spoken()


# --- the caller hangs up in the middle of anything -----------------------------------------------------


async def test_hung_up_before_we_heard_of_it() -> None:
    async with house(ASK) as h:
        h.carrier.hang_up(cause="originator_cancel")
        h.carrier.ring()
        await until(lambda: h.store.calls)
        h.carrier.ring()
    assert h.carrier.done == []
    record = h.store.only
    assert (record.state, record.hangup_cause, record.hangup_source) == (
        "ended",
        "originator_cancel",
        "caller",
    )
    assert record.ended_at is not None


async def test_hung_up_while_it_rings() -> None:
    async with house(ASK) as h:
        h.carrier.gates["answer"] = asyncio.Event()
        h.carrier.ring()
        await until(lambda: "answer" in h.carrier.done)
        h.carrier.hang_up(cause="originator_cancel")
        h.carrier.gates["answer"].set()
        await h.calls_over()
    assert h.carrier.done == ["answer"]
    assert (h.store.only.state, h.store.only.hangup_cause) == ("ended", "originator_cancel")


async def test_hung_up_right_after_the_answer() -> None:
    async with house(ASK) as h:
        h.carrier.react["answer"] = lambda: (h.carrier.tell("call.answered"), h.carrier.hang_up())
        h.carrier.ring()
        await h.calls_over()
    assert h.store.only.hangup_cause == "normal_clearing"
    assert h.carrier.lines == []


async def test_hung_up_as_the_media_starts_leaves_the_right_state() -> None:
    async with house(ASK) as h:
        h.carrier.react["start_streaming"] = lambda: None
        h.carrier.ring()
        await until(lambda: "start_streaming" in h.carrier.done)
        asked = h.carrier.last("start_streaming")
        h.store.gate.clear()
        h.carrier.connect(asked["stream_url"].rsplit("/", 1)[1], asked["auth_token"])
        await h.says(SPOKEN_HELLO)
        h.carrier.hang_up()
        h.store.gate.set()
        await h.calls_over()
    assert (h.store.only.state, h.store.only.hangup_cause) == ("ended", "normal_clearing")


async def test_a_media_socket_that_starts_after_the_end_begins_no_talk() -> None:
    async with house(ASK) as h:
        h.carrier.react["start_streaming"] = lambda: None
        h.carrier.ring()
        await until(lambda: h.store.calls and h.store.only.state == "answered")
        asked = h.carrier.last("start_streaming")
        line = h.carrier.connect(asked["stream_url"].rsplit("/", 1)[1], asked["auth_token"], start=False)
        assert line is not None
        h.store.gate.clear()  # the end takes long to store
        h.carrier.tell("call.hangup", hangup_cause="normal_clearing", hangup_source="caller")
        await asyncio.wait([asyncio.create_task(asyncio.sleep(0.02))])
        line.start()
        await asyncio.wait([asyncio.create_task(asyncio.sleep(0.02))])
        h.store.gate.set()
        await h.calls_over()
    assert h.route.asked == []


async def test_hung_up_while_the_agent_speaks_keeps_what_was_heard() -> None:
    long = "One two three four five six."
    talker = agent({"id": "ask", "say": long, "listen": True})
    async with house(talker, route=ScriptedRoute({long: Script([tone(3000)])})) as h:
        h.carrier.ring()
        await until(lambda: h.carrier.lines and h.carrier.line.audio_ms >= 600)
        await asyncio.wait([asyncio.create_task(asyncio.sleep(0.2))])
        h.carrier.hang_up()
        await h.calls_over()
    ((role, heard),) = h.store.spoken()
    assert role == "agent"
    assert long.startswith(heard)
    assert heard not in ("", long)
    turn = h.store.turns[h.store.only.id][0]
    assert turn.interrupted
    assert h.carrier.done == ["answer", "start_streaming"], "nothing is commanded of a call that is over"


async def test_hung_up_while_the_voice_is_asked() -> None:
    never = asyncio.Event()
    async with house(ASK, route=ScriptedRoute({SPOKEN_HELLO: Script([never])})) as h:
        h.carrier.ring()
        await h.says(SPOKEN_HELLO)
        h.carrier.hang_up()
        await h.calls_over()
        assert h.route.scripts[SPOKEN_HELLO].state == "cancelled"


async def test_hung_up_while_actions_are_carried_out() -> None:
    async with house(ASK) as h:
        h.carrier.gates["transfer"] = asyncio.Event()
        h.carrier.ring()
        await h.heard(QUESTION)
        await key(h, "2")
        await until(lambda: "transfer" in h.carrier.done)
        h.carrier.hang_up()
        await h.calls_over()
    assert h.store.only.hangup_cause == "normal_clearing"


async def test_a_hang_up_event_that_never_comes_does_not_keep_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backend.core.call.CallMachine.patience_s", property(lambda self: 0.1))
    async with house(ASK) as h:
        h.carrier.ring()
        await until(lambda: h.manager.live_calls == 1)
        h.carrier.react["hangup"] = lambda: None
        await h.manager.hangup(CCID)
        await h.calls_over()
    assert h.store.only.hangup_cause == "no_hangup_event"


# --- the carrier refuses -------------------------------------------------------------------------------


async def test_an_answer_the_carrier_refuses_ends_the_call() -> None:
    async with house(ASK) as h:
        h.carrier.refuse["answer"] = REFUSED
        h.carrier.ring()
        await h.calls_over()
    assert h.carrier.done == ["answer", "hangup"]
    assert h.store.only.error is not None
    assert "the carrier says no" in h.store.only.error


async def test_media_that_cannot_start_is_tried_again_then_given_up() -> None:
    async with house(ASK) as h:
        h.carrier.react["start_streaming"] = lambda: h.carrier.tell("streaming.failed", failure_reason="x")
        h.carrier.ring()
        await h.calls_over()
    assert h.carrier.done == ["answer", *["start_streaming"] * 3, "hangup"]
    tokens = [what["stream_url"] for name, _, what in h.carrier.commands if name == "start_streaming"]
    assert len(set(tokens)) == 3


async def test_a_refused_hang_up_does_not_keep_the_call() -> None:
    async with house(ASK) as h:
        h.carrier.refuse["hangup"] = REFUSED
        h.carrier.ring()
        await h.heard(QUESTION)
        await key(h, "1")
        await h.calls_over()
    assert h.store.only.hangup_cause == "hangup_failed"
    assert h.store.only.error is not None


async def test_a_leg_we_cannot_decode_is_hung_up_with_a_reason() -> None:
    async with house(ASK) as h:
        h.carrier.react["start_streaming"] = lambda: None
        h.carrier.ring()
        await until(lambda: "start_streaming" in h.carrier.done)
        asked = h.carrier.last("start_streaming")
        line = h.carrier.connect(asked["stream_url"].rsplit("/", 1)[1], asked["auth_token"], start=False)
        assert line is not None
        line.start("AMR-WB")
        await h.calls_over()
    assert h.carrier.done[-1] == "hangup"
    assert h.store.only.error is not None
    assert "AMR-WB" in h.store.only.error


# --- media sockets -------------------------------------------------------------------------------------


async def test_a_token_is_right_used_once_and_the_header_must_fit() -> None:
    async with house(ASK) as h:
        h.carrier.react["start_streaming"] = lambda: None
        h.carrier.ring()
        await until(lambda: "start_streaming" in h.carrier.done)
        asked = h.carrier.last("start_streaming")
        token, auth = asked["stream_url"].rsplit("/", 1)[1], asked["auth_token"]
        for wrong in ("", "x", token[:-1], token + "x", "ü" * 10):
            assert h.manager.claim_media(wrong, auth) is None
        assert h.manager.claim_media(token, "wrong") is None
        assert h.manager.claim_media(token, "") is None
        assert h.carrier.connect(token, auth) is not None, "a wrong guess does not use it up"
        assert h.manager.claim_media(token, auth) is None, "a second time"
        await h.heard(QUESTION)
        await key(h, "1")
        await h.calls_over()
        assert h.manager.claim_media(token, auth) is None


async def test_the_token_of_a_call_that_ended_is_void() -> None:
    async with house(ASK) as h:
        h.carrier.react["start_streaming"] = lambda: None
        h.carrier.ring()
        await until(lambda: "start_streaming" in h.carrier.done)
        asked = h.carrier.last("start_streaming")
        h.carrier.hang_up()
        await h.calls_over()
        assert h.manager.claim_media(asked["stream_url"].rsplit("/", 1)[1], asked["auth_token"]) is None


@pytest.mark.usefixtures("quick_to_reconnect")
async def test_a_lost_media_socket_is_asked_for_again_and_the_talk_goes_on() -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        h.carrier.line.drop()
        await until(lambda: len(h.carrier.lines) == 2, "a second socket")
        assert h.manager.live_calls == 1
        await key(h, "1")
        await h.calls_over()
        assert h.carrier.lines[0].closed.is_set()
    assert h.carrier.done == ["answer", "start_streaming", "start_streaming", "hangup"]
    assert h.store.spoken()[1:] == [("caller", "1"), ("agent", "Goodbye.")]
    assert moves(h)[-4:] == ["in_progress", "answered", "in_progress", "ended"]
    assert h.store.only.answered_at is not None


@pytest.mark.usefixtures("quick_to_reconnect")
async def test_a_media_socket_that_takes_nothing_any_more_is_replaced() -> None:
    # So long that there is more to send when the socket breaks, however late this is noticed here.
    async with house(ASK, route=ScriptedRoute({"Shall we?": Script([tone(4000)])})) as h:
        h.carrier.ring()
        await until(lambda: h.carrier.lines and h.carrier.line.audio_ms > HELLO_MS + 160)
        h.carrier.line.broken = True  # but not closed: it says nothing of it
        await until(lambda: len(h.carrier.lines) == 2, "a second socket")
        h.route.scripts["Shall we?"] = Script([tone(40)])
        await h.heard("Shall we?")
        await until(h.carrier.lines[0].closed.is_set, "the first one is closed")


async def test_a_media_socket_lost_because_of_a_hang_up_keeps_the_true_cause() -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        h.carrier.over.add(CCID)
        h.carrier.line.drop()
        await until(lambda: h.carrier.lines[0].closed.is_set())
        h.carrier.tell("call.hangup", hangup_cause="user_busy", hangup_source="caller")
        await h.calls_over()
    assert h.carrier.done == ["answer", "start_streaming"]
    assert (h.store.only.hangup_cause, h.store.only.error) == ("user_busy", None)


@pytest.mark.usefixtures("quick_to_reconnect")
async def test_restarting_media_of_a_call_that_is_gone_waits_for_the_true_cause() -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        h.carrier.over.add(CCID)
        h.carrier.line.drop()
        await until(lambda: h.carrier.done.count("start_streaming") == 2)
        h.carrier.tell("call.hangup", hangup_cause="user_busy", hangup_source="caller")
        await h.calls_over()
    assert (h.store.only.hangup_cause, h.store.only.error) == ("user_busy", None)
    assert "hangup" not in h.carrier.done


async def test_frames_that_make_no_sense_end_nothing() -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        line = h.carrier.line
        line._inbound.put_nowait("not json")
        line.hear("media", media={"payload": "???"})
        line.hear("media", media={"payload": base64.b64encode(b"\xff" * 160).decode(), "chunk": "1"})
        line.hear("mark", mark={"name": "0:end:99"})
        line.hear("error", payload={"code": 100003, "detail": "malformed"})
        line.hear("surprise")
        await key(h, "1")
        await h.calls_over()


# --- the voice fails -----------------------------------------------------------------------------------


async def test_a_voice_that_is_down_is_apologised_for_in_the_carriers_own() -> None:
    route = ScriptedRoute()
    route.failure = SPEECH_FAILURE
    async with house(ASK, route=route) as h:
        h.carrier.ring()
        await h.calls_over()
    assert h.carrier.done == ["answer", "start_streaming", "speak", "hangup"]
    assert "sorry" in h.carrier.last("speak")["text"]
    assert h.carrier.last("speak")["language"] == "en-US"
    assert h.store.only.error is not None
    assert "nobody there" in h.store.only.error
    assert h.store.only.state == "ended"
    # Nobody may see the call over and not why.
    first_over = next(changes for changes in h.store.updates if changes.get("state") == "ended")
    assert first_over["error"] == h.store.only.error


async def test_an_apology_the_carrier_refuses_is_not_waited_for() -> None:
    route = ScriptedRoute({SPOKEN_HELLO: Script([SPEECH_FAILURE])})
    async with house(ASK, route=route) as h:
        h.carrier.refuse["speak"] = REFUSED
        h.carrier.ring()
        await h.calls_over()
    assert h.carrier.done[-1] == "hangup"


async def test_a_caller_who_hangs_up_during_the_apology() -> None:
    async with house(ASK, route=ScriptedRoute({SPOKEN_HELLO: Script([SPEECH_FAILURE])})) as h:
        h.carrier.react["speak"] = lambda: None
        h.carrier.ring()
        await until(lambda: "speak" in h.carrier.done)
        h.carrier.hang_up()
        await h.calls_over()
    assert "hangup" not in h.carrier.done


async def test_a_bug_in_the_talk_ends_the_call_politely_and_is_on_record(
    caplog: pytest.LogCaptureFixture,
) -> None:
    route = ScriptedRoute({"Shall we?": Script([ZeroDivisionError("a bug")])})
    async with house(ASK, route=route) as h:
        h.carrier.ring()
        await h.calls_over()
    assert h.carrier.done == ["answer", "start_streaming", "speak", "hangup"]
    assert h.store.only.error is not None
    assert "a bug" in h.store.only.error
    assert h.store.spoken()[0][0] == "agent"
    assert "a bug" in caplog.text


async def test_a_voice_that_is_back_when_the_call_is_answered_speaks() -> None:
    route = ScriptedRoute()
    route.failure = SPEECH_FAILURE
    async with house(ASK, route=route) as h:
        h.carrier.gates["answer"] = asyncio.Event()
        h.carrier.ring()
        await until(lambda: h.routes and h.routes[0].connects, "tried while it rang")
        h.routes[0].failure = None
        h.carrier.gates["answer"].set()
        await h.heard(QUESTION)


# --- the database fails --------------------------------------------------------------------------------


async def test_a_database_that_is_down_all_along_costs_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.calls.ledger._STORE_TRIES", 2)
    monkeypatch.setattr("backend.calls.talking.recorder._TRIES", 2)
    async with house(ASK) as h:
        h.store.broken = True
        h.carrier.ring()
        await until(lambda: h.carrier.lines and h.carrier.line.audio_ms > 0)
        h.carrier.hang_up()
        await h.calls_over()
    assert h.store.calls == {}


async def test_a_database_that_comes_back_has_the_call_after_all() -> None:
    async with house(ASK) as h:
        h.store.broken = True
        h.carrier.ring()
        await until(lambda: h.carrier.lines and h.carrier.line.audio_ms > 0)
        h.store.broken = False
        await h.heard(QUESTION)
        await key(h, "1")
        await h.calls_over()
    record = h.store.only
    assert (record.state, record.call_control_id, record.hangup_cause) == ("ended", CCID, "normal_clearing")
    assert record.answered_at is not None
    assert h.store.spoken()[0] == ("agent", QUESTION)


async def test_a_database_that_fails_in_the_middle_misses_nothing_in_the_end() -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        h.store.broken = True
        await key(h, "1")
        await until(lambda: "hangup" in h.carrier.done)
        h.store.broken = False
        await h.calls_over()
    assert (h.store.only.state, h.store.only.hangup_cause) == ("ended", "normal_clearing")
    assert h.store.spoken()[-1] == ("agent", "Goodbye.")


async def test_a_slow_database_does_not_keep_the_agent_from_speaking() -> None:
    async with house(ASK) as h:
        h.carrier.gates["answer"] = asyncio.Event()
        h.carrier.ring()
        await until(lambda: h.store.calls)
        h.store.gate.clear()
        h.carrier.gates["answer"].set()
        await h.says("Shall we?")
        h.store.gate.set()
        await h.heard(QUESTION)


async def test_an_outbound_call_that_cannot_be_stored_is_not_placed() -> None:
    async with house(ASK) as h:
        h.store.broken = True
        with pytest.raises(RequestError) as caught:
            await place(h)
        assert caught.value.status == 503
        h.store.broken = False
    assert h.carrier.done == []


# --- outbound ------------------------------------------------------------------------------------------


async def test_an_outbound_call_from_request_to_row() -> None:
    async with house(ASK) as h:
        record: CallRecord = await place(h, variables={"x": "y"})
        assert (record.state, record.direction, record.call_control_id) == ("queued", "outbound", None)
        await until(lambda: h.store.only.call_control_id == CCID)
        assert h.carrier.last("dial") == {
            "to": "+15553334444",
            "from_": "+15550002222",
            "client_state": record.id,
            "machine_detection": None,
        }
        h.carrier.tell("call.answered")
        await h.heard("Hello +15553334444. Shall we?")
        assert h.store.only.state == "in_progress"
        await key(h, "1")
        await h.calls_over()
    assert h.carrier.done == ["dial", "start_streaming", "hangup"]
    assert h.store.only.variables["x"] == "y"
    assert h.store.only.state == "ended"


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"agent_id": "nobody"}, 404, "unknown_agent"),
        ({"to": "5551234"}, 400, "bad_number"),
        ({"to": "+1555123456７"}, 400, "bad_number"),
        ({"to": "+15551234567\n"}, 400, "bad_number"),
        ({"to": "sip:me@example.com"}, 400, "bad_number"),
        ({"from_number": "me"}, 400, "bad_number"),
    ],
)
async def test_a_request_that_cannot_be_served_says_why(
    changes: dict[str, Any], status: int, code: str
) -> None:
    async with house(ASK) as h:
        with pytest.raises(RequestError) as caught:
            await place(h, **changes)
        assert (caught.value.status, caught.value.code) == (status, code)
    assert h.carrier.done == []
    assert h.store.calls == {}


async def test_a_variable_that_every_call_must_give() -> None:
    async with house(NAMED) as h:
        with pytest.raises(RequestError, match="name"):
            await place(h, NAMED)
        await place(h, NAMED, variables={"name": "Ada"})
        await until(lambda: "dial" in h.carrier.done)


async def test_a_refused_dial_is_a_failed_call() -> None:
    async with house(ASK) as h:
        h.carrier.refuse["dial"] = REFUSED
        await place(h)
        await h.calls_over()
    record = h.store.only
    assert (record.state, record.hangup_cause) == ("failed", "dial_failed")
    assert record.error is not None
    assert "+15553334444" in record.error
    assert h.carrier.done == ["dial"]


async def test_busy_at_the_other_end() -> None:
    async with house(ASK) as h:
        await place(h)
        await until(lambda: h.store.only.call_control_id)
        h.carrier.hang_up(cause="user_busy", source="callee")
        await h.calls_over()
    assert (h.store.only.state, h.store.only.hangup_cause) == ("ended", "user_busy")


async def test_events_that_overtake_the_reply_to_the_dial() -> None:
    async with house(ASK) as h:
        h.carrier.gates["dial"] = asyncio.Event()
        record: CallRecord = await place(h)
        await until(lambda: "dial" in h.carrier.done)
        state = base64.b64encode(record.id.encode()).decode()
        h.carrier.tell("call.initiated", direction="outgoing", client_state=state)
        h.carrier.tell("call.answered", client_state=state)
        await h.heard("Hello +15553334444. Shall we?")
        h.carrier.gates["dial"].set()
        await until(lambda: h.store.only.call_control_id == CCID)
        assert h.store.only.state == "in_progress"
        await key(h, "1")
        await h.calls_over()
    assert h.carrier.done == ["dial", "start_streaming", "hangup"]


async def test_an_outbound_call_over_before_the_reply_to_the_dial() -> None:
    async with house(ASK) as h:
        h.carrier.gates["dial"] = asyncio.Event()
        record: CallRecord = await place(h)
        await until(lambda: "dial" in h.carrier.done)
        state = base64.b64encode(record.id.encode()).decode()
        h.carrier.over.add(CCID)
        h.carrier.tell(
            "call.hangup", client_state=state, hangup_cause="call_rejected", hangup_source="callee"
        )
        await h.calls_over()
        h.carrier.gates["dial"].set()
        await until(lambda: h.store.only.call_control_id == CCID)
    assert (h.store.only.state, h.store.only.hangup_cause) == ("ended", "call_rejected")


async def test_a_hang_up_before_the_dial_is_answered_hangs_up_what_was_dialled() -> None:
    async with house(ASK) as h:
        h.carrier.gates["dial"] = asyncio.Event()
        record: CallRecord = await place(h)
        await until(lambda: "dial" in h.carrier.done)
        await h.manager.hangup(record.id)
        await asyncio.wait([asyncio.create_task(asyncio.sleep(0.02))])
        assert h.carrier.done == ["dial"]
        h.carrier.gates["dial"].set()
        await h.calls_over()
    assert h.carrier.done == ["dial", "hangup"]
    assert h.store.only.state == "ended"


async def test_the_same_key_again_is_the_same_call() -> None:
    async with house(ASK) as h:
        first = await place(h, idempotency_key="k1")
        again = await place(h, idempotency_key="k1")
        other = await place(h, idempotency_key="k2")
        assert first.id == again.id != other.id
        await until(lambda: h.carrier.done.count("dial") == 2)
        assert h.manager.live_calls == 2


# --- acting on calls -----------------------------------------------------------------------------------


@pytest.mark.parametrize("by_ours", [True, False])
async def test_hang_up_by_either_id(by_ours: bool) -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        await h.manager.hangup(h.store.only.id if by_ours else CCID)
        await h.calls_over()
        with pytest.raises(RequestError) as caught:
            await h.manager.hangup(CCID)
        assert caught.value.status == 409
        with pytest.raises(RequestError) as caught:
            await h.manager.hangup("nonsense")
        assert caught.value.status == 404
    assert h.carrier.done.count("hangup") == 1


async def test_say_on_request() -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        await h.manager.say(CCID, "By the way.", interrupt=False)
        await h.heard("By the way.")


async def test_nothing_can_be_said_nor_done_before_the_line_is_up() -> None:
    async with house(ASK) as h:
        h.carrier.gates["answer"] = asyncio.Event()
        h.carrier.ring()
        await until(lambda: h.manager.live_calls)
        for act in (
            h.manager.say(CCID, "Hello?", interrupt=False),
            h.manager.send_dtmf(CCID, "1"),
            h.manager.transfer(CCID, "+15552223333"),
        ):
            with pytest.raises(RequestError) as caught:
                await act
            assert (caught.value.status, caught.value.code) == (409, "not_in_progress")
        h.carrier.hang_up()
        h.carrier.gates["answer"].set()


async def test_keys_on_request_and_refused() -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        await h.manager.send_dtmf(CCID, "12#")
        assert h.carrier.last("send_dtmf") == {"digits": "12#"}
        h.carrier.refuse["send_dtmf"] = REFUSED
        with pytest.raises(RequestError) as caught:
            await h.manager.send_dtmf(CCID, "1")
        assert caught.value.status == 502
        h.carrier.refuse["send_dtmf"] = CallGone("over", status=422, code="90018")
        with pytest.raises(RequestError) as caught:
            await h.manager.send_dtmf(CCID, "1")
        assert caught.value.status == 409


async def test_a_transfer_by_the_flow_leaves_the_call_to_the_carrier() -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        await key(h, "2")
        await until(lambda: "transfer" in h.carrier.done)
        assert h.carrier.last("transfer") == {"to": "+15552223333"}
        h.carrier.line.drop()
        await until(lambda: h.carrier.line.closed.is_set())
        with pytest.raises(RequestError):
            await h.manager.say(CCID, "Are you there?", interrupt=False)
        h.carrier.hang_up(source="callee")
        await h.calls_over()
    assert h.carrier.done == ["answer", "start_streaming", "transfer"]
    assert h.store.only.hangup_source == "callee"


async def test_a_transfer_on_request_falls_silent_in_mid_sentence() -> None:
    async with house(ASK, route=ScriptedRoute({"Shall we?": Script([tone(3000)])})) as h:
        h.carrier.ring()
        await until(lambda: h.carrier.lines and h.carrier.line.audio_ms >= 200, "some of the sentence")
        await h.manager.transfer(CCID, "+15552223333")
        await until(lambda: h.carrier.line.kinds[-1] == "clear", "silence")
        await until(lambda: h.store.turns, "what was heard on record")
        h.carrier.hang_up()
        await h.calls_over()
    assert h.carrier.done == ["answer", "start_streaming", "transfer"]


async def test_what_was_heard_is_kept_when_the_end_comes_while_it_falls_silent() -> None:
    async with house(ASK, route=ScriptedRoute({"Shall we?": Script([tone(3000)])})) as h:
        h.carrier.ring()
        await until(lambda: h.carrier.lines and h.carrier.line.audio_ms >= HELLO_MS + 560)
        cleared = h.carrier.line.hold("clear")
        await h.manager.transfer(CCID, "+15552223333")
        await cleared.asked.wait()
        h.carrier.hang_up()
        await until(lambda: "ended" in moves(h))
        cleared.granted.set()
        await h.calls_over()
    assert h.store.spoken()[0][1].startswith(HELLO)


async def test_a_transfer_on_request_that_fails_lets_the_talk_go_on() -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        h.carrier.refuse["transfer"] = REFUSED
        with pytest.raises(RequestError):
            await h.manager.transfer(CCID, "+15552223333")
        with pytest.raises(RequestError, match="neither a number"):
            await h.manager.transfer(CCID, "my aunt")
        await key(h, "1")
        await h.calls_over()
    assert h.store.spoken()[-1] == ("agent", "Goodbye.")


async def test_a_transfer_by_the_flow_that_fails_is_told_and_ends_the_call() -> None:
    async with house(ASK) as h:
        h.carrier.refuse["transfer"] = REFUSED
        h.carrier.ring()
        await h.heard(QUESTION)
        await key(h, "2")
        await h.calls_over()
    assert "could not connect" in h.store.spoken()[-1][1]
    assert h.carrier.done[-1] == "hangup"
    assert h.store.only.error is not None


async def test_the_longest_call_is_ended() -> None:
    talker = ASK.model_copy(update={"limits": ASK.limits.model_copy(update={"max_call_seconds": 0.3})})
    async with house(talker) as h:
        h.carrier.ring()
        await h.calls_over()
    assert h.carrier.done[-1] == "hangup"
    assert h.store.spoken()[-1] == ("agent", "I'm sorry, our time is up. Please call again. Goodbye.")


async def test_the_longest_call_ends_even_where_no_voice_says_goodbye() -> None:
    limits = ASK.limits.model_copy(update={"max_call_seconds": 0.3, "goodbye": "Time is up."})
    async with house(ASK.model_copy(update={"limits": limits})) as h:
        h.route.scripts["Time is up."] = Script([SpeechError("gone", route="sesame_ws", reason="closed")])
        h.carrier.ring()
        await h.calls_over()
    assert h.carrier.done[-1] == "hangup"
    assert (h.store.only.state, h.store.only.error) == ("ended", None)


@pytest.mark.parametrize("asked_by", ["flow", "API"])
async def test_the_longest_call_does_not_end_while_it_is_being_transferred(asked_by: str) -> None:
    limits = ASK.limits.model_copy(update={"max_call_seconds": HELLO_MS / 1000 + 0.6})
    async with house(ASK.model_copy(update={"limits": limits})) as h:
        h.carrier.gates["transfer"] = asyncio.Event()
        h.carrier.ring()
        await h.heard(QUESTION)
        asking = None
        if asked_by == "flow":
            await key(h, "2")
        else:
            asking = asyncio.create_task(h.manager.transfer(CCID, "+15552223333"))
        await until(lambda: "transfer" in h.carrier.done)
        await the_limit_is_past(h)
        h.carrier.gates["transfer"].set()
        if asking is not None:
            await asking
        h.carrier.line.drop()
        await until(lambda: h.carrier.line.closed.is_set())
        await until(lambda: "conversation" not in {task.get_name() for task in asyncio.all_tasks()})
        h.carrier.hang_up(source="callee")
        await h.calls_over()
    assert h.carrier.done == ["answer", "start_streaming", "transfer"]
    assert "time is up" not in h.store.spoken()[-1][1]


async def test_the_longest_call_ends_when_its_last_transfer_fails() -> None:
    limits = ASK.limits.model_copy(update={"max_call_seconds": HELLO_MS / 1000 + 0.6})
    async with house(ASK.model_copy(update={"limits": limits})) as h:
        h.carrier.gates["transfer"], h.carrier.refuse["transfer"] = asyncio.Event(), REFUSED
        h.carrier.ring()
        await h.heard(QUESTION)
        await key(h, "2")
        await the_limit_is_past(h)
        h.carrier.gates["transfer"].set()
        await h.calls_over()
    assert h.carrier.done == ["answer", "start_streaming", "transfer", "hangup"]
    assert h.store.spoken()[-1][1].startswith("I'm sorry, our time is up.")


async def the_limit_is_past(house_: House) -> None:
    """That of a call which may last 0.6 s after the greeting."""
    first_ms = house_.carrier.line.at_ms[0]
    await until(lambda: now_ms() > first_ms + HELLO_MS + 800)


@pytest.mark.parametrize("bug", ["in the listener", "in a task of the call's"])
async def test_a_bug_in_taking_a_talk_apart_costs_the_call_not_its_end(
    bug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails() -> None:
        raise RuntimeError("bug")

    async def last_words(listener: Listener) -> None:
        if bug == "in the listener":
            raise RuntimeError("bug")
        listener._tasks.create_task(fails())
        await asyncio.Event().wait()

    monkeypatch.setattr(Listener, "last_words", last_words)
    monkeypatch.setattr("backend.calls.ledger._TURNS_S", 0.2)  # a bug in one task ends that which writes them
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        h.carrier.hang_up()
        await h.calls_over()
    record = h.store.only
    assert (record.state, record.hangup_source) == ("ended", "caller")
    assert record.ended_at is not None and record.estimated_usd is not None
    if bug == "in the listener":
        assert record.error == "internal error: RuntimeError('bug')"


# --- shutdown ------------------------------------------------------------------------------------------


async def test_shutdown_hangs_up_what_lives_and_stores_it() -> None:
    async with house(ASK, route=ScriptedRoute({"Shall we?": Script([tone(3000)])})) as h:
        h.carrier.ring()
        await h.says("Shall we?")
        await until(lambda: h.carrier.line.audio_ms >= HELLO_MS + 560)
    assert h.carrier.done[-1] == "hangup"
    record = h.store.only
    assert (record.state, record.hangup_source) == ("ended", "backend")
    assert record.ended_at is not None
    assert h.store.spoken()[0][1].startswith(HELLO)


async def test_shutdown_leaves_a_caller_to_whom_they_were_transferred() -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        await h.manager.transfer(CCID, "+15552223333")
    assert h.carrier.done == ["answer", "start_streaming", "transfer"]
    record = h.store.only
    assert (record.state, record.hangup_cause, record.hangup_source) == ("ended", "transferred", None)


async def test_a_call_whose_end_is_being_stored_is_over() -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        h.store.gate.clear()
        h.carrier.hang_up()
        await until(lambda: "ended" in moves(h))
        for order in (
            h.manager.hangup(CCID),
            h.manager.transfer(CCID, "+15552223333"),
            h.manager.send_dtmf(CCID, "1"),
            h.manager.say(CCID, "Hello?", interrupt=True),
        ):
            with pytest.raises(RequestError, match="is ended") as caught:
                await order
            assert (caught.value.status, caught.value.code) == (409, "call_over")
        h.store.gate.set()
        await h.calls_over()
    assert h.carrier.done == ["answer", "start_streaming"]


async def test_shutdown_while_the_end_of_a_call_is_being_stored_lets_it_be_stored() -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        h.store.gate.clear()
        h.carrier.hang_up()
        await until(lambda: "ended" in moves(h))
        asyncio.get_running_loop().call_later(0.05, h.store.gate.set)
    record = h.store.only
    assert (record.state, record.hangup_source) == ("ended", "caller")
    assert record.estimated_usd is not None


async def test_shutdown_stores_the_end_before_turns_that_a_slow_database_takes_its_time_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backend.calls.ledger._HURRIED_TURNS_S", 60.0)
    async with house(ASK) as h:
        ended = asyncio.Event()
        add_turn, store_update = h.store.add_turn, h.store.update

        async def late(call_id: str, turn: TurnRecord) -> None:
            await ended.wait()
            await add_turn(call_id, turn)

        async def update(call_id: str, **changes: object) -> CallRecord:
            record = await store_update(call_id, **changes)
            if record.state == "ended":
                ended.set()
            return record

        h.store.add_turn, h.store.update = late, update  # type: ignore[method-assign]
        h.carrier.ring()
        await h.says("Shall we?")
    assert h.store.only.state == "ended"
    assert h.store.spoken()[0][0] == "agent"


async def test_shutdown_while_it_rings_and_while_it_dials() -> None:
    async with house(ASK) as h:
        h.carrier.gates = {"answer": asyncio.Event(), "dial": asyncio.Event()}
        h.carrier.ring("v3:inbound")
        await place(h)
        await until(lambda: {"answer", "dial"} <= set(h.carrier.done))
        asyncio.get_running_loop().call_later(0.05, h.carrier.gates["dial"].set)
    hung_up = [ccid for name, ccid, _ in h.carrier.commands if name == "hangup"]
    assert sorted(hung_up) == [CCID, "v3:inbound"], "the telephone we dialled must not ring for nobody"
    assert {call.state for call in h.store.calls.values()} == {"ended"}


async def test_shutdown_with_a_carrier_that_is_down_ends_all_the_same() -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        h.carrier.refuse["hangup"] = REFUSED
    assert h.store.only.state == "ended"


async def test_a_call_that_comes_while_shutting_down_is_turned_away() -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await h.heard(QUESTION)
        h.carrier.react["hangup"] = lambda: h.carrier.ring("v3:late")
    assert h.carrier.last("reject") == {"cause": "USER_BUSY"}
    assert h.carrier.tell("call.initiated", direction="incoming"), "after the end: acknowledged, ignored"


async def test_shutdown_while_new_calls_are_being_stored_waits_for_neither() -> None:
    async with house(ASK) as h:
        h.carrier.ring()
        await until(lambda: h.store.calls)
        h.store.gate.clear()
        h.carrier.ring("v3:second")
        placing = asyncio.create_task(place(h))
        await until(lambda: h.manager.live_calls == 2)
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, h.store.gate.set)
    placed = await placing
    assert "dial" not in h.carrier.done
    assert {call.state for call in h.store.calls.values()} == {"ended", "failed"}
    assert h.store.calls[placed.id].state == "failed"


async def test_a_talk_that_cannot_begin_ends_the_call_at_once() -> None:
    def broken(agent: Agent) -> None:
        raise RuntimeError("a bug")

    async with house(ASK, language_model=broken) as h:
        h.carrier.ring()
        await h.calls_over()
    assert h.carrier.done == ["answer", "start_streaming", "hangup"]
    assert h.store.only.state == "ended"
    assert h.store.only.error == "internal error: RuntimeError('a bug')"


# --- health --------------------------------------------------------------------------------------------


async def test_the_state_of_the_voices_is_what_calls_met() -> None:
    async with house(ASK) as h:
        assert h.board.health() == []
        h.carrier.ring()
        await h.heard(QUESTION)
        (up,) = h.board.health()
        assert (up.name, up.state) == ("sesame_ws", "up")
        assert up.first_audio_ms is not None


def test_the_parts_are_plain_values() -> None:
    assert {"carrier", "store", "transcriber"} <= set(CallParts.__slots__)
