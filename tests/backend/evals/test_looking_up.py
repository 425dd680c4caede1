"""A look-up in a written call, whose time leaps: the tool is a real HTTP server, and no model is there."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from rich.console import Console

from backend.core.agent import Agent
from backend.core.call_flow import Node
from backend.evals.chat import ChatOptions, run_chat
from backend.evals.command import EvalOptions, run_eval
from backend.evals.mind import mind_of
from backend.evals.suite import Expect
from backend.evals.text_call import run_text
from backend.evals.verdicts import call_report, judge_call
from backend.settings import load_settings
from backend.simulator.script import parse_script
from tests.backend.calls.talking.test_looking_up import desk
from tests.backend.calls.talks import node, to


class Slots(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"slots": [{"time": "9:30"}]}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def crm() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Slots) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def silent(talker: Agent) -> Agent:
    """The agent, whose node `look` says nothing."""
    look, *others = talker.call_flow.nodes
    nodes = (look.model_copy(update={"say": ()}), *others)
    return talker.model_copy(
        update={"greeting": "Hello.", "call_flow": talker.call_flow.model_copy(update={"nodes": nodes})}
    )


def test_a_written_call_says_what_it_looked_up() -> None:
    with crm() as url:
        mind = mind_of(load_settings(None, openai_api_key=None), {})
        evidence = run_text(desk(url), parse_script({}), "inbound", {}, mind)
    texts = [turn["text"] for turn in evidence.call["turns"]]
    assert texts == ["Let me see.", "There is 9:30.", "Goodbye."]
    assert [(use["name"], use["ok"]) for use in evidence.call["tools"]] == [("find", True)]


def test_nodes_that_say_nothing_were_visited_all_the_same() -> None:
    record = {"type": "record", "on": False}
    hop = Node.model_validate_json(json.dumps(node("hop", actions=[record], transitions=[to("look")])))
    with crm() as url:
        talker = silent(desk(url))
        flow = talker.call_flow.model_copy(update={"start": "hop", "nodes": (hop, *talker.call_flow.nodes)})
        talker = talker.model_copy(update={"greeting": None, "call_flow": flow})
        mind = mind_of(load_settings(None, openai_api_key=None), {})
        evidence = run_text(talker, parse_script({}), "inbound", {}, mind)
    report = call_report(evidence)
    assert report.nodes == ("hop", "look", "found", "bye")
    expect = Expect(nodes=("hop", "look", "found"), never_nodes=("look",))
    judged = {item.name: item.ok for item in judge_call(evidence, report, expect, "text")}
    assert (judged["nodes"], judged["never at node"]) == (True, False)


def test_a_chat_shows_the_node_that_says_nothing_before_its_tool() -> None:
    shown = io.StringIO()
    with crm() as url:
        settings = load_settings(None, openai_api_key=None)
        run_chat(Console(file=shown, width=110), settings, silent(desk(url)), ChatOptions(text=True), {})
    lines = [line.strip() for line in shown.getvalue().splitlines()]
    told = [line.split("(")[0] for line in lines if line.startswith(("→", "find", "agent  "))]
    assert told == [
        "→ look", "agent  Hello.", "find", "→ found", "agent  There is 9:30.", "→ bye", "agent  Goodbye.",
    ]  # fmt: skip


WRONG = "tool find: set: slot: the path 'slot.0.time' finds nothing in the answer"


def test_a_chat_tells_beneath_the_tool_what_its_paths_did_not_find() -> None:
    shown = io.StringIO()
    with crm() as url:
        settings = load_settings(None, openai_api_key=None)
        talker = desk(url, set={"slot": "slot.0.time"})
        run_chat(Console(file=shown, width=110), settings, talker, ChatOptions(text=True), {})
    lines = [line.strip() for line in shown.getvalue().splitlines()]
    at = lines.index(f"! {WRONG}")
    assert lines[at - 1].startswith("find(")
    assert lines.count(f"! {WRONG}") == 1


def test_a_suite_tells_under_the_call_what_a_tools_paths_did_not_find(tmp_path: Path) -> None:
    shown = io.StringIO()
    suite = {"name": "Desk", "agent": "desk", "cases": [{"id": "looks-up"}]}
    (tmp_path / "desk.json").write_text(json.dumps(suite))
    with crm() as url:
        talker = desk(url, set={"slot": "slot.0.time"})
        run_eval(
            Console(file=shown, width=110),
            EvalOptions((tmp_path / "desk.json",)),
            lambda _: talker,
            lambda: (load_settings(None, openai_api_key=None), {}),
        )
    lines = [line.strip() for line in shown.getvalue().splitlines()]
    assert lines[next(at for at, line in enumerate(lines) if "looks-up" in line) + 1] == f"! {WRONG}"
