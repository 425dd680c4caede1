"""Call Control through the official SDK: what Telnyx does, and how it refuses."""

from __future__ import annotations

import asyncio
import base64

import pytest
import telnyx

from backend.errors import CarrierError
from backend.simulator.carrier_api import CommandMemory
from backend.simulator.media_leg import MediaFaults
from backend.telnyx.control import CallControl


def code(error: telnyx.APIStatusError) -> str:
    [problem] = error.body["errors"]
    assert problem["title"]
    assert problem["detail"]
    return problem["code"]


async def refused(awaitable, status: int, wanted: str) -> None:
    with pytest.raises(telnyx.APIStatusError) as caught:
        await awaitable
    assert (caught.value.status_code, code(caught.value)) == (status, wanted)


DIAL = {"connection_id": "c1", "from_": "+13125550100", "to": "+13125550142"}


async def test_an_incoming_call_is_answered_and_hung_up(stand_in):
    ccid = await stand_in.ring()
    initiated = await stand_in.webhooks.wait("call.initiated")
    assert (
        initiated.payload
        | {
            "call_control_id": ccid,
            "direction": "incoming",
            "state": "parked",
            "from": "+13125550199",
            "to": "+13125550100",
            "client_state": None,
        }
        == initiated.payload
    )
    actions = stand_in.sdk.calls.actions
    assert (await actions.answer(ccid, client_state="YWJj")).data.result == "ok"
    await actions.hangup(ccid)
    hangup = (await stand_in.webhooks.wait("call.hangup")).payload
    assert (hangup["hangup_cause"], hangup["hangup_source"]) == ("normal_clearing", "callee")
    assert hangup["client_state"] == "YWJj"
    assert hangup["call_session_id"] == initiated.payload["call_session_id"]
    cost = (await stand_in.webhooks.wait("call.cost")).payload
    assert float(cost["total_cost"]) > 0
    status = await stand_in.sdk.calls.retrieve_status(ccid)
    assert status.data.is_alive is False


async def test_an_outgoing_call_is_answered_by_the_next_in_line(stand_in):
    answer = await stand_in.http.post(
        "/sim/answering",
        json={"script": {"steps": [{"say": "hello"}]}, "answer_after_ms": 50, "codec": "PCMA"},
    )
    assert answer.status_code == 201
    dialled = (await stand_in.sdk.calls.dial(**DIAL, client_state="YWJj")).data
    initiated = (await stand_in.webhooks.wait("call.initiated")).payload
    assert (initiated["direction"], initiated["client_state"]) == ("outgoing", "YWJj")
    assert initiated["call_leg_id"] == dialled.call_leg_id
    answered = (await stand_in.webhooks.wait("call.answered")).payload
    assert answered["call_control_id"] == dialled.call_control_id
    await refused(stand_in.sdk.calls.actions.answer(dialled.call_control_id), 422, "90102")
    await stand_in.stream(dialled.call_control_id)
    stream = await stand_in.media.accept()
    assert (await stream.until("start"))["start"]["media_format"]["encoding"] == "PCMA"
    await stand_in.http.post(f"/sim/calls/{dialled.call_control_id}/hangup")
    hangup = (await stand_in.webhooks.wait("call.hangup")).payload
    assert hangup["hangup_source"] == "callee"
    types = stand_in.webhooks.types()
    assert types.index("streaming.stopped") < types.index("call.hangup")


async def test_dial_can_bring_its_own_stream(stand_in):
    await stand_in.http.post("/sim/answering", json={"answer_after_ms": 0})
    await stand_in.sdk.calls.dial(**DIAL, stream_url=stand_in.media.url, stream_bidirectional_mode="rtp")
    stream = await stand_in.media.accept()
    await stream.until("media")


@pytest.mark.parametrize(
    ("outcome", "cause", "source"), [("busy", "user_busy", "callee"), ("no_answer", "no_answer", "callee")]
)
async def test_a_dial_that_is_not_answered(stand_in, outcome, cause, source):
    await stand_in.http.post("/sim/answering", json={"outcome": outcome, "answer_after_ms": 30})
    await stand_in.sdk.calls.dial(**DIAL)
    hangup = (await stand_in.webhooks.wait("call.hangup")).payload
    assert (hangup["hangup_cause"], hangup["hangup_source"]) == (cause, source)
    assert "call.answered" not in stand_in.webhooks.types()


async def test_a_dial_given_up_while_it_rings(stand_in):
    await stand_in.http.post("/sim/answering", json={"outcome": "no_answer"})
    ccid = (await stand_in.sdk.calls.dial(**DIAL)).data.call_control_id
    await stand_in.sdk.calls.actions.hangup(ccid)
    hangup = (await stand_in.webhooks.wait("call.hangup")).payload
    assert (hangup["hangup_cause"], hangup["hangup_source"]) == ("originator_cancel", "caller")


