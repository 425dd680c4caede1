"""One suite file in writing and in real audio: an agent that books by HTTP, and what is said of that."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from backend.simulator.llm import LlmStandIn, running
from backend.simulator.llm_script import LlmScript

ROOT = Path(__file__).parents[2]
RULES = [
    {
        "when": {"user": "thursday"},
        "reply": [{"say": "Let me see. "}, {"call": "book", "arguments": {"day": "Thursday"}}],
    },
    {"when": {"tool": "booked"}, "reply": "Thursday is booked. Goodbye."},
]  # fmt: skip


class _Bookings(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))  # type: ignore[attr-defined]
        answer = b'{"booked": true}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def bookings() -> Iterator[tuple[str, list[Any]]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Bookings)
    asked: list[Any] = []
    server.asked = asked  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/bookings", asked
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def lay_out(folder: Path, tool_url: str) -> Path:
    """The agent and its suite → the suite's file."""
    agent = {
        "id": "booker", "name": "Booker", "phone_numbers": ["+15550100001"],
        "llm": {"provider": "openai", "model": "m"}, "system_prompt": "You book appointments.",
        "greeting": "Hello. Which day would you like?",
        "tools": [{
            "name": "book", "description": "Books a day.", "url": tool_url,
            "parameters": {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]},
        }, {"name": "cancel", "description": "Cancels it.", "url": tool_url}],
        "call_flow": {"start": "day", "nodes": [
            {"id": "day", "prompt": "Ask for the day and book it.", "tools": ["book", "cancel"],
             "transitions": [{"to": "bye", "when": {"intent": "wants to end the call"}}]},
            {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]},
        ]},
    }  # fmt: skip
    suite = {
        "name": "Books", "agent": "booker",
        "cases": [{
            "id": "thursday",
            "steps": [
                {"wait_for": "which day"}, {"silent_ms": 300}, {"say": "On Thursday, please."},
                {"wait_for": "is booked"}, {"silent_ms": 300}, {"hang_up": True},
            ],
            "expect": {"tools": ["book"], "never_tools": ["cancel"], "says": ["thursday is booked"]},
        }],
    }  # fmt: skip
    (folder / "agents").mkdir()
    (folder / "agents" / "booker.json").write_text(json.dumps(agent), encoding="utf-8")
    path = folder / "suite.json"
    path.write_text(json.dumps(suite), encoding="utf-8")
    return path


@pytest.mark.parametrize("mode", ["--text", "--audio"])
async def test_the_same_suite_judges_tools_in_both_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    with bookings() as (url, asked):
        path = lay_out(tmp_path, url)
        async with running(LlmStandIn(LlmScript.model_validate({"rules": RULES}))) as base_url:
            monkeypatch.setenv("OPENAI_BASE_URL", base_url)
            arguments = ["eval", str(path), mode, "--agents-dir", str(tmp_path / "agents")]
            arguments += ["--html", str(tmp_path / "html")]
            run = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "backend.cli", *arguments, cwd=ROOT,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            async with asyncio.timeout(150):
                out, _ = await run.communicate()
    assert run.returncode == 0, out.decode()
    assert {"day": "Thursday"} in asked
    page = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    assert "book(day=&quot;Thursday&quot;)" in page
