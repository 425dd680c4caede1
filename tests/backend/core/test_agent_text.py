from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.agent import Agent, missing_variables
from backend.core.agent_text import inspect_agent, parse_agent
from backend.errors import AgentError


def agent(**changes: Any) -> dict[str, Any]:
    """A small sound agent, with changes."""
    flow = {"start": "bye", "nodes": [{"id": "bye", "say": "Goodbye.", "actions": [{"type": "hangup"}]}]}
    return {"id": "desk", "name": "Desk", "greeting": "Hello.", "call_flow": flow} | changes


def told(data: dict[str, Any] | str) -> list[str]:
    text = data if isinstance(data, str) else json.dumps(data)
    return [str(error) for error in inspect_agent(text, file="desk.json").errors]


def test_the_least_agent_has_the_documented_defaults() -> None:
    parsed = parse_agent(json.dumps(agent()), file="desk.json")
    assert parsed.tts_provider == "sesame" and parsed.use_websocket_tts
    assert parsed.sesame_settings.speaker_id == 0
    assert (parsed.stt.provider, parsed.llm.provider) == ("local", "none")
    turns = parsed.turns
    assert (turns.end_of_turn_ms, turns.incomplete_ms, turns.digits_ms) == (320, 900, 1100)
    assert (turns.barge_in, turns.min_speech_ms, turns.idle_ms, turns.max_reprompts) == (True, 120, 8000, 2)
    assert (parsed.limits.max_call_seconds, parsed.limits.max_silence_seconds) == (900, 30)


def test_everything_in_the_contract_can_be_written() -> None:
    full = agent(
        **{"$schema": "./agent.schema.json"},
        id="8015D274-4291-432a-acba-fcac59fac97b",
        phone_numbers=["+15550100001"],
        language="en-GB",
        tts_provider="elevenlabs",
        use_websocket_tts=False,
        tts_fallbacks=["sesame_rest", "sesame_fallback", "elevenlabs_rest", "telnyx"],
        sesame_settings={"speaker_id": 9, "voice": "heart", "temperature": 0, "top_k": 50, "seed": 1},
        elevenlabs_settings={"voice_id": "v", "stability": 0.5, "similarity_boost": 1, "speed": 1.1},
        stt={"provider": "telnyx", "model": "m"},
        llm={"provider": "openai", "model": "m", "base_url": "http://127.0.0.1:1/v1", "temperature": 0.2},
        system_prompt="Be kind to {{who}}.",
        variables={"who": "everybody", "case": None},
        call_flow={
            "start": "ask",
            "nodes": [
                {
                    "id": "ask",
                    "say": ["One.", "Two."],
                    "prompt": "Ask what {{who}} wants.",
                    "listen": True,
                    "collect": {"name": "wish"},
                    "tools": ["look"],
                    "actions": [
                        {"type": "dtmf", "digits": "1w2"},
                        {"type": "webhook", "url": "https://example.com/x"},
                        {"type": "record", "on": True},
                    ],
                    "transitions": [
                        {"to": "ask", "when": {"intent": "to ask again"}},
                        {"to": "ask", "when": {"tool": "look"}},
                        {"to": "end", "when": {"silence_ms": 5000}},
                        {"to": "end", "when": {"otherwise": True}, "set": {"case": "7"}},
                    ],
                },
                {
                    "id": "end",
                    "say": "{{wish}} {{case}}",
                    "actions": [{"type": "transfer", "to": "sip:a@b.c"}],
                },
            ],
        },
        turns={"barge_in": False, "idle_prompts": ["Hello?"]},
        limits={"budget_usd": 1.5},
        recording={"enabled": True, "channels": "single", "format": "wav"},
        voicemail={"detect": True, "message": "Call us."},
        tools=[{"name": "look", "description": "Looks.", "url": "https://example.com", "parameters": {}}],
    )
    assert told(full) == []
    parsed = parse_agent(json.dumps(full), file="x")
    assert parsed.call_flow.nodes[0].say == ("One.", "Two.")
    assert missing_variables(parsed, {"who"}) == ["case"]
    assert missing_variables(parsed, {"case"}) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"greting": "Hi"}, "desk.json: greting: unknown field; did you mean 'greeting'?"),
        ({"zzz": 1}, "desk.json: zzz: unknown field; known: $schema, call_flow"),
        ({"turns": {"bargein": True}}, "desk.json: turns.bargein: unknown field; did you mean 'barge_in'?"),
        (
            {"sesame_settings": {"speaker_id": 10}},
            "desk.json: sesame_settings.speaker_id: must be less",
        ),
        ({"use_websocket_tts": "yes"}, "desk.json: use_websocket_tts: write true or false"),
        ({"turns": {"idle_ms": "8000"}}, "desk.json: turns.idle_ms: write a whole number"),
        ({"id": "Front Desk"}, "desk.json: id: must be a name in lower-case letters"),
        ({"phone_numbers": ["0301234567"]}, "desk.json: phone_numbers[0]: must be a number with its"),
        ({"greeting": "  "}, "desk.json: greeting: is empty"),
        ({"greeting": "Hi {{name"}, "desk.json: greeting: a variable is written {{name}}"),
        ({"greeting": "Hi {{agent_name|shout}}"}, "desk.json: greeting: unknown filter 'shout'"),
        ({"llm": {"provider": "openai"}}, "desk.json: llm: provider 'openai' needs a model"),
        (
            {"tts_provider": "siri"},
            "desk.json: tts_provider: can be 'sesame' or 'elevenlabs' (found",
        ),
        (
            {"call_flow": {"start": "a", "nodes": []}},
            "desk.json: call_flow.nodes: is empty; it needs at least 1",
        ),
    ],
)
def test_a_wrong_field_is_named_with_its_reason(changes: dict[str, Any], expected: str) -> None:
    errors = told(agent(**changes))
    assert len(errors) == 1
    assert errors[0].startswith(expected)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({"sey": "x"}, "call_flow.nodes[1].sey: unknown field; did you mean 'say'?"),
        ({"say": ["fine", ""]}, "call_flow.nodes[1].say[1]: is empty"),
        (
            {"actions": [{"type": "hangup", "to": "x"}]},
            "call_flow.nodes[1].actions[0].to: unknown field; known: type",
        ),
        (
            {"actions": [{"type": "transfer", "too": "x"}]},
            "call_flow.nodes[1].actions[0].to: is required and missing",
        ),
        ({"actions": [{"type": "explode"}]}, "call_flow.nodes[1].actions[0]: can be 'hangup', 'transfer'"),
        (
            {"transitions": [{"to": "bye", "when": {"keyword": ["x"]}}]},
            "call_flow.nodes[1].transitions[0].when.keyword: unknown field; did you mean 'keywords'?",
        ),
        (
            {"transitions": [{"to": "bye", "when": {"regex": "(a"}}]},
            "call_flow.nodes[1].transitions[0].when.regex: is not a regular expression: missing )",
        ),
        (
            {"transitions": [{"to": "bye", "when": {"digits": "1x"}}]},
            "call_flow.nodes[1].transitions[0].when.digits: cannot read 'x' in the key pattern '1x'",
        ),
        (
            {"transitions": [{"to": "bye", "when": {}}]},
            "call_flow.nodes[1].transitions[0].when: give exactly one of keywords, regex, digits",
        ),
        (
            {"transitions": [{"to": "bye", "when": {"digits": "1", "keywords": ["one"]}}]},
            "call_flow.nodes[1].transitions[0].when: give exactly one",
        ),
        (
            {"transitions": [{"to": "bye", "when": {"otherwise": False}}]},
            "call_flow.nodes[1].transitions[0].when.otherwise:",
        ),
        ({"collect": {"name": "a b"}}, "call_flow.nodes[1].collect.name: must be a name that begins"),
    ],
)
def test_a_wrong_node_is_named_with_its_path(node: dict[str, Any], expected: str) -> None:
    data = agent()
    data["call_flow"]["nodes"].append({"id": "extra"} | node)
    assert told(data)[0].startswith(f"desk.json: {expected}")