async def test_a_rejected_call(stand_in):
    ccid = await stand_in.ring()
    await stand_in.sdk.calls.actions.reject(ccid, cause="USER_BUSY")
    hangup = (await stand_in.webhooks.wait("call.hangup")).payload
    assert hangup["hangup_cause"] == "user_busy"
    await refused(stand_in.sdk.calls.actions.answer(ccid), 422, "90018")


async def test_commands_out_of_turn_are_refused_with_telnyxs_codes(stand_in):
    actions = stand_in.sdk.calls.actions
    await refused(actions.answer("v3:unknown"), 404, "10005")
    ccid = await stand_in.ring()
    await refused(stand_in.stream(ccid), 422, "90034")
    await refused(actions.speak(ccid, payload="x", voice="female"), 422, "90034")
    await actions.answer(ccid)
    await refused(actions.answer(ccid), 422, "10015")
    await refused(actions.stop_streaming(ccid), 422, "90048")
    await stand_in.stream(ccid)
    await refused(stand_in.stream(ccid), 422, "90045")
    await actions.stop_streaming(ccid)
    await stand_in.stream(ccid)
    await actions.hangup(ccid)
    await refused(actions.hangup(ccid), 422, "90018")
    await refused(stand_in.stream(ccid), 422, "90018")


async def test_bad_parameters_are_refused(stand_in):
    actions = stand_in.sdk.calls.actions
    await refused(stand_in.sdk.calls.dial(**{**DIAL, "to": "5550142"}), 422, "10016")
    await refused(stand_in.sdk.calls.dial(**DIAL, timeout_secs=1), 422, "10015")
    await refused(stand_in.sdk.calls.dial(**DIAL, client_state="not base64!"), 422, "10015")
    ccid = await stand_in.ring()
    await actions.answer(ccid)
    await refused(stand_in.stream(ccid, stream_url="http://x/"), 422, "10003")
    await refused(stand_in.stream(ccid, stream_track="all"), 422, "10015")
    await refused(stand_in.stream(ccid, stream_bidirectional_codec="G722"), 422, "10015")
    await refused(actions.reject(ccid, cause="BORED"), 422, "10015")
    await refused(actions.send_dtmf(ccid, digits="12x"), 422, "10015")
    await refused(actions.transfer(ccid, to="nobody"), 422, "10016")
    missing = await stand_in.http.post("/v2/calls", json={"to": "+13125550142"})
    assert missing.json()["errors"][0]["code"] == "10004"
    not_json = await stand_in.http.post("/v2/calls", content=b"{")
    assert (not_json.status_code, not_json.json()["errors"][0]["code"]) == (400, "10023")


async def test_a_repeated_command_has_one_effect_and_one_answer(stand_in):
    first = await stand_in.sdk.calls.dial(**DIAL, command_id="same")
    second = await stand_in.sdk.calls.dial(**DIAL, command_id="same")
    other = await stand_in.sdk.calls.dial(**DIAL, command_id="other")
    assert first.data.call_control_id == second.data.call_control_id != other.data.call_control_id
    ccid = await stand_in.ring()
    for _ in range(3):
        await stand_in.sdk.calls.actions.answer(ccid, command_id="answer")
    for _ in range(2):
        await stand_in.sdk.calls.actions.hangup(ccid, command_id="hangup")
    await stand_in.ended(ccid)
    assert len([one for one in stand_in.webhooks.received if one.payload["call_control_id"] == ccid]) == 4


def test_a_command_is_remembered_for_60_s_unless_it_was_refused():
    memory, runs = CommandMemory(), []

    def command():
        runs.append(1)
        if len(runs) == 1:
            raise ValueError
        return {"n": len(runs)}

    with pytest.raises(ValueError):
        memory.run("call", "id", 0.0, command)
    assert [memory.run("call", "id", at, command)["n"] for at in (1.0, 60.9, 61.1)] == [2, 2, 3]
    assert memory.run("another call", "id", 61.2, command) == {"n": 4}
    assert memory.run("call", None, 61.3, command) == memory.run("call", None, 61.3, lambda: {"n": 5})


async def test_the_bearer_key_is_checked_where_one_is_set(start):
    async with start(api_key="right", faults=MediaFaults()) as stand_in:
        await refused(stand_in.sdk.calls.dial(**DIAL), 401, "10009")
        sdk = stand_in.sdk.with_options(api_key="right")
        assert (await sdk.calls.dial(**DIAL)).data.call_control_id


