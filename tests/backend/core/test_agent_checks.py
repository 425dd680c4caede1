from __future__ import annotations

import json
from typing import Any

import pytest

from backend.core.agent import Agent
from backend.core.agent_checks import captured_names, transfer_target_problem
from backend.core.agent_text import inspect_agent

BYE = {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]}


def agent(*nodes: dict[str, Any], everywhere: list[dict[str, Any]] | None = None, **changes: Any) -> str:
    flow = {"start": nodes[0]["id"], "nodes": [*nodes], "transitions": everywhere or []}
    return json.dumps({"id": "desk", "name": "Desk", "greeting": "Hello.", "call_flow": flow} | changes)


def ask(to: str = "bye", when: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    transition = {"to": to, "when": when or {"keywords": ["yes"]}}
    return {"id": "ask", "say": "Yes?", "transitions": [transition]} | more


def problems(text: str) -> list[tuple[str, str]]:
    return [(error.field, error.reason) for error in inspect_agent(text, file="f").errors]


def parsed(text: str) -> Agent:
    inspection = inspect_agent(text, file="f")
    assert inspection.agent, inspection.errors
    return inspection.agent


HANGUP, TRANSFER = {"type": "hangup"}, {"type": "transfer", "to": "+15550100099"}
FIRST = "call_flow.nodes[0]"


@pytest.mark.parametrize(
    ("text", "field", "reason"),
    [
        (agent(ask(to="by"), BYE), f"{FIRST}.transitions[0].to", "no node 'by'; did you mean 'bye'?"),
        (agent(ask(), BYE, BYE), "call_flow.nodes[2]", "'bye' stands already at call_flow.nodes[1]"),
        (
            agent(BYE, phone_numbers=["+15550100001"] * 2),
            "phone_numbers[1]",
            "stands already at phone_numbers[0]",
        ),
        (agent({"id": "a", "say": "Hi."}), FIRST, "node 'a' leads nowhere"),
        (
            agent({"id": "a", "say": "Hi.", "listen": True}),
            f"{FIRST}.transitions",
            "nothing the caller says leads on",
        ),
        (
            agent(ask(listen=False), BYE),
            f"{FIRST}.transitions[0].when",
            "needs the caller, and listen is false",
        ),
        (
            agent(ask(when={"otherwise": True}, listen=False, collect={"name": "x"}), BYE),
            f"{FIRST}.collect",
            "needs the caller, and listen is false",
        ),
        (
            agent(ask(when={"otherwise": True}, interruptible=True), BYE),
            f"{FIRST}.interruptible",
            "only a node that",
        ),
        (agent(ask(actions=[HANGUP]), BYE), FIRST, "ends the call: it can have no transitions"),
        (agent(BYE | {"actions": [HANGUP, TRANSFER]}), f"{FIRST}.actions[1]", "is never done: hangup ends"),
        (
            agent(BYE | {"actions": [TRANSFER | {"to": "911"}]}),
            f"{FIRST}.actions[0].to",
            "'911' is neither a number",
        ),
        (
            agent(ask(when={"regex": "(?P<n>.+)"}), BYE | {"actions": [TRANSFER | {"to": "{{n}}"}]}),
            "call_flow.nodes[1].actions[0].to",
            "must not choose the number",
        ),
        (
            agent(
                ask(
                    transitions=[
                        {"to": "bye", "when": {"otherwise": True}},
                        {"to": "bye", "when": {"digits": "1"}},
                    ]
                ),
                BYE,
            ),
            f"{FIRST}.transitions[0]",
            "otherwise is the last resort",
        ),
        (
            agent(ask(), BYE, everywhere=[{"to": "bye", "when": {"otherwise": True}}]),
            "call_flow.transitions[0].when",
            "belong to a node",
        ),
        (
            agent(ask(when={"intent": "to leave"}), BYE),
            f"{FIRST}.transitions[0].when.intent",
            "needs a language model",
        ),
        (agent(ask(prompt="Be nice."), BYE), f"{FIRST}.prompt", 'llm.provider is "none"'),
        (agent(ask(tools=["x"]), BYE), f"{FIRST}.tools[0]", "no tool 'x'"),
        (
            agent(BYE | {"say": "Bye {{nme}}."}, variables={"name": "Ann"}),
            f"{FIRST}.say[0]",
            "did you mean 'name'?",
        ),
        (agent(ask(collect={"name": "now_time"}), BYE), f"{FIRST}.collect.name", "'now_time' is built in"),
        (agent(BYE, language="de-DE"), "stt.provider", "'local' hears English only"),
        (
            agent(BYE, language="de-DE", stt={"provider": "openai", "fallbacks": ["local"]}),
            "stt.fallbacks[0]",
            "'local' hears English only",
        ),
        (agent(BYE, stt={"fallbacks": ["openai", "openai"]}), "stt.fallbacks[1]", "stands already"),
        (agent(BYE, stt={"base_url": "http://x.y/v1"}), "stt.base_url", "is for provider or fallback"),
    ],
)
def test_problems_across_fields(text: str, field: str, reason: str) -> None:
    found = problems(text)
    assert any(where == field and reason in why for where, why in found), found


def test_the_start_must_exist() -> None:
    data = json.loads(agent(ask(), BYE))
    data["call_flow"]["start"] = "aks"
    assert problems(json.dumps(data)) == [("call_flow.start", "no node 'aks'; did you mean 'ask'?")]


def test_a_ring_that_never_listens_is_an_error_told_once() -> None:
    def talk(here: str, to: str) -> dict[str, Any]:
        return {"id": here, "say": "La.", "transitions": [{"to": to, "when": {"otherwise": True}}]}

    found = problems(agent(talk("lead", "a"), talk("a", "b"), talk("b", "a")))
    assert found == [("call_flow.nodes[1]", "a → b → a goes round without listening or ending the call")]
    assert problems(agent(talk("a", "ask"), ask(to="a"))) == []


def test_odd_but_harmless_things_are_warnings() -> None:
    inspection = inspect_agent(agent(ask(to="ask"), BYE), file="f.json")
    assert inspection.agent
    assert inspection.warnings == (
        "f.json: call_flow.nodes[1]: node 'bye' is never reached",
        "f.json: call_flow: no node ends the call: only the caller or a limit can",
    )
    mute = inspect_agent(agent({**ask(), "say": []}, BYE, greeting=None), file="f.json")
    assert mute.agent and "the caller hears silence" in mute.warnings[0]


def test_nodes_reached_from_everywhere_are_reached() -> None:
    everywhere = [{"to": "human", "when": {"digits": "0"}}]
    human = {"id": "human", "actions": [TRANSFER]}
    assert inspect_agent(agent(ask(), BYE, human, everywhere=everywhere), file="f").warnings == ()


def test_captured_names() -> None:
    text = agent(ask(when={"regex": "(?P<day>monday)"}, collect={"name": "answer"}), BYE)
    assert captured_names(parsed(text)) == {"day", "answer"}


@pytest.mark.parametrize("target", ["+15550100099", "sip:desk@example.com", "sips:a@b"])
def test_transfer_targets(target: str) -> None:
    assert transfer_target_problem(target) is None


@pytest.mark.parametrize(
    "target", ["", "5550100", "+0123456789", "sip:", "tel:+15550100099", "+1555 0100099"]
)
def test_no_transfer_targets(target: str) -> None:
    assert transfer_target_problem(target)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("911", "'911' is neither a number"),
        ("{{human}}", "nothing ever sets {{human}}"),
        ("{{answer}}", "must not choose the number"),
    ],
)
def test_where_a_call_without_a_voice_goes(target: str, reason: str) -> None:
    collecting = ask(collect={"name": "answer"})
    found = problems(agent(collecting, BYE, failover={"transfer_to": target}))
    assert [(field, reason in why) for field, why in found] == [("failover.transfer_to", True)], found
    for good in ("+15550100099", "sip:desk@example.com", "{{desk}}"):
        sound = agent(collecting, BYE, failover={"transfer_to": good}, variables={"desk": "+15550100099"})
        assert problems(sound) == []


