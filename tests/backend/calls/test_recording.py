"""Recording: by agents and by nodes, refused, told late, twice, before its time, and never in a log."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from backend.calls.ledger import Ledger
from backend.calls.leg import CarrierLeg
from backend.calls.tape import Tape
from backend.core.agent_settings import RecordingSettings
from backend.core.records import CallRecord, CallRecording
from tests.backend.calls.carrier import CCID, REFUSED, Carrier, Counter, House, house
from tests.backend.calls.fakes import MemoryStore, agent, until

URL = "https://bucket.example/rec.mp3?X-Amz-Signature=abc123"
SAVED = {
    "channels": "dual",
    "recording_started_at": "2026-03-01T12:00:00Z",
    "recording_ended_at": "2026-03-01T12:01:00Z",
    "recording_urls": {"mp3": URL},
}


def talker(**extra: Any) -> Any:
    menu = [{"to": "bye", "when": {"digits": "9"}}]
    return agent(
        {"id": "hello", "say": "Press a key.", "transitions": [
            {"to": "on", "when": {"digits": "1"}}, {"to": "off", "when": {"digits": "2"}}, *menu]},
        {"id": "on", "say": "Recording.", "actions": [{"type": "record"}],
         "transitions": [{"to": "hello", "when": {"otherwise": True}}]},
        {"id": "off", "say": "Stopped.", "actions": [{"type": "record", "on": False}],
         "transitions": [{"to": "hello", "when": {"otherwise": True}}]},
        {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]},
        **extra,
    )  # fmt: skip


ALWAYS = {"recording": {"enabled": True, "channels": "single", "format": "wav"}}


def recordings(h: House) -> list[CallRecording]:
    return [item for call in h.store.recordings.values() for _, item in sorted(call.items())]


async def presses(h: House, digit: str) -> None:
    h.carrier.line.hear("dtmf", dtmf={"digit": digit})


async def said_after(h: House, word: str, turns: int) -> None:
    """The agent has said this, and asked anew."""

    def texts() -> list[str]:
        kept = h.store.turns[h.store.only.id]
        return [kept[index].text for index in sorted(kept) if index >= turns]

    await until(lambda: texts()[-1:] == ["Press a key."] and word in " ".join(texts()), word)


async def over(h: House) -> None:
    h.carrier.hang_up()
    await h.calls_over()


async def test_an_agent_that_records_does_so_from_the_answer_on() -> None:
    async with house(talker(**ALWAYS)) as h:
        h.carrier.ring()
        await h.heard("Press a key.")
        await over(h)
        record = h.store.only
        assert h.carrier.last("start_recording") == {
            "channels": "single", "audio_format": "wav", "client_state": record.id,
        }  # fmt: skip
        (begun,) = recordings(h)
        assert (begun.state, begun.channels, begun.urls) == ("started", "single", {})
        h.carrier.tell("call.recording.saved", **SAVED)
        await until(lambda: recordings(h)[0].state == "saved")
    (kept,) = recordings(h)
    assert kept.urls == {"mp3": URL}
    assert (record.call_session_id, record.call_leg_id) == ("session", "leg")


async def test_nodes_switch_it_on_and_off_and_only_once_each() -> None:
    async with house(talker()) as h:
        h.carrier.ring()
        await h.heard("Press a key.")
        assert "start_recording" not in h.carrier.done
        for digit in "11221":
            await presses(h, digit)
            word = {"1": "Recording.", "2": "Stopped."}[digit]
            await said_after(h, word, len(h.store.turns[h.store.only.id]))
        await until(lambda: h.carrier.done.count("start_recording") == 2)
        await over(h)
    done = [name for name in h.carrier.done if "recording" in name]
    assert done == ["start_recording", "stop_recording", "start_recording"]
    assert [item.state for item in recordings(h)] == ["started", "started"]


async def test_a_carrier_that_does_not_record_costs_no_call() -> None:
    async with house(talker(**ALWAYS)) as h:
        h.carrier.refuse["start_recording"] = REFUSED
        h.carrier.ring()
        await h.heard("Press a key.")
        await presses(h, "9")
        await h.calls_over()
    (kept,) = recordings(h)
    assert kept.state == "failed"
    assert kept.problem is not None and "the carrier says no" in kept.problem
    assert h.store.only.state == "ended"
    assert h.store.only.error is None
    assert h.store.spoken()[-1] == ("agent", "Goodbye.")


async def test_a_slow_carrier_delays_no_word_and_holds_up_no_end() -> None:
    async with house(talker(**ALWAYS)) as h:
        h.carrier.gates["start_recording"] = asyncio.Event()
        h.carrier.ring()
        await h.heard("Press a key.")
        await presses(h, "9")
        await h.calls_over()
    assert h.store.spoken()[-1] == ("agent", "Goodbye.")


async def test_a_late_refusal_does_not_hide_that_it_was_switched_on_again() -> None:
    async with asyncio.TaskGroup() as tasks:
        record = CallRecord(
            "call_1", "inbound", "desk", "+1", "+2", "in_progress", datetime.now(UTC), call_control_id=CCID
        )
        carrier, ledger = Carrier(), Ledger(record, MemoryStore(), Counter())
        tape = Tape(CarrierLeg(carrier, ledger), ledger, RecordingSettings(), tasks)
        carrier.gates["start_recording"] = asyncio.Event()
        carrier.refuse["start_recording"] = REFUSED
        tape.switch(True)
        await until(lambda: "start_recording" in carrier.done)
        tape.switch(False)
        tape.switch(True)
        carrier.react["stop_recording"] = lambda: carrier.refuse.clear()
        carrier.gates["start_recording"].set()
        await until(lambda: carrier.done.count("start_recording") == 2)
        tape.switch(False)
        await until(lambda: carrier.done.count("stop_recording") == 2)


async def test_one_that_does_not_stop_stands_in_the_record() -> None:
    async with house(talker(**ALWAYS)) as h:
        h.carrier.refuse["stop_recording"] = REFUSED
        h.carrier.ring()
        await h.heard("Press a key.")
        await presses(h, "2")
        await h.heard("Stopped.")
        await over(h)
    assert h.store.only.error == f"the recording does not stop: {REFUSED}"


@pytest.mark.parametrize("known_by", ["client_state", "leg", "session", "v3:call"])
async def test_word_of_it_finds_its_call_by_whatever_it_names(known_by: str) -> None:
    async with house(talker(**ALWAYS)) as h:
        h.carrier.ring()
        await h.heard("Press a key.")
        await over(h)
        h.carrier.tell_recording(known_by, h.store.only.id, SAVED)
        await until(lambda: recordings(h)[0].state == "saved")


async def test_word_that_comes_during_the_call_twice_and_for_nobody() -> None:
    async with house(talker(**ALWAYS)) as h:
        h.carrier.ring()
        await h.heard("Press a key.")
        h.carrier.tell_recording("nobody", "call_unknown", SAVED)
        h.carrier.tell("call.recording.saved", **SAVED)
        h.carrier.tell("call.recording.saved", **SAVED)
        h.carrier.tell("call.recording.error", reason="Internal server error")
        await until(lambda: len(recordings(h)) == 2)
        await over(h)
    assert [item.state for item in recordings(h)] == ["saved", "failed"]


async def test_a_database_that_is_away_for_a_moment_has_it_after_all() -> None:
    async with house(talker(**ALWAYS)) as h:
        h.carrier.ring()
        await h.heard("Press a key.")
        await over(h)
        h.store.broken = True
        h.carrier.tell("call.recording.saved", **SAVED)
        await until(lambda: h.store.refused)
        h.store.broken = False
        await until(lambda: recordings(h)[0].state == "saved")


async def test_addresses_are_never_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.calls.aftermath._TRIES", 2)
    caplog.set_level(logging.DEBUG)
    async with house(talker(**ALWAYS)) as h:
        h.carrier.ring(CCID)
        await h.heard("Press a key.")
        await over(h)
        h.carrier.tell("call.recording.saved", **SAVED)
        await until(lambda: recordings(h)[0].state == "saved")
        h.carrier.tell_recording("nobody", "call_unknown", SAVED)
        h.store.broken = True
        h.carrier.tell("call.recording.saved", **SAVED)
        await until(lambda: "not in the database" in caplog.text)
    assert "recording saved" in caplog.text
    assert "Signature" not in caplog.text
    assert "bucket.example" not in caplog.text
