"""What a tool's answer puts into variables, whatever the answer is."""

from __future__ import annotations

import json

import pytest

from backend.core.flow import Flow
from backend.core.tool_values import MAX_VALUE, plain_path, unfound_at, values_at
from tests.backend.calls.fakes import agent

ANSWER = json.dumps(
    {
        "slots": [{"time": "9:30", "seats": 4}, {"time": "11:00"}],
        "free": True,
        "price": 12.5,
        "note": "a\u0000b\nc\u009b",
        "emoji": "\ud83d",
        "none": None,
        "0": "by name",
    }
)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("slots.0.time", "9:30"),
        ("slots.1.time", "11:00"),
        ("slots.0.seats", "4"),
        ("free", "yes"),
        ("price", "12.5"),
        ("note", "a b c"),
        ("emoji", "?"),
        ("0", "by name"),
        ("slots.2.time", None),
        ("slots.-1.time", None),
        ("slots.٠.time", None),
        (f"slots.{'9' * 5000}", None),
        ("slots", None),
        ("slots.0", None),
        ("none", None),
        ("free.x", None),
        ("price.0", None),
    ],
)
def test_values_stand_at_dotted_paths(path: str, value: str | None) -> None:
    assert values_at({"found": path}, ANSWER) == ({} if value is None else {"found": value})


@pytest.mark.parametrize(
    "answer", ["", "Open until six.", '{"a": ', "[" * 100_000, '{"a": ' + "9" * 9000 + "}"]
)
def test_what_is_no_json_holds_nothing(answer: str) -> None:
    assert values_at({"found": "a"}, answer) == {}


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("slots.0.time", ""),
        ("none", ""),
        ("slots.2.time", "finds nothing in the answer"),
        ("$.slots.0.time", "finds nothing in the answer"),
        ("slots", "finds a list in the answer: go on to one value in it"),
        ("slots.0", "finds an object in the answer: go on to one value in it"),
    ],
)
def test_a_path_that_finds_nothing_is_told(path: str, why: str) -> None:
    assert unfound_at({"found": path}, ANSWER) == ({"found": why} if why else {})
    assert "no JSON" in unfound_at({"found": path}, "Open until six.")["found"]


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("$.order.car", "order.car"),
        ("$.slots[0].time", "slots.0.time"),
        ("$['order'][\"car\"]", "order.car"),
        ("slots[ 1 ]", "slots.1"),
        ("order.car", "order.car"),
    ],
)
def test_a_path_in_json_path_has_a_plain_one(given: str, plain: str) -> None:
    assert plain_path(given) == plain


def test_a_value_is_cut() -> None:
    assert values_at({"found": "0"}, json.dumps(["x" * 50_000])) == {"found": "x" * MAX_VALUE}


def test_what_a_tool_set_stays_when_the_call_is_led_back() -> None:
    end = {"id": "bye", "actions": [{"type": "hangup"}]}
    ask = {
        "id": "ask",
        "say": "Which day?",
        "collect": {"name": "day"},
        "transitions": [{"to": "bye", "when": {"otherwise": True}, "set": {"done": "yes"}}],
    }
    flow = Flow(agent(ask, end, variables={"slot": "none", "old": "a"}), {})
    flow.start()
    tools = flow.tool_variables
    tools["old"] = "b"
    flow.variables["old"] = "c"  # by the flow, later
    before = flow.fork()
    flow.heard("Friday.")
    tools["slot"] = "9:30"
    assert flow.variables.items() >= {"day": "Friday", "done": "yes", "slot": "9:30"}.items()
    assert before.variables["slot"] == "none"
    for _ in range(2):
        flow.go_back(before)
        assert (flow.variables["slot"], flow.variables["old"]) == ("9:30", "c")
        assert "day" not in flow.variables and "done" not in flow.variables
    assert tools["slot"] == "9:30" and {**tools} == flow.variables
