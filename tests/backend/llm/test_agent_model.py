"""Which key goes to which server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backend.core.agent_settings import LlmSettings
from backend.core.llm import Message
from backend.errors import LlmError
from backend.llm.agent_model import llm_keys, model_of
from backend.llm.openai import make_http_client
from backend.simulator.llm import LlmStandIn, running
from backend.simulator.llm_script import parse_llm_script

SECRETS = {"ROUTER_KEY": "router-key", "SPARE_KEY": "spare-key"}


def settings(**changes: Any) -> LlmSettings:
    return LlmSettings.model_validate_json(json.dumps({"provider": "openai", "model": "m", **changes}))


@pytest.mark.parametrize(
    ("llm", "first", "second"),
    [
        ({}, "Bearer main-key", None),
        ({"base_url": "HERE"}, "Bearer main-key", None),
        ({"base_url": "OTHER"}, None, None),
        ({"base_url": "OTHER", "api_key": "{{secret:ROUTER_KEY}}"}, "Bearer router-key", None),
        ({"api_key": "{{secret:NOT_SET}}"}, None, None),
        ({"fallback_model": "m2"}, "Bearer main-key", "Bearer main-key"),
        ({"fallback_base_url": "OTHER"}, "Bearer main-key", "no key"),
        (
            {"fallback_base_url": "OTHER", "fallback_api_key": "{{secret:SPARE_KEY}}"},
            "Bearer main-key",
            "Bearer spare-key",
        ),
        (
            {"fallback_model": "m2", "fallback_api_key": "{{secret:SPARE_KEY}}"},
            "Bearer main-key",
            "Bearer spare-key",
        ),
    ],
)
async def test_a_key_goes_to_its_own_server(
    llm: dict[str, str], first: str | None, second: str | None
) -> None:
    script = parse_llm_script({"rules": [{"refuse": {"status": 500}}]})
    asked: list[tuple[str | None, str]] = []
    here, other = LlmStandIn(script), LlmStandIn(script)
    async with running(here) as url, running(other) as other_url, make_http_client() as http:
        addresses = {"HERE": url, "OTHER": other_url}
        changes = {name: addresses.get(value, value) for name, value in llm.items()}
        model = model_of(settings(**changes), base_url=url, api_key="main-key", secrets=SECRETS, http=http)
        assert model is not None
        with pytest.raises(LlmError):
            async for _ in model.reply([Message("user", "Hello")]):
                pass
        await model.aclose()
        assert not http.is_closed  # it is shared
    # The first one is asked before the second, and each stand-in keeps its order.
    first_at = other if changes.get("base_url") == other_url else here
    asked = [(item.authorized_by, str(item.body["model"])) for item in first_at.asked]
    rest = [item for item in (*here.asked, *other.asked) if item is not first_at.asked[0]]
    assert asked[0] == (first, "m")
    assert [item.authorized_by or "no key" for item in rest] == ([] if second is None else [second])


async def test_no_model() -> None:
    async with make_http_client() as http:
        llm = LlmSettings.model_validate_json('{"provider": "none"}')
        assert model_of(llm, base_url="http://x/v1", api_key=None, secrets={}, http=http) is None


OWN = "{{secret:SPARE_KEY}}"


@pytest.mark.parametrize(
    ("llm", "keys"),
    [
        ({}, [("m", "http://here/v1", "OPENAI_API_KEY")]),
        ({"base_url": "http://other/v1"}, [("m", "http://other/v1", "")]),
        ({"api_key": OWN}, [("m", "http://here/v1", "SPARE_KEY")]),
        (
            {"fallback_model": "m2"},
            [("m", "http://here/v1", "OPENAI_API_KEY"), ("m2", "http://here/v1", "OPENAI_API_KEY")],
        ),
        (
            {"fallback_model": "m2", "fallback_api_key": OWN},
            [("m", "http://here/v1", "OPENAI_API_KEY"), ("m2", "http://here/v1", "SPARE_KEY")],
        ),
        (
            {"fallback_base_url": "http://other/v1"},
            [("m", "http://here/v1", "OPENAI_API_KEY"), ("m", "http://other/v1", "")],
        ),
    ],
)
def test_models_are_told_apart_by_name_server_and_key(llm: dict[str, str], keys: list[Any]) -> None:
    found = llm_keys(settings(**llm), base_url="http://here/v1", has_key=True)
    assert [(key.model, key.server, key.key) for key in found] == keys
    assert llm_keys(settings(), base_url="http://here/v1", has_key=False)[0].key == ""
    assert llm_keys(LlmSettings(), base_url="http://here/v1", has_key=True) == []
