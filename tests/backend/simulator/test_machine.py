"""Answering machines at the other end, and what the carrier finds out."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import telnyx

from backend.simulator.line import Utterance
from backend.simulator.machine import MachineDetection, find_out, with_beep
from backend.simulator.script import ScriptError, parse_script
from tests.backend.simulator.conftest import tone

DIAL = {"connection_id": "c1", "from_": "+13125550100", "to": "+13125550142"}
GREETING = [{"say": "we are not at home right now", "beep": True}, {"silent_ms": 20_000}]


def test_the_tone_comes_after_the_words() -> None:
    spoken = Utterance("hm", tone(300), 0, 2400)
    beeping = with_beep(spoken)
    pcm = np.frombuffer(beeping.pcm16, "<i2").astype(int)
    assert len(pcm) == 2400 + 3200 + 4000
    assert np.abs(pcm[2400:5600]).max() == 0
    loudest = np.abs(np.fft.rfft(pcm[5600:])).argmax() / (4000 / 8000)
    assert loudest == pytest.approx(1000, abs=5)
    assert beeping.speech_end == len(pcm)


def test_a_machine_speaks_first() -> None:
    assert parse_script({"machine": True, "steps": GREETING}).machine
    assert not parse_script({"steps": GREETING}).machine
    with pytest.raises(ScriptError, match="begins with its greeting"):
        parse_script({"machine": True, "steps": [{"silent_ms": 1}, *GREETING]})
    with pytest.raises(ScriptError, match="true or false"):
        parse_script({"machine": "yes", "steps": GREETING})


async def told(how: MachineDetection, *, is_machine: bool, beeps: bool = False) -> list[tuple[str, str]]:
    """What is told of somebody who says a few words."""
    spoke, found = asyncio.Event(), list[tuple[str, str]]()
    spoke.set()

    async def happens(event: asyncio.Event, within_s: float) -> bool:
        return event.is_set()

    await find_out(
        how,
        is_machine=is_machine,
        beeps=beeps,
        spoke=spoke,
        happens=happens,
        over=lambda: False,
        tell=lambda event_type, result: found.append((event_type.removeprefix("call.machine."), result)),
    )
    return found


async def test_what_is_told_as_telnyx_tells_it() -> None:
    machine, ended = ("detection.ended", "machine"), "greeting.ended"
    assert await told("greeting_end", is_machine=False) == [("detection.ended", "human")]
    assert await told("premium", is_machine=False) == [("premium.detection.ended", "human_residence")]
    assert await told("detect", is_machine=True, beeps=True) == [machine]
    assert await told("greeting_end", is_machine=True, beeps=True) == [machine, (ended, "beep_detected")]
    assert await told("greeting_end", is_machine=True) == [machine, (ended, "ended")]
    assert await told("detect_words", is_machine=True) == [machine, (ended, "ended")]
    assert await told("detect_beep", is_machine=True) == [machine]
    assert await told("detect_beep", is_machine=True, beeps=True) == [machine, (ended, "beep_detected")]
    assert await told("premium", is_machine=True, beeps=True) == [
        ("premium.detection.ended", "machine"),
        ("premium.greeting.ended", "beep_detected"),
    ]


async def dialled(stand_in: Any, script: dict[str, Any], how: str | None) -> str:
    await stand_in.http.post("/sim/answering", json={"script": script, "answer_after_ms": 0})
    options = {} if how is None else {"answering_machine_detection": how}
    ccid = (await stand_in.sdk.calls.dial(**DIAL, **options)).data.call_control_id
    await stand_in.webhooks.wait("call.answered")
    await stand_in.stream(ccid)
    await (await stand_in.media.accept()).until("start")
    return ccid


async def test_a_machine_is_found_and_its_tone_is_told_after_it(stand_in) -> None:
    ccid = await dialled(stand_in, {"machine": True, "steps": GREETING}, "greeting_end")
    found = (await stand_in.webhooks.wait("call.machine.detection.ended")).payload
    assert (found["result"], found["call_control_id"], found["to"]) == ("machine", ccid, "+13125550142")
    ended = (await stand_in.webhooks.wait("call.machine.greeting.ended")).payload
    assert ended["result"] == "beep_detected"
    await stand_in.sdk.calls.actions.hangup(ccid)
    record = (await stand_in.ended(ccid))["record"]
    (speech,) = [event["data"] for event in record["events"] if event["kind"] == "caller_speech"]
    assert speech["end_ms"] - speech["start_ms"] == 60 * len(GREETING[0]["say"]) + 900  # type: ignore[arg-type]
    parts = (await stand_in.webhooks.wait("call.cost")).payload["cost_parts"]
    assert "answering-machine-detection" in [part["call_part"] for part in parts]


async def test_people_are_people_and_nobody_asked_is_nobody_told(stand_in) -> None:
    steps = {"steps": [{"say": "hello"}, {"silent_ms": 20_000}]}
    first = await dialled(stand_in, steps, "detect")
    found = (await stand_in.webhooks.wait("call.machine.detection.ended")).payload
    assert found["result"] == "human"
    await stand_in.sdk.calls.actions.hangup(first)
    await stand_in.ended(first)
    await stand_in.http.post("/sim/answering", json={"script": steps, "answer_after_ms": 0})
    second = (await stand_in.sdk.calls.dial(**DIAL)).data.call_control_id
    await stand_in.webhooks.wait("call.answered", ccid=second)
    await stand_in.sdk.calls.actions.hangup(second)
    await stand_in.ended(second)
    assert stand_in.webhooks.types().count("call.machine.detection.ended") == 1


async def test_an_unknown_way_of_finding_out_is_refused(stand_in) -> None:
    with pytest.raises(telnyx.APIStatusError) as caught:
        await stand_in.sdk.calls.dial(**DIAL, answering_machine_detection="guess")
    assert caught.value.body["errors"][0]["source"]["pointer"] == "/answering_machine_detection"
