"""Whole calls through the real system: three processes, real sockets, spoken words, nothing pretended.

Asserts what is right and wrong; speed is the demo's and the benchmarks' business, since tests share machines.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import wave
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from backend.recorded import APOLOGY
from backend.simulator.call_run import Evidence, run_inbound, run_outbound
from backend.simulator.outcome import judge
from backend.simulator.report import Expected
from backend.simulator.sample_scripts import read_script
from backend.simulator.stack import BACKEND_NUMBER, Stack, StackConfig, StackError
from backend.simulator.wordcount import word_errors

ROOT = Path(__file__).parents[2]
AGENTS = ROOT / "agents"
CALLER = "+15550100077"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    config = StackConfig(run_dir=tmp_path_factory.mktemp("stack"), agents_dir=AGENTS)
    async with Stack(config) as stack:
        yield stack


async def get(stack: Stack, path: str) -> dict[str, Any]:
    reply = await stack.backend.get(f"/api/v1{path}")
    assert reply.status_code == 200, reply.text
    document: dict[str, Any] = reply.json()
    return document


async def until(what: Callable[[], Any], *, within_s: float = 10.0) -> None:
    """Ask until it holds; the sleep only spaces the questions."""
    async with asyncio.timeout(within_s):
        while True:
            if await what():
                return
            await asyncio.sleep(0.05)


async def nothing_lives(stack: Stack) -> None:
    async def idle() -> bool:
        return (await get(stack, "/health"))["live_calls"] == 0

    await until(idle)


def kinds(evidence: Evidence) -> list[str]:
    return [event["kind"] for event in evidence.line["events"]]


def script(*steps: Mapping[str, Any]) -> dict[str, Any]:
    return {"steps": list(steps)}


async def test_calls_in_both_directions_and_both_codecs_at_once(stack: Stack) -> None:
    human = read_script("wants-a-human")
    reminder = {"name": "Maria", "appointment_day": "Tuesday", "appointment_time": "ten o'clock"}
    async with asyncio.timeout(150), asyncio.TaskGroup() as calls:
        european = calls.create_task(
            run_inbound(stack, to=BACKEND_NUMBER, from_number=CALLER, script=human, codec="PCMA")
        )
        outbound = calls.create_task(
            run_outbound(
                stack, agent_id="reminder", to="+15550100042", variables=reminder,
                script=read_script("reminder-confirm"),
            )
        )  # fmt: skip
    inbound_report = judge(
        european.result(), Expected(("how_can_i_help", "human"), ends="transfer", answers=False)
    )
    outbound_report = judge(
        outbound.result(), Expected(("who_is_there", "remind", "confirmed"), ends="agent", answers=False)
    )
    assert inbound_report.broken() == ()
    assert inbound_report.codec == "PCMA"
    assert inbound_report.ending == "transferred to +15550100099"
    assert [turn.via for turn in inbound_report.caller_turns] == ["speech"]
    assert outbound_report.broken() == ()
    assert outbound.result().call["direction"] == "outbound"
    assert all(answer.line_ms > 0 for answer in (*inbound_report.answers, *outbound_report.answers))
    await nothing_lives(stack)


async def test_the_api_s_page_needs_no_other_server(stack: Stack) -> None:
    parts = re.findall(r'(?:src|href)="([^"]+)"', (await stack.backend.get("/docs")).text)
    assert len(parts) >= 3
    for part in parts:
        assert (await stack.backend.get(part)).status_code == 200, part


async def test_an_interrupted_agent_falls_silent_and_only_what_was_heard_is_kept(stack: Stack) -> None:
    steps = script(
        {"interrupt_after_ms": 1_200, "say": "I want to talk to a real person, please."},
        {"wait_for": "connect you"},
    )
    evidence = await run_inbound(stack, to=BACKEND_NUMBER, from_number=CALLER, script=steps)
    report = judge(evidence, Expected(("how_can_i_help", "human"), interruptions=1, ends="transfer"))
    first = report.agent_turns[0]
    assert first.interrupted
    assert first.text.startswith(first.heard_text)
    assert 0 < len(first.heard_text) < len(first.text)
    assert len(report.barge_ins) == 1
    assert [
        verdict.name for verdict in report.broken() if verdict.name.startswith(("gaps", "the flow"))
    ] == []


async def test_a_caller_who_hangs_up_in_mid_sentence_leaves_nothing_behind(stack: Stack) -> None:
    steps = script({"interrupt_after_ms": 600, "say": "Oh."}, {"hang_up": True})
    evidence = await run_inbound(stack, to=BACKEND_NUMBER, from_number=CALLER, script=steps)
    assert evidence.call["state"] == "ended"
    assert evidence.call["hangup_source"] == "caller"
    assert evidence.call["ended_at"] is not None
    assert evidence.call["error"] is None
    await nothing_lives(stack)
    stored = await get(stack, f"/calls/{evidence.call['id']}")
    agent = [turn for turn in stored["turns"] if turn["role"] == "agent"]
    assert agent, "what the agent had said before the caller hung up is lost"
    assert len(agent[0]["heard_text"]) < len(agent[0]["text"])


async def test_a_caller_who_gives_up_while_it_rings_leaves_nothing_behind(stack: Stack) -> None:
    order = {"to": BACKEND_NUMBER, "from": CALLER, "script": script({"hang_up": True})}
    placed = (await stack.carrier.post("/sim/calls", json=order)).json()["call_control_id"]
    await stack.carrier.post(f"/sim/calls/{placed}/hangup")

    async def is_over() -> bool:
        reply = await stack.backend.get(f"/api/v1/calls/{placed}")
        return reply.status_code == 200 and reply.json()["state"] in ("ended", "failed")

    await until(is_over)
    await nothing_lives(stack)


async def test_a_number_nobody_answers_is_rejected_with_a_reason(stack: Stack) -> None:
    evidence = await run_inbound(stack, to="+15550199999", from_number=CALLER, script=script())
    assert "answered" not in kinds(evidence)
    assert evidence.line["events"][-1]["data"]["by"] == "agent"
    assert evidence.call["state"] == "failed"
    assert "+15550199999" in evidence.call["error"]
    await nothing_lives(stack)


def greeting_by_number(folder: Path) -> Path:
    """Agents of which the first greets everybody in words that nobody could prepare, by one voice alone."""
    folder.mkdir()
    front_desk = json.loads((AGENTS / "front-desk.json").read_text())
    front_desk["tts_fallbacks"] = []
    front_desk["greeting"] = "Hello, caller {{caller_number|digits}}, and thank you for calling."
    (folder / "front-desk.json").write_text(json.dumps(front_desk))
    return folder


async def test_a_speech_server_that_went_away_ends_the_call_politely(tmp_path: Path) -> None:
    agents = greeting_by_number(tmp_path / "agents")
    async with Stack(StackConfig(run_dir=tmp_path / "run", agents_dir=agents)) as stack:
        await stack.stop_speech_server()
        evidence = await run_inbound(stack, to=BACKEND_NUMBER, from_number=CALLER, script=script())
        heard = " ".join(
            event["data"]["text"] for event in evidence.line["events"] if event["kind"] == "agent_speech"
        )
        assert word_errors(APOLOGY, heard).rate <= 0.1, "the apology was cut off or never reached the caller"
        assert [e["data"]["by"] for e in evidence.line["events"] if e["kind"] == "hangup"] == ["agent"]
        assert evidence.call["state"] in ("ended", "failed")
        assert "speech server" in evidence.call["error"]
        assert str(stack.speech_url.rsplit(":", 1)[1]) in evidence.call["error"]
        await nothing_lives(stack)


async def test_prepared_words_are_heard_when_the_speech_server_is_gone(tmp_path: Path) -> None:
    async with Stack(StackConfig(run_dir=tmp_path, agents_dir=AGENTS)) as stack:
        await until(lambda: asyncio.to_thread(prepared, tmp_path, "I could not connect you"), within_s=30)
        await stack.stop_speech_server()
        steps = [
            {"wait_for": "how can I help"},
            {"say": "What are your opening hours?"},
            {"wait_for": "five in the afternoon. Would you like to book"},
            {"hang_up": True},
        ]
        evidence = await run_inbound(stack, to=BACKEND_NUMBER, from_number=CALLER, script={"steps": steps})
        turns = [turn for turn in evidence.call["turns"] if turn["role"] == "agent"]
        assert [turn["node_id"] for turn in turns] == ["how_can_i_help", "opening_hours", "anything_else"]
        assert {turn["route"] for turn in turns} == {"prepared"}
        assert not evidence.call["error"]
        await nothing_lives(stack)


def prepared(run_dir: Path, text: str) -> bool:
    """Whether the backend that runs there has kept these words, spoken."""
    return any(text.encode() in file.read_bytes() for file in run_dir.glob("prompts-cache/*/*.wav"))


async def test_a_process_that_cannot_start_says_why_and_none_is_left(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    run_dir = tmp_path / "run"
    with pytest.raises(StackError, match=r"(?s)the backend ended \(1\).*holds no agent file"):
        async with Stack(StackConfig(run_dir=run_dir, agents_dir=tmp_path / "agents")):
            pass
    assert processes_in(run_dir) == []


def processes_in(folder: Path) -> list[int]:
    """Processes that work in a folder, as all of a stack's do."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                cwd = (process / "cwd").readlink()
            except OSError:  # gone meanwhile, or somebody else's
                continue
            if cwd == folder:
                found.append(int(process.name))
    return found