async def test_the_backend_s_check_of_a_key_finds_a_wrong_one(start):
    async with start(api_key="right") as stand_in:
        for key in ("right", "wrong"):
            control = CallControl(
                api_key=key, base_url=str(stand_in.sdk.base_url).rstrip("/"), connection_id="c", timeout_s=5
            )
            try:
                if key == "right":
                    await control.check()
                else:
                    with pytest.raises(CarrierError, match="TELNYX_API_KEY") as caught:
                        await control.check()
                    assert caught.value.status == 401
            finally:
                await control.aclose()


async def test_keys_sent_by_the_agent_are_on_record(stand_in):
    ccid = await stand_in.ring()
    await stand_in.sdk.calls.actions.answer(ccid)
    await stand_in.sdk.calls.actions.send_dtmf(ccid, digits="1w2#")
    await stand_in.sdk.calls.actions.hangup(ccid)
    events = (await stand_in.ended(ccid))["record"]["events"]
    assert [one["data"] for one in events if one["kind"] == "dtmf"] == [
        {"digit": digit, "by": "agent"} for digit in "12#"
    ]


async def test_a_transfer_bridges_to_a_new_leg_and_the_caller_says_goodbye(stand_in):
    ccid, _ = await stand_in.answered()
    await stand_in.sdk.calls.actions.transfer(ccid, to="+13125550177", target_leg_client_state="YWJj")
    await stand_in.webhooks.wait("call.bridged", ccid=ccid)
    legs = [one for one in stand_in.webhooks.received if one.payload["call_control_id"] != ccid]
    assert {one.payload["client_state"] for one in legs} == {"YWJj"}
    call = await stand_in.ended(ccid)
    assert [one["data"] for one in call["record"]["events"] if one["kind"] == "transfer"] == [
        {"to": "+13125550177"}
    ]
    assert call["hangup_source"] == "caller"


async def test_client_state_is_carried_by_later_events_only(stand_in):
    ccid = await stand_in.ring()
    state = base64.b64encode(b"mine").decode()
    await stand_in.sdk.calls.actions.answer(ccid, client_state=state)
    await stand_in.stream(ccid, stream_url="ws://127.0.0.1:9/")
    failed = await stand_in.webhooks.wait("streaming.failed")
    assert failed.payload["client_state"] == state
    assert (await stand_in.webhooks.wait("call.initiated")).payload["client_state"] is None


async def test_many_calls_at_once(stand_in):
    ccids = await asyncio.gather(*(stand_in.ring() for _ in range(20)))
    await asyncio.gather(*(stand_in.sdk.calls.actions.answer(ccid) for ccid in ccids))
    await asyncio.gather(*(stand_in.stream(ccid) for ccid in ccids))
    streams = [await stand_in.media.accept() for _ in ccids]
    await asyncio.gather(*(stream.until("media", count=10) for stream in streams))
    await asyncio.gather(*(stand_in.sdk.calls.actions.hangup(ccid) for ccid in ccids))
    await asyncio.gather(*(stream.until_closed() for stream in streams))
    assert {call["state"] for call in (await stand_in.http.get("/sim/calls")).json()["calls"]} <= {
        "ended",
        "answered",
    }


async def test_what_the_person_says_is_told_once_transcription_was_asked_for(stand_in):
    ccid, _ = await stand_in.answered({"silent_ms": 300}, {"say": "hello there"}, {"silent_ms": 5000})
    actions = stand_in.sdk.calls.actions
    await refused(actions.stop_transcription(ccid), 422, "10015")
    config = {
        "transcription_engine": "deepgram/nova-3",
        "transcription_model": "deepgram/nova-3",
        "interim_results": True,
    }
    await actions.start_transcription(
        ccid, transcription_engine="Deepgram", transcription_engine_config=config
    )
    await refused(actions.start_transcription(ccid, transcription_engine="Telnyx"), 422, "10015")
    await stand_in.webhooks.wait("call.transcription", count=2)
    told = [
        one.payload["transcription_data"]
        for one in stand_in.webhooks.received
        if one.type == "call.transcription"
    ]
    assert [(one["transcript"], one["is_final"]) for one in told] == [
        ("hello there", False),
        ("hello there", True),
    ]
    await actions.stop_transcription(ccid)
    await actions.hangup(ccid)


async def test_transcription_of_the_wrong_leg_or_by_an_unknown_engine_is_refused(stand_in):
    actions = stand_in.sdk.calls.actions
    ccid = await stand_in.ring()
    await refused(actions.start_transcription(ccid, transcription_engine="Telnyx"), 422, "90034")
    await actions.answer(ccid)
    await refused(actions.start_transcription(ccid, transcription_engine="Ear"), 422, "10015")
    await refused(actions.start_transcription(ccid, transcription_tracks="outbound"), 422, "10015")