def test_a_hedge_that_never_starts_is_a_warning() -> None:
    late = agent(ask(), BYE, failover={"hedge_ms": 1500})
    assert inspect_agent(late, file="f").warnings == (
        "f: failover.hedge_ms: is never reached: first_audio_ms is 1500",
    )
    assert inspect_agent(agent(ask(), BYE, failover={"hedge_ms": 300}), file="f").warnings == ()


@pytest.mark.parametrize("name", ["go_to", "fill"])
def test_a_tool_cannot_have_a_name_of_the_call_flows_own(name: str) -> None:
    tool = {"name": name, "description": "d", "url": "http://x.y"}
    (problem,) = problems(agent(BYE, llm={"provider": "openai", "model": "m"}, tools=[tool]))
    assert problem[0] == "tools[0].name" and "choose another" in problem[1]


def test_a_tools_filler_is_said_as_it_is_written() -> None:
    tool = {"name": "t", "description": "d", "url": "http://x.y", "filler": "Wait, {{agent_name}}."}
    (problem,) = problems(agent(BYE, llm={"provider": "openai", "model": "m"}, tools=[tool]))
    assert problem[0] == "tools[0].filler"


def test_what_a_tool_sets_is_known_and_chooses_no_number() -> None:
    def with_tool(**paths: str) -> str:
        transfer = {"id": "over", "say": "It is {{slot}}.", "actions": [TRANSFER | {"to": "{{slot}}"}]}
        tool = {"name": "find", "description": "Finds.", "url": "https://a.example/", "set": paths}
        return agent(transfer, tools=[tool], variables={"now": "x"})

    assert problems(with_tool(slot="slots.0")) == [
        (f"{FIRST}.actions[0].to", "'slot' is set by a tool's answer, which must not choose the number")
    ]
    unset = "nothing ever sets {{slot}}"
    assert any(unset in reason for _, reason in problems(with_tool(other="a")))
    assert ("tools[0].set", "'now_date' is built in and cannot be set by a tool; choose another name") in (
        problems(with_tool(slot="a", now_date="b"))
    )
    assert problems(with_tool(slot="a..b"))[0][0].startswith("tools[0].set")


