"""The reference names every field of an agent file, and its example is a sound agent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from backend.core import agent, agent_settings, call_flow
from backend.core.agent_text import inspect_agent
from backend.core.templates import BUILTIN_VARIABLES

TEXT = (Path(__file__).parents[3] / "docs" / "reference" / "agents.md").read_text(encoding="utf-8")


def field_names() -> Iterator[tuple[str, str]]:
    modules = (agent, agent_settings, call_flow)
    for model in (value for module in modules for value in vars(module).values()):
        if isinstance(model, type) and issubclass(model, BaseModel) and model is not BaseModel:
            for name, info in model.model_fields.items():
                yield model.__name__, info.alias or name


@pytest.mark.parametrize(("model", "name"), sorted(set(field_names())))
def test_every_field_is_in_the_reference(model: str, name: str) -> None:
    assert re.search(rf'[`"]{re.escape(name)}["`]', TEXT), f"{model}.{name}"


@pytest.mark.parametrize("name", sorted(BUILTIN_VARIABLES))
def test_every_built_in_variable_is_in_the_reference(name: str) -> None:
    assert f"`{name}`" in TEXT


def test_the_defaults_stand_in_the_reference() -> None:
    tables = TEXT[TEXT.index("## Taking turns") :]
    documented = (agent_settings.TurnSettings, agent_settings.Limits, agent_settings.FailoverSettings)
    for name, info in (pair for model in documented for pair in model.model_fields.items()):
        row = re.search(rf"^\| `{name}` \|(.*?)\|", tables, re.MULTILINE)
        assert row, name
        default = info.default[0] if isinstance(info.default, tuple) else info.default
        shown = "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
        assert row.group(1).strip(' `"[]') == shown, name


def test_the_example_is_sound() -> None:
    example = re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)
    assert example
    inspection = inspect_agent(example.group(1), file="example.json")
    assert inspection.agent and not inspection.warnings, inspection.errors
