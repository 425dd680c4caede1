"""Callers played by a language model, from the suite's file to the verdict: the stand-in answers for them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

import pytest
from typer.testing import CliRunner

from backend.cli import app
from backend.core.llm import ToolCall
from backend.evals.apart import Apart
from backend.evals.leaping import run_leaping
from backend.evals.played import NOBODY_SPEAKS, HangUp, Press, Role, Say, Wait, plain
from backend.evals.suite import PlayedBy, SuiteError, load_suite
from backend.simulator.llm import LlmStandIn, running
from backend.simulator.llm_script import LlmScript

ROOT = Path(__file__).parents[3]
GOAL = "You are Maria Jones. You want an appointment on Tuesday in the morning."

BOOKS = [
    {"when": {"user": "how can I help"}, "reply": "An appointment on Tuesday, please."},
    {
        "when": {"user": "which would you like"},
        "reply": [{"call": "say", "arguments": {"words": "The morning."}}],
    },
    {"when": {"user": "full name"}, "reply": "My name is Maria Jones."},
    {
        "when": {"user": "telephone number"},
        "reply": [{"call": "press", "arguments": {"keys": "212 555 0142"}}],
    },
    {"when": {"user": "say no or press two"}, "reply": "Yes, that’s right."},
]  # fmt: skip


@contextmanager
def standing_in(*rules: dict[str, Any]) -> Iterator[tuple[str, LlmStandIn]]:
    """A stand-in in a thread of its own, since calls have their own loop: its base URL, and the stand-in."""
    stand_in = LlmStandIn(LlmScript.model_validate({"rules": rules, "api_key": "k"}))
    url: list[str] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with running(stand_in) as base_url:
            url.append(base_url)
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield url[0], stand_in
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()


def suite_file(folder: Path, expect: dict[str, Any] | None = None, **played_by: Any) -> Path:
    path = folder / "suite.json"
    case = {"id": "maria", "played_by": {"goal": GOAL, **played_by}, "expect": expect or {}}
    path.write_text(
        json.dumps({"name": "Mine", "agent": "front-desk", "played_by": {"model": "m"}, "cases": [case]})
    )
    return path


def run(monkeypatch: pytest.MonkeyPatch, url: str, *arguments: str) -> tuple[int, str]:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    done = CliRunner().invoke(app, ["eval", *arguments, "--agents-dir", str(ROOT / "agents")])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, " ".join(done.output.split())


def test_a_played_caller_gets_what_they_want(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = suite_file(
        tmp_path,
        {
            "nodes": ["how_can_i_help", "which_time", "your_name", "your_number", "confirm", "booked"],
            "collected": {"day": "Tuesday", "caller_name": "Maria Jones", "phone": "2125550142"},
            "ends_by": "agent",
            "hears": ["yes that's right"],
            "answer_p95_ms": 2000,
            "interruptions": 0,
        },
        style="in a hurry",
    )
    with standing_in(*BOOKS) as (url, stand_in):
        code, out = run(monkeypatch, url, str(path), "--html", str(tmp_path / "html"))
    assert code == 0, out
    first, last = stand_in.asked[0], stand_in.asked[-1]
    assert first.messages[0]["role"] == "system"
    assert GOAL in first.messages[0]["content"] and "in a hurry" in first.messages[0]["content"]
    assert "How can I help you today?" in first.messages[1]["content"]
    assert first.tools == ["say", "press", "wait", "hang_up"]
    assert [item["content"] for item in last.messages if item["role"] == "assistant"][:3] == [
        "An appointment on Tuesday, please.", "The morning.", "My name is Maria Jones.",
    ]  # fmt: skip
    page = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    assert f"played by a language model: {GOAL} (in a hurry)" in page
    assert "Yes, that’s right." in page


def test_a_played_caller_may_wait_and_hang_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [
        {"reply": [{"call": "wait", "arguments": {"seconds": 2}}], "times": 1},
        {"when": {"user": "Nobody says"}, "reply": [{"say": "Oh, wrong number. "}, {"call": "hang_up"}]},
    ]
    path = suite_file(tmp_path, {"ends_by": "caller", "hears": ["wrong number"], "max_seconds": 20})
    with standing_in(*rules) as (url, _):
        code, out = run(monkeypatch, url, str(path))
    assert code == 0, out


def test_the_time_that_the_caller_s_model_takes_is_none_of_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = [{"after_ms": 1500, "when": {"user": "help"}, "reply": "Goodbye."}]
    with standing_in(*slow) as (url, _):
        began_s = time.monotonic()
        code, out = run(monkeypatch, url, str(suite_file(tmp_path, {"max_seconds": 60})))
        assert time.monotonic() - began_s >= 1.5
        _, quick_out = run(monkeypatch, url, str(suite_file(tmp_path, {"max_seconds": 0.1})))
    assert code == 0, out
    with standing_in({**slow[0], "after_ms": 0}) as (url, _):
        _, other_out = run(monkeypatch, url, str(suite_file(tmp_path, {"max_seconds": 0.1})))
    length = [text.split("was ")[1].split(" ")[0] for text in (quick_out, other_out)]
    assert abs(float(length[0]) - float(length[1])) < 0.5


def test_a_caller_who_gets_nowhere_has_failed_after_max_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with standing_in({"reply": "I like trains."}) as (url, stand_in):
        code, out = run(monkeypatch, url, str(suite_file(tmp_path, max_turns=2)))
    assert code == 1
    assert len(stand_in.asked) == 2
    assert "✗ maria" in out
    assert "after 2 turns of the caller (max_turns) the call was not over" in out


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"refuse": {"status": 500, "message": "on fire"}}, "on fire"),
        ({"reply": [{"stall": True}]}, "within 0.5 s"),
        ({"reply": [{"call": "dance"}]}, "3 times it replied with nothing that a caller can do"),
    ],
)
def test_a_model_that_fails_is_an_error_and_none_of_the_agent_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: dict[str, Any], sentence: str
) -> None:
    report = tmp_path / "junit.xml"
    with standing_in(rule) as (url, _):
        code, out = run(monkeypatch, url, str(suite_file(tmp_path, timeout_ms=500)), "--junit", str(report))
    assert code == 1
    assert "! maria" in out, out
    assert "which says nothing of the agent" in out
    assert sentence in out
    document = xml.parse(report).getroot()
    assert (document.get("errors"), document.get("failures")) == ("1", "0")


def test_without_a_key_for_openai_it_is_said_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = suite_file(tmp_path, base_url="https://api.openai.com/v1", api_key="{{secret:NONE_SUCH}}")
    code, out = run(monkeypatch, "http://127.0.0.1:9/v1", str(path))
    assert code == 1
    assert "set NONE_SUCH, and name it in AGENT_SECRETS" in out


def test_a_caller_is_held_to_seconds_and_to_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with standing_in({"reply": "I like trains."}) as (url, stand_in):
        code, out = run(monkeypatch, url, str(suite_file(tmp_path, max_seconds=20)))
        assert code == 1
        assert "after 20 s the call was not over (max_seconds)" in out
        before = len(stand_in.asked)
        assert 0 < before < 6
        code, out = run(monkeypatch, url, str(suite_file(tmp_path, max_tokens=100)))
    assert code == 1
    assert len(stand_in.asked) == before + 1
    assert "tokens of the caller (max_tokens) the call was not over" in out


def test_a_model_must_be_named_before_any_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = suite_file(tmp_path)
    path.write_text(path.read_text().replace('"model"', '"style"'))
    code, out = run(monkeypatch, "http://127.0.0.1:9/v1", str(path))
    assert code == 1
    assert "maria: played_by.model: is missing" in out


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ({"played_by": {"goal": "x", "max_turn": 3}}, "cases[0].played_by.max_turn: is no field; did you"),
        ({"played_by": {"style": "x"}}, "cases[0].played_by.goal: is missing"),
        ({"played_by": {"goal": "x", "max_turns": 0}}, "cases[0].played_by.max_turns: "),
        ({"played_by": {"goal": "x"}, "steps": [{"say": "a"}]}, "give steps or played_by, not both"),
        ({"played_by": {"goal": "x", "max_seconds": 600}}, "cases[0].played_by.max_seconds: "),
    ],
)  # fmt: skip
def test_a_mistake_in_a_played_caller_is_told(tmp_path: Path, case: dict[str, Any], sentence: str) -> None:
    path = tmp_path / "suite.json"
    path.write_text(json.dumps({"name": "Mine", "agent": "x", "cases": [{"id": "x", **case}]}))
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    assert sentence in str(caught.value)


def test_what_replies_mean_and_what_the_model_is_told_of_mistakes() -> None:
    role = Role(PlayedBy(goal=GOAL))
    role.hears("")
    assert role.messages[-1].text == NOBODY_SPEAKS
    calls = [
        ToolCall("a", "press", '{"keys": "1 2#"}'),
        ToolCall("b", "wait", ""),
        ToolCall("c", "hang_up", ""),
    ]
    assert role.replied("Well. ", calls) == [Say("Well."), Press("12#"), Wait(5.0), HangUp()]
    wrong = [ToolCall("d", "press", '{"keys": "x"}'), ToolCall("e", "say", "{"), ToolCall("f", "wait", "[]")]
    assert role.replied("  ", wrong) == []
    assert [message.tool_call_id for message in role.messages[-3:]] == ["d", "e", "f"]
    assert role.messages[-3].text.startswith("Give keys")
    assert plain("“Café” — 😀 that’s it…") == '"Cafe" - that\'s it...'
    assert plain("😀 !") == ""


def test_an_interruption_ends_what_is_waited_for_apart() -> None:
    seen: list[str] = []

    async def slow() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("ended")

    async def work(apart: Apart) -> None:
        try:
            await apart.done(slow())
        finally:
            await asyncio.sleep(1.0)
            seen.append("cleaned up")

    with pytest.raises(KeyboardInterrupt), Apart() as apart:
        run_leaping(work(apart))
    assert seen == ["ended", "cleaned up"] or seen == ["cleaned up", "ended"]