def test_all_problems_are_told_at_once() -> None:
    assert len(told(agent(greting="x", language="English", limits={"max_call_seconds": 1}))) == 3


def test_syntax_errors_name_line_and_column() -> None:
    assert told('{\n  "id": "desk",\n  "name": "Desk" "x"\n}') == [
        "desk.json: not JSON at line 3, column 18: Expecting ',' delimiter"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty"),
        ("[]", "an agent is a JSON object"),
        ('{"id": "a", "id": "b"}', "the key 'id' stands twice"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_object_is_told(text: str, expected: str) -> None:
    assert expected in told(text)[0]


def test_bytes_that_are_not_utf8_are_told() -> None:
    with pytest.raises(AgentError, match="not UTF-8"):
        parse_agent(b'{"id": "\xff"}', file="desk.json")


def test_the_error_knows_its_parts() -> None:
    with pytest.raises(AgentError) as caught:
        parse_agent(json.dumps(agent(greting="x")), file="desk.json")
    assert (caught.value.file, caught.value.field) == ("desk.json", "greting")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(Agent.model_fields)), _json)
def test_whatever_a_field_holds_is_taken_or_told(field: str, value: Any) -> None:
    inspection = inspect_agent(json.dumps(agent(**{field: value})), file="desk.json")
    assert (inspection.agent is None) == bool(inspection.errors)


@given(_json)
def test_whatever_a_node_holds_is_taken_or_told(value: Any) -> None:
    node = {"id": "x", "say": value, "transitions": value, "actions": value, "collect": value}
    flow = {"start": "x", "nodes": [node, value]}
    assert told(agent(call_flow=flow))
