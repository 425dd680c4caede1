"""Outbound calls that a machine or a person answers, whole: found out, and dealt with."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from backend.simulator.call_run import Evidence, run_outbound
from backend.simulator.stack import Stack, StackConfig
from backend.simulator.wordcount import word_errors
from tests.words import errors_within

MESSAGE = "This is Willow Clinic. Please call us back tomorrow."
AGENT = {
    "id": "caller",
    "name": "Caller",
    "voicemail": {"detect": True, "message": MESSAGE},
    "call_flow": {
        "start": "hello",
        "nodes": [
            {"id": "hello", "say": "Hello, would you like to confirm your appointment?", "transitions": [
                {"to": "bye", "when": {"keywords": ["yes"]}}]},
            {"id": "bye", "say": "Thank you. Goodbye.", "actions": [{"type": "hangup"}]},
        ],
    },
}  # fmt: skip
MACHINE = {
    "machine": True,
    "steps": [
        {"say": "You have reached Ann Smith. Please leave a message after the tone.", "beep": True},
        {"wait_until_quiet": True, "quiet_ms": 6000, "timeout_ms": 40_000},
        {"hang_up": True},
    ],
}
PERSON = {"steps": [{"wait_for": "appointment"}, {"say": "Yes, I would."}, {"wait_for": "goodbye"}]}


def events(evidence: Evidence, kind: str) -> list[dict[str, Any]]:
    return [event["data"] for event in evidence.line["events"] if event["kind"] == kind]


async def test_a_machine_is_left_the_message_and_a_person_is_talked_to(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "caller.json").write_text(json.dumps(AGENT))
    config = StackConfig(run_dir=tmp_path / "run", agents_dir=tmp_path / "agents")

    def call(stack: Stack, script: dict[str, Any], number: str) -> Any:
        return run_outbound(stack, agent_id="caller", to=number, variables={}, script=script)

    async with asyncio.timeout(150), Stack(config) as stack:
        machine = await call(stack, MACHINE, "+15550100041")
        person = await call(stack, PERSON, "+15550100042")

    told = {name: machine.call[name] for name in ("answered_by", "voicemail", "state", "error")}
    assert told == {"answered_by": "machine", "voicemail": "left", "state": "ended", "error": None}
    assert machine.call["hangup_source"] == "caller"
    (greeting,) = events(machine, "caller_speech")
    on_tape = [
        speech for speech in events(machine, "agent_speech") if speech["start_ms"] > greeting["end_ms"]
    ]
    errors = word_errors(MESSAGE, " ".join(speech["text"] for speech in on_tape))
    # Heard twice or by half it would be more; the ear makes other names of Willow.
    assert errors.rate < 0.5, f"once, and whole: {errors.differences()}"
    before = [speech for speech in events(machine, "agent_speech") if speech not in on_tape]
    assert all(errors_within("Please call us back tomorrow.", speech["text"]) >= 3 for speech in before)

    assert (person.call["answered_by"], person.call["voicemail"]) == ("human", None)
    assert [turn["node_id"] for turn in person.call["turns"]][-1] == "bye"
