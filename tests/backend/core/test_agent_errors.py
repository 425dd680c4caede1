"""Wrong agent files of every kind: each gets a sentence with the field, the reason and what to write."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backend.core.agent_text import inspect_agent

BYE = {"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]}
LLM = {"provider": "openai", "model": "m"}
NODE = "call_flow.nodes[0]"
WHEN = f"{NODE}.transitions[0].when"


def agent(*nodes: Any, start: str = "bye", **changes: Any) -> str:
    flow = {"start": start, "nodes": [*nodes, BYE]}
    return json.dumps({"id": "desk", "name": "Desk", "greeting": "Hello.", "call_flow": flow} | changes)


def ask(when: Any = None, **more: Any) -> str:
    node = {"id": "ask", "say": "Yes?", "transitions": [{"to": "bye", "when": when or {"keywords": ["yes"]}}]}
    return agent(node | more, start="ask")


def acts(*actions: Any) -> str:
    return agent({"id": "a", "actions": [*actions]}, start="a")


def tool(**changes: Any) -> str:
    one = {"name": "t", "description": "d", "url": "https://crm.example/x"} | changes
    return agent(llm=LLM, tools=[{key: value for key, value in one.items() if value is not None}])


WRONG: list[tuple[str | bytes, str]] = [
    (agent(greting="x"), "greting: unknown field; did you mean 'greeting'?"),
    (agent(turns={"bargein": True}), "turns.bargein: unknown field; did you mean 'barge_in'?"),
    (agent(llm={"provider": "openai", "modle": "x"}), "llm.modle: unknown field; did you mean 'model'?"),
    (
        agent(use_websocket_tts="yes"),
        "use_websocket_tts: write true or false, without quotation marks (found",
    ),
    (agent(call_flow={"start": "a", "nodes": {"a": {}}}), "call_flow.nodes: write a list: [ … ]"),
    (agent("bye"), f'{NODE}: write an object: {{ … }} (found "bye")'),
    (agent(variables={"a": 1}), "variables.a: write a text"),
    (agent(variables={"a b": "x"}), "variables.a b.[key]: must be a name that begins with a letter"),
    (agent(limits={"max_call_seconds": 1.5}), "limits.max_call_seconds: write a whole number"),
    (agent(limits={"max_call_seconds": "900"}), "limits.max_call_seconds: write a whole number, without"),
    (agent(tts_provider="Sesame"), "tts_provider: can be 'sesame' or 'elevenlabs'; did you mean 'sesame'?"),
    (agent(tts_fallbacks=["sesame-rest"]), "tts_fallbacks[0]: can be"),
    (agent(language="English"), "language: must be a language code, such as en or en-US (found"),
    (agent(id="Front Desk"), "id: must be a name in lower-case letters, digits and hyphens"),
    (agent(id="../etc"), "id: must be a name in lower-case letters"),
    (agent(phone_numbers=["(555) 010-0100"]), "phone_numbers[0]: must be a number with its country code"),
    (agent(phone_numbers="+15550100001"), "phone_numbers: write a list: [ … ]"),
    (agent(start="by"), "call_flow.start: no node 'by'; did you mean 'bye'?"),
    (agent(start=" "), "call_flow.start: must be a name of letters, digits, _ and -"),
    (agent(BYE), "call_flow.nodes[1]: 'bye' stands already at call_flow.nodes[0]"),
    (
        agent(llm=LLM | {"base_url": "api.example.com"}),
        "llm.base_url: must be an address that begins with http://",
    ),
    (ask("yes"), f"{WHEN}: write an object: {{ … }}"),
    (ask({"keywords": ["x"], "digits": "1"}), f"{WHEN}: give exactly one of keywords, regex"),
    (ask({"keywords": "yes"}), f"{WHEN}.keywords: write a list: [ … ]"),
    (ask({"keywords": []}), f"{WHEN}.keywords: is empty; it needs at least 1"),
    (ask({"digits": "\\d+"}), f"{WHEN}.digits: cannot read '\\\\d+' in the key pattern"),
    (ask({"regex": "(a"}), f"{WHEN}.regex: is not a regular expression: missing )"),
    (ask({"regex": "(a+)+$"}), f"{WHEN}.regex: takes too long on words such as 'aaaaaa…'"),
    (ask({"regex": "(?P<agent_name>x)"}), f"{WHEN}.regex: 'agent_name' is built in"),
    (ask({"silence_ms": "5s"}), f"{WHEN}.silence_ms: write a whole number"),
    (ask({"silence_ms": 5}), f"{WHEN}.silence_ms: must be greater than or equal to 500 (found 5)"),
    (ask({"otherwise": False}), f"{WHEN}.otherwise: can only be true; leave it out otherwise"),
    (ask({"intent": "x"}), f"{WHEN}.intent: needs a language model"),
    (ask(collect="name"), f"{NODE}.collect: write an object"),
    (ask(collect={"name": "n", "type": "fone"}), f"{NODE}.collect.type: can be 'text', 'digits'"),
    (ask(collect={"name": "now_time"}), f"{NODE}.collect.name: 'now_time' is built in"),
    (ask(say="Hi {{agnet_name}}"), f"{NODE}.say[0]: nothing ever sets {{{{agnet_name}}}}; did you"),
    (ask(say="Hi {{secret:KEY}}"), f"{NODE}.say: a variable is written {{{{name}}}}"),
    (acts("hangup"), f"{NODE}.actions[0]: write an object"),
    (acts({"to": "x"}), f"{NODE}.actions[0]: needs a type, one of 'hangup', 'transfer'"),
    (
        acts({"type": "hang_up"}),
        f"{NODE}.actions[0]: can be 'hangup', 'transfer', 'dtmf', 'webhook', 'record' or 'lookup'; did you",
    ),
    (acts({"type": "transfer", "to": "555-0100"}), f"{NODE}.actions[0].to: '555-0100' is neither a number"),
    (acts({"type": "dtmf", "digits": "one"}), f"{NODE}.actions[0].digits: must be keys to press"),
    (tool(url=None), "tools[0].url: is required and missing"),
    (tool(url="crm.example/x"), "tools[0].url: must be an address that begins with http:// or https://"),
    (tool(name="look up"), "tools[0].name: must be a name that begins with a letter"),
    (tool(parameters={"type": "objekt"}), "tools[0].parameters: must describe an object"),
    (b'{"id": "\xff"}', "not UTF-8 text: invalid start byte at byte 8"),
    (agent().encode("utf-16"), "not UTF-8 text"),
    (agent().replace('"desk"', '"desk", "id": "desk"', 1), "the key 'id' stands twice in one object"),
    (
        agent().replace('"start"', '"start": "x", "start"'),
        "call_flow: the key 'start' stands twice in one object",
    ),
    (agent(llm=LLM | {"temperature": float("nan")}), "llm.temperature: nan is no number in JSON"),
    (
        agent().replace('"Desk"', '"Desk", "limits": {"budget_usd": 1e999}'),
        "limits.budget_usd: inf is no number",
    ),
    (
        agent().replace('"Desk"', '"Desk", "limits": {"budget_usd": 1' + "0" * 5000 + "}"),
        "a number has too many digits",
    ),
    (agent(greeting="Hi \ud800"), "greeting: holds half a character (U+D800)"),
    (agent(greeting="Hi \0"), "greeting: holds a control character (U+0000)"),
    ('{"a":' * 100_000, "nested too deeply"),
    ("// my agent\n{}", "not JSON at line 1, column 1"),
    (" \n", "the file is empty"),
]


@pytest.mark.parametrize(("text", "told"), WRONG, ids=[told[:50] for _, told in WRONG])
def test_each_wrong_file_is_told_what_is_wrong(text: str | bytes, told: str) -> None:
    inspection = inspect_agent(text, file="desk.json")
    assert inspection.agent is None and inspection.warnings == ()
    assert any(str(error).startswith(f"desk.json: {told}") for error in inspection.errors), inspection.errors
    assert all(len(str(error)) < 400 and "\n" not in str(error) for error in inspection.errors)


def test_a_key_that_stands_in_the_file_is_not_repeated() -> None:
    headers = {"Authorization": "Bearer sk-verysecret", "X-Bad\n": "sk-verysecret"}
    texts = [
        agent(llm=LLM | {"api_key": "sk-verysecret"}),
        tool(headers=headers),
        tool(headers="sk-verysecret"),
    ]
    for text in texts:
        told = [str(error) for error in inspect_agent(text, file="f").errors]
        assert told and not any("verysecret" in line for line in told)


@pytest.mark.parametrize(
    "text", [("\ufeff" + agent()).encode(), "\ufeff" + agent(), agent().replace(", ", ",\r\n")]
)
def test_what_editors_leave_in_files_does_no_harm(text: str | bytes) -> None:
    assert inspect_agent(text, file="f").agent is not None


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        (ask({"keywords": ["yes", "…"]}), f"{WHEN}.keywords: '…' holds no word, and is never heard"),
        (
            agent(
                {"id": "a", "prompt": "Help.", "transitions": [{"to": "bye", "when": {"intent": "done"}}]},
                start="a",
                llm=LLM,
                greeting=None,
            ),
            f"{NODE}.prompt: has no say beside it",
        ),
        (
            agent({"id": "x", "say": "x", "actions": [{"type": "hangup"}]}),
            f"{NODE}: node 'x' is never reached",
        ),
    ],
)
def test_what_is_odd_is_told(text: str, warned: str) -> None:
    inspection = inspect_agent(text, file="desk.json")
    assert inspection.agent is not None
    assert any(line.startswith(f"desk.json: {warned}") for line in inspection.warnings), inspection.warnings
