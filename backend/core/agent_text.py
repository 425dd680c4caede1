"""Reading an agent's text: JSON, then fields, then what spans fields. Every problem names where it is.

Refuses to touch files: it gets the text and a name to cite.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from backend.core.agent import Agent
from backend.core.agent_checks import Problem, find_errors, find_warnings
from backend.core.agent_errors import explain
from backend.errors import AgentError


@dataclass(frozen=True, slots=True)
class Inspection:
    """What became of an agent's text. `agent` is None when there are errors; warnings never stop it."""

    agent: Agent | None
    errors: tuple[AgentError, ...] = ()
    warnings: tuple[str, ...] = ()


def parse_agent(text: str | bytes, *, file: str) -> Agent:
    """The agent in this JSON text. Raises AgentError, the first of its problems; `file` is only cited."""
    inspection = inspect_agent(text, file=file)
    if inspection.agent is None:
        raise inspection.errors[0]
    return inspection.agent


def inspect_agent(text: str | bytes, *, file: str) -> Inspection:
    """Everything that is wrong, or odd, with the agent in this JSON text."""
    try:
        text = decoded(text)
    except UnicodeDecodeError as error:
        return Inspection(
            None, (AgentError(file, "", f"not UTF-8 text: {error.reason} at byte {error.start}"),)
        )
    syntax = _syntax_problem(text)
    if syntax:
        return Inspection(None, (AgentError(file, *syntax),))
    try:
        agent = Agent.model_validate_json(text)
    except ValidationError as error:
        found = explain(error.errors(include_url=False), json.loads(text))
        return Inspection(None, tuple(AgentError(file, *problem) for problem in found))
    errors = tuple(AgentError(file, *problem) for problem in find_errors(agent))
    if errors:
        return Inspection(None, errors)
    warnings = tuple(f"{file}: {field}: {reason}" for field, reason in find_warnings(agent))
    return Inspection(agent, warnings=warnings)


def decoded(text: str | bytes) -> str:
    """The text without the mark some editors begin a file with. Raises UnicodeDecodeError."""
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    return text.removeprefix("\ufeff")


class _Twice(dict[str, Any]):
    """An object in which a key stands twice."""

    def __init__(self, pairs: list[tuple[str, Any]], key: str) -> None:
        super().__init__(pairs)
        self.key = key


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return _Twice(pairs, key)
        seen.add(key)
    return dict(pairs)


def _syntax_problem(text: str) -> Problem | None:
    if not text.strip():
        return "", "the file is empty"
    try:
        loaded = json.loads(text, object_pairs_hook=_object, parse_constant=float)
        if not isinstance(loaded, dict):
            return "", "an agent is a JSON object: { … }"
        return next(_oddities(loaded, ""), None)
    except json.JSONDecodeError as error:
        return "", f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
    except RecursionError:
        return "", "nested too deeply"
    except ValueError as error:
        return "", "a number has too many digits" if "digits" in str(error) else str(error)


def _oddities(value: Any, path: str) -> Iterator[Problem]:
    """What JSON lets through and no agent can mean."""
    if isinstance(value, _Twice):
        yield path, f"the key {value.key!r} stands twice in one object; only one can count"
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _oddities(inner, f"{path}.{key}" if path else key)
            if odd := _odd_character(key):
                yield path, f"a key {odd}"
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _oddities(inner, f"{path}[{at}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, f"{value} is no number in JSON"
    elif isinstance(value, str) and (odd := _odd_character(value)):
        yield path, odd


def _odd_character(text: str) -> str | None:
    for char in text:
        if "\ud800" <= char <= "\udfff":
            return f"holds half a character (U+{ord(char):04X}); write the character itself"
        if char < " " and char not in "\t\n\r":
            return f"holds a control character (U+{ord(char):04X})"
    return None
