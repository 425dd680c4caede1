"""How long callers wait for a language model's answer, on the real path: `python benchmarks/answer_times.py`.

Backend, Telnyx stand-in, language model stand-in and ElevenLabs stand-in are processes of their own; callers
speak over μ-law, the embedded recogniser hears them. The model's first clause is complete 250 ms after the
request, the voice's first sound comes 120 ms after the text. Two agents that differ in `llm.preemptive` alone
are called in turn by the same callers. Measured on the line: the caller's last audible sample → the agent's
first. The last line is JSON; times are milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from backend.core.percentile import percentile
from backend.evals.verdicts import call_report
from backend.simulator.call_run import Evidence, run_inbound
from backend.simulator.report import Answer
from backend.simulator.stack import Stack, StackConfig

MODEL_MS, VOICE_MS = 250, 120
VOICE_LEAD_MS = 20  # of silence with which the stand-in's voice begins: audio, but nothing to be heard
LIMIT_OWN_MS, LIMIT_P50_MS, LIMIT_GAIN_MS = 40, 800, 150
_REPLY = "We are open today."  # no "s" or "f" first: little of it is to be heard on a telephone
_QUESTIONS = (
    "Are you open today?",
    "When are you open on Saturday?",
    "I would like to know your opening hours, please.",
    "Do I need an appointment for that?",
    "Can I come in this afternoon?",
    "Is there a car park near your clinic?",
    "My daughter has a toothache since yesterday evening.",
    "What does a cleaning cost?",
)
_CALLERS = ((1.18, 1.05), (0.85, 1.0), (1.0, 1.1), (1.1, 0.95), (0.92, 1.15))


def agent(number: str, *, ahead: bool) -> dict[str, Any]:
    name = "ahead" if ahead else "after"
    return {
        "id": name, "name": name, "phone_numbers": [number], "tts_provider": "elevenlabs",
        "elevenlabs_settings": {"voice_id": "21m00Tcm4TlvDq8ikWAM"},
        "llm": {"provider": "openai", "model": "stand-in", "preemptive": ahead},
        "system_prompt": "You are the front desk of a dentist.",
        "greeting": "Hello. How can I help you?",
        "call_flow": {
            "start": "help",
            "nodes": [
                {
                    "id": "help",
                    "prompt": "Answer questions.",
                    "transitions": [{"to": "bye", "when": {"intent": "wants to end the call"}}],
                },
                {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]},
            ],
        },
    }  # fmt: skip


def script(pitch: float, speed: float) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"wait_for": "how can I help"}]
    for number, question in enumerate(_QUESTIONS):
        steps += [
            {"wait_until_quiet": True, "quiet_ms": 600 + 70 * number},
            {"say": question},
            {"wait_for": "we are open today"},
        ]
    return {"voice": {"pitch": pitch, "speed": speed}, "steps": [*steps, {"hang_up": True}]}


@contextlib.asynccontextmanager
async def program(module: str, *arguments: str) -> AsyncIterator[str]:
    """A stand-in as a process of its own; the URL it prints first."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, "--port", "0", *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
        yield line.strip().partition("=")[2]
    finally:
        process.terminate()
        await process.wait()


def answers_of(evidence: Evidence) -> list[Answer]:
    if reason := [event for event in evidence.line["events"] if event["kind"] == "script_failed"]:
        print(f"  a caller gave up: {reason[0]['data']['reason']}", flush=True)
    return list(call_report(evidence).answers)


async def measure(rounds: int) -> dict[str, list[Answer]]:
    numbers = {"after": "+15550100001", "ahead": "+15550100002"}
    found: dict[str, list[Answer]] = {name: [] for name in numbers}
    with tempfile.TemporaryDirectory() as folder:
        agents, rules = Path(folder) / "agents", Path(folder) / "rules.json"
        agents.mkdir()
        for name, number in numbers.items():
            document = agent(number, ahead=name == "ahead")
            (agents / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
        rules.write_text(json.dumps({"first_ms": MODEL_MS, "rules": [{"reply": _REPLY}]}), encoding="utf-8")
        async with (
            program("backend.simulator.llm", "--script", str(rules)) as model_url,
            program(
                "backend.simulator.elevenlabs", "--first-audio-ms", str(VOICE_MS), "--api-key", "k"
            ) as voice_url,
        ):
            settings = {
                "OPENAI_BASE_URL": model_url, "ELEVENLABS_BASE_URL": voice_url, "ELEVENLABS_API_KEY": "k",
                "PROMPTS_MAX_MB": "0",
            }  # fmt: skip
            config = StackConfig(run_dir=Path(folder) / "run", agents_dir=agents, settings=settings)
            async with Stack(config) as stack:
                for turn in range(rounds):
                    pitch, speed = _CALLERS[turn % len(_CALLERS)]
                    for name in sorted(numbers, reverse=bool(turn % 2)):
                        evidence = await run_inbound(
                            stack, to=numbers[name], from_number="+15550100077", script=script(pitch, speed)
                        )
                        answers = answers_of(evidence)
                        found[name] += answers
                        waits = ", ".join(f"{answer.line_ms:.0f}" for answer in answers)
                        print(f"{name}, call {turn + 1}: {waits}", flush=True)
    return found


def figures(answers: list[Answer]) -> dict[str, float]:
    """What the caller lived through, and of what it is made, from their last audible sample on. `own`: what
    is left without the end of the turn (wait and recognition), the model's and the voice's time, and the
    silence with which the voice begins."""
    waits = [answer.line_ms for answer in answers]
    found: dict[str, float] = {"turns": len(answers), "longest": round(max(waits), 1)}
    kinds = {"": waits}
    for name in ("recognised_ms", "turn_ended_ms", "text_ready_ms", "first_frame_ms"):
        kinds[name.removesuffix("ms")] = [
            answer.turn.timings[name] - answer.caller_end_ms
            for answer in answers
            if name in answer.turn.timings
        ]
    kinds["own_"] = [
        answer.agent_start_ms - answer.turn.timings["turn_ended_ms"] - (MODEL_MS + VOICE_MS + VOICE_LEAD_MS)
        for answer in answers
    ]
    for kind, values in kinds.items():
        found[f"{kind}p50"], found[f"{kind}p95"] = (
            round(percentile(values, 50), 1), round(percentile(values, 95), 1),
        )  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help=f"calls of {len(_QUESTIONS)} turns each way")
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    found = asyncio.run(measure(options.rounds))
    results: dict[str, Any] = {name: figures(answers) for name, answers in found.items()}
    for name, values in results.items():
        print(f"{name}: {values}")
    gain = round(results["after"]["p50"] - results["ahead"]["p50"], 1)
    held = {
        "gain_p50": [gain, LIMIT_GAIN_MS, gain >= LIMIT_GAIN_MS],
        "p50": [results["after"]["p50"], LIMIT_P50_MS, results["after"]["p50"] < LIMIT_P50_MS],
        "own_p95": [results["after"]["own_p95"], LIMIT_OWN_MS, results["after"]["own_p95"] <= LIMIT_OWN_MS],
    }
    for name, (value, limit, ok) in held.items():
        print(f"{name}: {value} (limit {limit}) {'held' if ok else 'MISSED'}")
    machine = {
        "cpus": os.cpu_count(), "python": platform.python_version(),
        "load": [round(load_before, 1), round(os.getloadavg()[0], 1)],
    }  # fmt: skip
    print(json.dumps({"benchmark": "answer_times", **machine, **results, "gain_p50": gain}))


if __name__ == "__main__":
    main()
