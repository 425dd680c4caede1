"""What follows from runs: spreads, failures in order, and the same for machines."""

from __future__ import annotations

import json

import pytest

from backend.core.health import RouteKey
from backend.latency.figures import Failed, Measured, Run, Spread
from tests.backend.latency.made import measured, subject


def test_spreads_are_of_the_runs_that_have_the_figure() -> None:
    found = measured((10, 20, 200), (30, 60, 400), (20, 40, 300))
    assert found.spread("first_chunk_ms") == Spread(20, 40, pytest.approx(58))
    assert found.spread("real_time_factor") == Spread(0.2, pytest.approx(0.3), pytest.approx(0.39))
    assert found.spread("server_first_ms") is None and found.spread("added_ms") is None
    assert Measured(subject()).spread("connect_ms") is None


def test_what_is_added_is_what_the_server_does_not_account_for() -> None:
    assert Run(1, 20, 200, 1000, 48_000, 18.5).added_ms == 1.5
    assert Run(1, 20, 200, 1000, 48_000).added_ms is None


def test_failures_are_counted_the_most_frequent_first_with_what_to_do() -> None:
    found = measured((1, 2, 3))
    found.failed += [Failed("closed", "it hung up")] + [Failed("busy", "all taken")] * 2
    assert found.count == 4
    assert found.failures() == [
        ("busy", 2, "Full: every stream is taken; add a server, or let each take more (all taken)."),
        ("closed", 1, "Drops the connection: look at its log (it hung up)."),
    ]


def test_machines_get_the_same() -> None:
    found = measured((10, 20, 200))
    found.failed.append(Failed("busy", "all taken"))
    told = json.loads(json.dumps(found.as_json()))
    assert (told["route"], told["server"], told["voice"]) == ("sesame_ws", "http://pod", "0")
    assert (told["runs"], told["failed"], told["stopped"]) == (2, 1, None)
    assert told["first_chunk_ms"] == {"min": 20, "p50": 20, "p95": 20}
    assert told["added_ms"] is None
    assert told["failures"][0]["reason"] == "busy" and "all taken" in told["failures"][0]["message"]


def test_a_route_is_shown_by_its_address_without_secrets() -> None:
    found = Measured(subject(key=RouteKey("sesame_ws", "http://me:secret@pod")))
    assert "secret" not in json.dumps(found.as_json())
