from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backend.core.agent import Agent
from backend.core.agent_text import parse_agent
from backend.core.flow import Flow
from backend.core.prompts import cut, prompt_key, static_pieces, voice_of
from backend.core.speech import ROUTE_NAMES

AGENTS = Path(__file__).parents[3] / "agents"


def agent(say: str = "Hello.", **more: Any) -> Agent:
    nodes = [
        {"id": "a", "say": say, "transitions": [{"to": "b", "when": {"keywords": ["x"]}}]},
        {"id": "b", "say": "Goodbye.", "actions": [{"type": "hangup"}]},
    ]
    return parse_agent(
        json.dumps({"id": "a", "name": "Ada", "call_flow": {"start": "a", "nodes": nodes}} | more), file="a"
    )


def spoken(agent: Agent, *also: str) -> list[str]:
    return [item.piece.text for item in static_pieces(agent, also)]


def test_all_that_an_agent_says_to_everybody_is_found_in_the_order_it_is_wanted() -> None:
    assert spoken(agent(greeting="Hi."), "We are sorry.", "Hi.") == [
        "Hi.",
        "Hello.",
        "Goodbye.",
        "Sorry, I didn't catch that.",
        "Are you still there?",
        "I can't hear you, so I will hang up now.",
        "I'm sorry, I still didn't understand.",
        "Please call again.",
        "I'm sorry, our time is up.",
        "I'm sorry, we are having a technical problem.",
        "Please call again later.",
        "We are sorry.",
    ]


def test_pieces_with_a_callers_words_are_left_out_and_those_around_them_are_not() -> None:
    found = spoken(
        agent(
            "Thank you, {{who}}. Your number is {{phone|digits}}. "
            "{{agent_name}} from {{town}} asks: is it right?",
            variables={"town": "Berlin", "who": None, "phone": None},
        )
    )
    assert found[0] == "Ada from Berlin asks: is it right?"
    assert not any("Thank" in text or "number" in text or "Alexander" in text for text in found)


def test_what_is_said_right_before_is_known_where_it_is_always_the_same() -> None:
    found = static_pieces(agent("One. Two. It is {{now_time}}. Three.", greeting="Zero."))
    before = {item.piece.text: item.before for item in found}
    assert {name: before[name] for name in ("Zero.", "One.", "Two.", "Three.")} == {
        "Zero.": "",
        "One.": "Zero.",
        "Two.": "One.",
        "Three.": "",
    }


@pytest.mark.parametrize("name", ["front-desk", "reminder"])
def test_a_call_of_a_shipped_agent_starts_with_prepared_words(name: str) -> None:
    shipped = parse_agent((AGENTS / f"{name}.json").read_text(), file=name)
    static = set(spoken(shipped))
    assert len(static) >= 10
    for node in shipped.call_flow.nodes:
        assert Flow(shipped, {}).texts_at(node.id) or not node.say
    if name == "front-desk":
        greeting = Flow(shipped, {}).start().text
        assert {piece.text for piece in cut(greeting, shipped.language)} <= static


def test_a_voice_is_the_same_whatever_way_leads_to_it() -> None:
    ada = agent(sesame_settings={"speaker_id": 3, "temperature": 0.7})
    assert (
        voice_of(ada, "sesame_ws")
        == voice_of(ada, "sesame_rest")
        == 'sesame {"speaker_id": 3, "temperature": 0.7}'
    )
    voices = [voice_of(ada, route) for route in ROUTE_NAMES]
    assert voices[-1] is None, "the carrier speaks by itself"
    assert len(set(voices)) == 5
    assert voice_of(agent(sesame_settings={"chunk_samples": 960}), "sesame_ws") == voice_of(
        agent(), "sesame_ws"
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"speaker_id": 1}, {"voice": "rowan"}, {"temperature": 0.5}, {"top_k": 10}, {"seed": 1},
        {"max_audio_length_ms": 1000},
    ],
)  # fmt: skip
def test_other_settings_are_another_voice(settings: dict[str, Any]) -> None:
    plain, other = (voice_of(one, "sesame_ws") for one in (agent(), agent(sesame_settings=settings)))
    assert plain and other and prompt_key(plain, "Hello.") != prompt_key(other, "Hello.")
    assert prompt_key(plain, "Hello.") != prompt_key(plain, "Hello!")
    assert len(prompt_key(plain, "Hello.")) == 64


def test_what_may_be_said_next_is_cut_once_and_not_at_every_step() -> None:
    text = "We are open from nine to five. On Sundays we are closed."
    assert cut(text, "en-US") is cut(text, "en-US")
    assert [piece.text for piece in cut(text, "en-US")] == [
        "We are open from nine to five.",
        "On Sundays we are closed.",
    ]
