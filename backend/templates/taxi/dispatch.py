"""A small dispatch office for the taxi agent: takes orders, and tells how they stand.

python dispatch.py                   # http://127.0.0.1:8500
python dispatch.py --slow-ms 2500    # takes its time: the agent says its filler
python dispatch.py --broken          # answers 503: the agent goes its failure way
"""

from __future__ import annotations

import argparse
import json
import re
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from threading import Lock
from typing import Any

Answer = tuple[int, dict[str, Any]]  # HTTP status, JSON

FIELDS = {"pickup": str, "day": str, "time": str, "car": str, "passengers": int, "phone": str}
WAIT_MINUTES = {"sedan": 9, "van": 14, "wheelchair car": 18}
SEATS = {"sedan": 4, "van": 8, "wheelchair car": 3}


class Office:
    """The orders, in memory."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._numbers = count(48214)
        self._orders: dict[str, dict[str, Any]] = {
            "48213": {"car": "van", "state": "on its way", "wait_minutes": 6}
        }

    def take(self, order: object) -> Answer:
        """Book it, if it can be."""
        if not isinstance(order, dict):
            return 422, {"error": "an order is a JSON object"}
        for name, kind in FIELDS.items():
            if not isinstance(order.get(name), kind) or isinstance(order[name], bool) or order[name] == "":
                return 422, {"error": f"{name} is missing, or no {kind.__name__}"}
        car = order["car"]
        if car not in SEATS:
            return 422, {"error": f"car is one of {', '.join(SEATS)}"}
        if not 1 <= order["passengers"] <= SEATS[car]:
            return 422, {"error": f"a {car} takes 1 to {SEATS[car]} passengers"}
        with self._lock:
            number = str(next(self._numbers))
            self._orders[number] = {**order, "state": "booked", "wait_minutes": WAIT_MINUTES[car]}
        return 201, {"order": {"number": number, "wait_minutes": WAIT_MINUTES[car]}}

    def find(self, number: str) -> Answer:
        """How an order stands."""
        with self._lock:
            order = self._orders.get(number)
        if order is None:
            return 404, {"error": f"there is no order {number}"}
        return 200, {"order": {"number": number, **order}}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    office = Office()
    slow_ms = 0
    broken = False

    def do_POST(self) -> None:
        """`POST /orders`"""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/orders":
            return self._answer(404, {"error": "not here"})
        try:
            order = json.loads(body)
        except ValueError:
            return self._answer(400, {"error": "not JSON"})
        return self._answer(*self.office.take(order))

    def do_GET(self) -> None:
        """`GET /orders/{number}`"""
        if found := re.fullmatch(r"/orders/([0-9]+)", self.path):
            return self._answer(*self.office.find(found[1]))
        return self._answer(404, {"error": "not here"})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        time.sleep(self.slow_ms / 1000)
        if self.broken:
            status, body = 503, {"error": "closed for repairs"}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    """Serve until Ctrl-C."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--port", type=int, default=8500)
    options.add_argument("--slow-ms", type=int, default=0, help="wait so long before every answer")
    options.add_argument("--broken", action="store_true", help="answer everything with 503")
    given = options.parse_args()
    Handler.slow_ms, Handler.broken = given.slow_ms, given.broken
    try:
        server = ThreadingHTTPServer(("127.0.0.1", given.port), Handler)
    except OSError as error:
        options.exit(1, f"port {given.port} cannot be used: {error.strerror}; choose another with --port\n")
    print(f"the dispatch office listens at http://127.0.0.1:{server.server_port}", flush=True)
    with suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