def test_what_is_wrong_with_a_lookup() -> None:
    def looks(action: dict[str, Any], **fields: Any) -> list[tuple[str, str]]:
        tool = {
            "name": "find",
            "description": "Finds.",
            "url": "https://a.example/",
            "parameters": {"type": "object", "properties": {"day": {}}, "required": ["day"]},
        }
        whole = {"type": "lookup", "tool": "find", "arguments": {"day": "Friday"}} | action
        onward = [{"to": "bye", "when": {"otherwise": True}}]
        first = {"id": "a", "say": "Hi.", "actions": [whole], "transitions": onward} | fields
        return problems(agent(first, BYE, tools=[tool]))

    at = f"{FIRST}.actions[0]"
    assert looks({}) == [] and looks({"failed": "bye"}) == []
    assert looks({"tool": "fnd"}) == [(f"{at}.tool", "no tool 'fnd'; did you mean 'find'?")]
    assert looks({"failed": "by"}) == [(f"{at}.failed", "no node 'by'; did you mean 'bye'?")]
    assert looks({"arguments": {}}) == [(f"{at}.arguments", "lacks 'day', which the tool 'find' requires")]
    assert looks({"arguments": {"day": "x", "dya": 1}})[0][1].startswith("'dya' is no parameter of 'find'")
    assert "nothing ever sets {{dy}}" in looks({"arguments": {"day": "{{dy}}"}})[0][1]
    assert "goes round without listening" in looks({"failed": "a"})[0][1]
    assert "listens or has a prompt" in looks({}, listen=True)[0][1]


def test_a_path_in_json_path_is_told_with_what_to_write() -> None:
    tool = {
        "name": "find",
        "description": "Finds a car.",
        "url": "https://crm.example/cars",
        "parameters": {"type": "object", "properties": {}},
        "set": {"car": "$.order.cars[0]", "state": "order.state"},
    }
    assert inspect_agent(agent(ask(), BYE, tools=[tool]), file="f").warnings == (
        "f: tools[0].set.car: a path is names and positions with dots between them, without $ and brackets: "
        "instead of '$.order.cars[0]' write 'order.cars.0'",
    )


def test_an_option_that_the_looked_up_tool_refuses_is_told() -> None:
    def taxi(given: str, *enum: str) -> str:
        car = {"name": "car", "type": "choice", "options": ["sedan", {"value": "van", "words": ["bus"]}]}
        order = {
            "id": "order",
            "say": "Which car?",
            "collect": car,
            "transitions": [{"to": "book", "when": {"otherwise": True}}],
        }
        look = {"type": "lookup", "tool": "book", "arguments": {"car": given}}
        book = {
            "id": "book",
            "actions": [look],
            "transitions": [{"to": "bye", "when": {"otherwise": True}}],
        }
        tool = {
            "name": "book",
            "description": "Books.",
            "url": "https://taxi.example/book",
            "parameters": {"type": "object", "properties": {"car": {"type": "string", "enum": enum}}},
        }
        return agent(order, book, BYE, tools=[tool])

    assert inspect_agent(taxi("{{car}}", "sedan", "minivan"), file="f").warnings == (
        "f: call_flow.nodes[1].actions[0].arguments.car: may be 'van', which the enum of 'car' in the tool "
        "'book' does not hold: the look-up would fail",
    )
    assert inspect_agent(taxi("{{car}}", "sedan", "van"), file="f").warnings == ()
    assert inspect_agent(taxi("a {{car}}", "a sedan", "a van"), file="f").warnings == ()
