"""Reading an agent's text: JSON, then fields, then what spans fields. Every problem names where it is.

Refuses to touch files: it gets the text and a name to cite.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from backend.core.agent import Agent
from backend.core.agent_checks import Problem, find_errors, find_warnings, nearest
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
    syntax = _syntax_problem(text)
    if syntax:
        return Inspection(None, (AgentError(file, *syntax),))
    try:
        agent = Agent.model_validate_json(text)
    except ValidationError as error:
        details = error.errors(include_url=False)
        found = [_explain(item) for item in details if not _shadowed(item, details)]
        return Inspection(None, tuple(AgentError(file, *problem) for problem in found))
    errors = tuple(AgentError(file, *problem) for problem in find_errors(agent))
    warnings = tuple(f"{file}: {field}: {reason}" for field, reason in find_warnings(agent))
    return Inspection(None if errors else agent, errors, warnings)


def _syntax_problem(text: str | bytes) -> Problem | None:
    def no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        if twice:
            raise ValueError(f"the key {twice[0]!r} stands twice in one object; only one can count")
        return dict(pairs)

    try:
        loaded = json.loads(text, object_pairs_hook=no_twins)
    except json.JSONDecodeError as error:
        return "", f"not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
    except UnicodeDecodeError as error:
        return "", f"not UTF-8 text: {error.reason} at byte {error.start}"
    except RecursionError:
        return "", "nested too deeply"
    except ValueError as error:
        return "", str(error)
    if not isinstance(loaded, dict):
        return "", "an agent is a JSON object: { … }"
    return None


def _shadowed(item: ErrorDetails, details: list[ErrorDetails]) -> bool:
    """A list is called too short when its only item was refused: the item's own error says more."""
    loc = item["loc"]
    return item["type"] == "too_short" and any(
        len(other["loc"]) > len(loc) and other["loc"][: len(loc)] == loc for other in details
    )


def _explain(item: ErrorDetails) -> Problem:
    loc = item["loc"]
    field = _path(loc)
    if item["type"] == "extra_forbidden":
        return field, f"unknown field{nearest(str(loc[-1]), _known_fields(loc[:-1]))}"
    if item["type"] == "missing":
        return field, "is required and missing"
    message = item["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    value = item["input"]
    if isinstance(value, str | int | float | bool) or value is None:
        shown = json.dumps(value, ensure_ascii=False)
        message += f" (found {shown if len(shown) <= 80 else shown[:77] + '…'})"
    return field, message


def _path(loc: tuple[int | str, ...]) -> str:
    path = ""
    model: Any = Agent
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not _is_union_tag(model, part):
            path += f".{part}" if path else part
        model = _step(model, part)
    return path


def _step(model: Any, part: int | str) -> Any:
    """The annotation one step further in."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        for name, info in model.model_fields.items():
            if part in (name, info.alias):
                return info.annotation
        return None
    if _is_union_tag(model, part):
        return next(item for item in _models_in(model) if _tag(item) == part)
    models = list(_models_in(model))
    if isinstance(part, int):
        return models[0] if len(models) == 1 else model
    return _step(models[0], part) if len(models) == 1 else None


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _tag(model: type[BaseModel]) -> str | None:
    info = model.model_fields.get("type")
    return next(iter(get_args(info.annotation)), None) if info else None


def _is_union_tag(annotation: Any, part: int | str) -> bool:
    if isinstance(annotation, type):
        return False
    models = list(_models_in(annotation))
    return len(models) > 1 and any(_tag(model) == part for model in models)


def _known_fields(loc: tuple[int | str, ...]) -> list[str]:
    model: Any = Agent
    for part in loc:
        model = _step(model, part)
    models = list(_models_in(model))
    return [info.alias or name for name, info in models[0].model_fields.items()] if models else []
