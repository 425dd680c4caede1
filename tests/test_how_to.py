"""Agents that the how-to pages show are sound."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backend.core.agent_text import inspect_agent

PAGES = sorted((Path(__file__).parents[1] / "docs" / "how-to").glob("*.md"))
EXAMPLES = [
    (page.name, example)
    for page in PAGES
    for example in re.findall(r"```json\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    if "agent.schema.json" in example
]


def test_there_is_one() -> None:
    assert "survive-a-dying-voice.md" in dict(EXAMPLES)


@pytest.mark.parametrize(("page", "example"), EXAMPLES)
def test_its_agent_is_sound(page: str, example: str) -> None:
    inspection = inspect_agent(example, file=page)
    assert inspection.agent and not inspection.warnings, inspection.errors
