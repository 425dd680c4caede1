"""A caller who is cut off and goes on, end to end: their sound, the ears, the flow, the voice, the record."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from backend.simulator.call_run import run_inbound
from backend.simulator.stack import Stack, StackConfig
from tests.words import errors_within

NUMBER, CALLER = "+15550100031", "+15550100077"
AGENT = {
    "id": "hasty",
    "name": "Hasty",
    "phone_numbers": [NUMBER],
    "turns": {"end_of_turn_ms": 100},
    "call_flow": {
        "start": "ask",
        "nodes": [
            {
                "id": "ask",
                "say": "What can I do for you?",
                "transitions": [{"to": "both", "when": {"regex": "question.*appointment"}}],
            },
            {"id": "both", "say": "I got both. Goodbye.", "actions": [{"type": "hangup"}]},
        ],
    },
}
SCRIPT = {
    "steps": [
        {"wait_for": "what can I do for you"},
        {"silent_ms": 800},
        {"say": "I have a question."},
        {"silent_ms": 750},
        {"say": "It is about my appointment."},
        {"wait_for": "goodbye"},
    ]
}


async def test_both_halves_of_what_a_caller_says_are_one_answer(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "hasty.json").write_text(json.dumps(AGENT))
    config = StackConfig(run_dir=tmp_path / "run", agents_dir=tmp_path / "agents")
    async with asyncio.timeout(150), Stack(config) as stack:
        evidence = await run_inbound(stack, to=NUMBER, from_number=CALLER, script=SCRIPT)
    turns = evidence.call["turns"]
    said = [turn["text"] for turn in turns if turn["role"] == "caller"]
    assert len(said) == 2, said
    assert errors_within("I have a question", said[0]) <= 1, said
    assert errors_within("about my appointment", said[1]) <= 1, said
    assert turns[-1]["node_id"] == "both", turns
    heard = [turn["heard_text"] for turn in turns if turn["role"] == "agent"]
    assert not any(text.endswith("catch that.") for text in heard), heard
    assert evidence.call["hangup_source"] != "caller"
