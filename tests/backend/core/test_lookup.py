"""What a flow asks for where a node looks something up, and where it goes on without an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backend.core.flow import Flow
from backend.core.steps import Lookup
from tests.backend.calls.fakes import agent

KINDS = {
    "day": {"type": "string"},
    "people": {"type": "integer"},
    "price": {"type": "number"},
    "inside": {"type": "boolean"},
}
FIND = {
    "name": "find",
    "description": "Finds.",
    "url": "https://a.example/",
    "parameters": {"type": "object", "properties": KINDS},
    "filler": "A moment.",
    "more_fillers": [],
    "set": {"slot": "slot"},
}


def flow(arguments: dict[str, Any], failed: str | None = None, **variables: str) -> Flow:
    action = {"type": "lookup", "tool": "find", "arguments": arguments}
    onward = [{"to": "found", "when": {"otherwise": True}}]
    return Flow(
        agent(
            {"id": "look", "say": "Let me see.", "actions": [action | ({"failed": failed} if failed else {})]}
            | {"transitions": onward},
            {"id": "found", "say": "There is {{slot}}.", "actions": [{"type": "hangup"}]},
            {"id": "sorry", "say": "I cannot say.", "actions": [{"type": "hangup"}]},
            tools=[FIND],
            variables=dict.fromkeys(KINDS, ""),
        ),
        variables,
    )


@pytest.mark.parametrize(
    ("variables", "sent"),
    [
        ({}, {}),
        (
            {"day": "7", "people": "2", "price": "1.5", "inside": "yes"},
            {"day": "7", "people": 2, "price": 1.5, "inside": True},
        ),
        ({"people": "two", "inside": "perhaps"}, {"people": "two", "inside": "perhaps"}),
    ],
)
def test_arguments_are_filled_in_as_the_tool_wants_them(
    variables: dict[str, str], sent: dict[str, Any]
) -> None:
    step = flow({name: f"{{{{{name}}}}}" for name in KINDS}, **variables).start()
    (action,) = step.actions
    assert isinstance(action, Lookup) and step.listen is None
    assert (action.tool, action.fillers) == ("find", ("A moment.",))
    assert json.loads(action.arguments) == sent


def test_what_is_found_is_said_and_not_made_beforehand_without_it() -> None:
    call = flow({})
    call.start()
    assert not any(text.startswith("There is") for text in call.likely_texts())
    call.tool_variables["slot"] = "9:30"
    assert call.proceed().text == "There is 9:30."


def test_without_an_answer_the_call_goes_where_failed_says_or_on() -> None:
    call = flow({}, "sorry")
    call.start()
    step = call.lookup_failed()
    assert step is not None and step.text == "I cannot say." and call.node_id == "sorry"
    call = flow({})
    call.start()
    assert call.lookup_failed() is None and call.proceed().node_id == "found"