def voice_agent(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    # A test run in the background of a shell ignores Ctrl-C, and would hand that on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _voice_agent(*arguments, **options)
    finally:
        signal.signal(signal.SIGINT, before)


def _voice_agent(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "backend.cli", *arguments],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"}, **options,
    )  # fmt: skip


async def test_simulate_writes_what_is_left_of_a_call(tmp_path: Path) -> None:
    run = voice_agent(
        "simulate", "--agent", "front-desk", "--script", "wants-a-human", "--codec", "pcma",
        "--out", str(tmp_path), "--agents-dir", str(AGENTS), "--lenient-latency",
    )  # fmt: skip
    out, err = await asyncio.to_thread(run.communicate, timeout=150)
    assert run.returncode == 0, out + err
    assert "I would like to talk to a real person, please." in out
    assert "transferred to +15550100099" in out
    latest = tmp_path / "latest"
    with wave.open(str(latest / "call.wav")) as recording:
        assert (recording.getnchannels(), recording.getframerate()) == (2, 8_000)
        assert recording.getnframes() > 5 * 8_000
    assert (latest / "call.png").read_bytes().startswith(b"\x89PNG")
    assert "→ human" in (latest / "call.txt").read_text(encoding="utf-8")
    assert f"{latest.resolve()}/call.wav" in out
    assert processes_in(latest.resolve() / "run") == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
async def test_no_process_outlives_the_demo(tmp_path: Path, number: signal.Signals) -> None:
    run = voice_agent("demo", "--out", str(tmp_path), "--agents-dir", str(AGENTS), process_group=0)

    async def all_started() -> bool:
        return len(processes_in(tmp_path / "run")) >= 3

    async def all_gone() -> bool:
        return not processes_in(tmp_path / "run")

    try:
        await until(all_started, within_s=25)
        run.send_signal(number)
        await asyncio.to_thread(run.communicate, timeout=30)
        assert run.returncode == (130 if number == signal.SIGINT else -number)
        await until(all_gone, within_s=25)
    finally:
        run.kill()
        await asyncio.to_thread(run.communicate)
