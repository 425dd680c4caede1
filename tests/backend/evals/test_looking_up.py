"""A look-up in a written call, whose time leaps: the tool is a real HTTP server, and no model is there."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from backend.evals.mind import mind_of
from backend.evals.text_call import run_text
from backend.settings import load_settings
from backend.simulator.script import parse_script
from tests.backend.calls.talking.test_looking_up import desk


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


def test_a_written_call_says_what_it_looked_up() -> None:
    with HTTPServer(("127.0.0.1", 0), Slots) as crm:
        threading.Thread(target=crm.serve_forever, daemon=True).start()
        mind = mind_of(load_settings(None, openai_api_key=None), {})
        talker = desk(f"http://127.0.0.1:{crm.server_port}")
        evidence = run_text(talker, parse_script({}), "inbound", {}, mind)
        crm.shutdown()
    texts = [turn["text"] for turn in evidence.call["turns"]]
    assert texts == ["Let me see.", "There is 9:30.", "Goodbye."]
    assert [(use["name"], use["ok"]) for use in evidence.call["tools"]] == [("find", True)]
