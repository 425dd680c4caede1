"""More than a hundred calls with a model, interruptions, hang-ups and faults: nothing is left of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.growth import steady_growth

ROOT = Path(__file__).parents[2]
CALLS, ROUNDS = 162, 9
WARM_UP = 2  # rounds in which caches fill
A_CALL_LEFT_KB = 8.0  # what is left of a call whose parts are held by somebody is many times as much


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    command = [
        sys.executable, "benchmarks/soak.py", "--calls", str(CALLS), "--at-once", str(CALLS // ROUNDS),
        "--rounds", str(ROUNDS), "--longest-s", "2.5",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=150)
    assert run.returncode == 0, run.stderr
    figures: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return figures


def test_calls_were_held_and_models_asked(told: dict[str, Any]) -> None:
    assert told["states"] == {"ended": CALLS}
    assert told["turns_of_last_40_calls"] > 40
    assert sum(told["llm"].values()) >= 20, told["llm"]


def test_no_task_is_left_of_them(told: dict[str, Any]) -> None:
    for figures in told["rounds"]:
        assert figures["tasks"] == told["before"]["tasks"], figures["task_names"]


def test_no_descriptor_is_left_but_connections_kept_for_the_next_call(told: dict[str, Any]) -> None:
    first, *_, last = told["rounds"]
    assert last["descriptors"] <= max(first["descriptors"], told["before"]["descriptors"]) + CALLS // ROUNDS
    assert told["after_closing"]["descriptors"] <= told["before"]["descriptors"]


def test_no_memory_is_left_of_them(told: dict[str, Any]) -> None:
    rounds = told["rounds"][WARM_UP:]
    traced_kb = steady_growth([each["traced_kb"] for each in rounds])
    assert traced_kb / (CALLS / ROUNDS) < A_CALL_LEFT_KB, rounds
    assert steady_growth([each["resident_mb"] for each in rounds]) < 4, rounds
