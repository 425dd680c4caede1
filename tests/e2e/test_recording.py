"""A recorded call, whole: told to record, recorded, told where it lies when the call is over, and fetched."""

from __future__ import annotations

import asyncio
import io
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np

from backend.simulator.call_run import run_inbound
from backend.simulator.stack import Stack, StackConfig

NUMBER, CALLER = "+15550100031", "+15550100077"
AGENT = {
    "id": "recorded",
    "name": "Recorded",
    "phone_numbers": [NUMBER],
    "recording": {"enabled": True, "channels": "dual", "format": "wav"},
    "call_flow": {
        "start": "wish",
        "nodes": [
            {"id": "wish", "say": "What would you like?", "transitions": [
                {"to": "secret", "when": {"keywords": ["table"]}}]},
            {"id": "secret", "say": "One moment, please.", "actions": [{"type": "record", "on": False}],
             "transitions": [{"to": "bye", "when": {"otherwise": True}}]},
            {"id": "bye", "say": "Goodbye, and thank you very much for calling us today.",
             "actions": [{"type": "hangup"}]},
        ],
    },
}  # fmt: skip


async def saved(stack: Stack, call_id: str) -> dict[str, Any]:
    """The call's only recording, once it is saved; the sleep only spaces the questions."""
    while True:
        (recording,) = (await stack.backend.get(f"/api/v1/calls/{call_id}")).json()["recordings"]
        if recording["state"] != "started":
            return dict(recording)
        await asyncio.sleep(0.05)


async def test_a_recording_is_in_the_calls_record_and_can_be_heard(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "recorded.json").write_text(json.dumps(AGENT))
    script = {
        "steps": [
            {"wait_for": "what would you like"},
            {"say": "I would like a table for two, please."},
            {"wait_for": "goodbye"},
        ]
    }
    config = StackConfig(run_dir=tmp_path / "run", agents_dir=tmp_path / "agents")
    async with asyncio.timeout(150), Stack(config) as stack:
        evidence = await run_inbound(stack, to=NUMBER, from_number=CALLER, script=script)
        recording = await saved(stack, evidence.call["id"])
        assert (recording["state"], recording["channels"], recording["problem"]) == ("saved", "dual", None)
        sound = (await stack.carrier.get(recording["urls"]["wav"])).content
    with wave.open(io.BytesIO(sound)) as file:
        assert file.getnchannels() == 2
        stereo = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2).astype(int)
    assert np.abs(stereo[:, 0]).max() > 1000, "the caller is on it"
    assert np.abs(stereo[:, 1]).max() > 1000, "the agent is on it"
    assert len(stereo) < evidence.line["duration_ms"] * 8 - 8000, "not what was said after it was stopped"
    logs = "".join(path.read_text(errors="replace") for path in (tmp_path / "run").rglob("*.log"))
    assert logs
    assert "signature=" not in logs
