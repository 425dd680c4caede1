from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backend.core.agent import Agent
from backend.core.agent_secrets import MASK, redacted, secret_of, unset_secrets, without_key


def agent(**changes: Any) -> Agent:
    flow = {"start": "a", "nodes": [{"id": "a", "say": "Hello.", "actions": [{"type": "hangup"}]}]}
    return Agent.model_validate_json(json.dumps({"id": "front", "name": "F", "call_flow": flow, **changes}))


def test_what_is_named_and_not_set_is_said() -> None:
    tool = {
        "name": "book",
        "description": "Books.",
        "url": "https://crm.example/x",
        "headers": {"Authorization": "Bearer {{secret:CRM_KEY}}", "X-Other": "{{ secret:OTHER }}"},
    }
    llm = {"provider": "openai", "model": "m", "api_key": "{{secret:LLM_KEY}}"}
    sentences = list(unset_secrets(agent(llm=llm, tools=[tool]), {"OTHER": "x"}))
    assert sentences == [
        "agent front: llm.api_key: set LLM_KEY, and name it in AGENT_SECRETS",
        "agent front: tools[0].headers.Authorization: set CRM_KEY, and name it in AGENT_SECRETS",
    ]


def test_the_value_of_a_field() -> None:
    assert secret_of("{{secret:A}}", {"A": "x", "B": "y"}) == "x"
    assert secret_of("{{secret:C}}", {"A": "x"}) is None
    assert secret_of(None, {"A": "x"}) is None


@given(secret=st.text(min_size=4, max_size=40), before=st.text(max_size=20), after=st.text(max_size=20))
def test_no_value_is_left_however_it_is_written(secret: str, before: str, after: str) -> None:
    assume(secret not in MASK)
    shapes = [
        secret,
        quote(secret, safe=""),
        base64.b64encode(secret.encode()).decode(),
        json.dumps(secret, ensure_ascii=False)[1:-1],
        json.dumps(secret)[1:-1],
    ]
    for shape in shapes:
        told = redacted(f"{before}<{shape}>{after}", {"A": secret})
        assert f"<{MASK}>" in told or shape not in told
        assert f"<{shape}>" not in told


def test_a_longer_value_goes_first_and_short_ones_stay() -> None:
    assert (
        redacted("key-12345 key-1 abc", {"A": "key-1", "B": "key-12345", "C": "abc"}) == f"{MASK} {MASK} abc"
    )


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("not with s3cr3t-value-1!", "not with [secret]!"),
        ("not with s3cr3t-val", "not with [secret]"),
        ("not with s3cr3", "not with s3cr3"),
        ("", ""),
    ],
)
def test_a_key_is_cut_out_even_where_its_end_was_cut_off(said: str, told: str) -> None:
    assert without_key(said, "s3cr3t-value-1") == told
    assert without_key(said, None) == without_key(said, "") == said
