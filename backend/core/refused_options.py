"""Options that a caller may choose, and that the tool which is handed the choice does not take. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from backend.core.agent import Agent
from backend.core.call_flow import LookupAction
from backend.core.templates import variable_names

_THE_VARIABLE = re.compile(r"\s*\{\{[^{}]*\}\}\s*")
_REASON = "may be {}, which the enum of {!r} in the tool {!r} does not hold: the look-up would fail"


def refused_options(agent: Agent) -> Iterator[tuple[str, str]]:
    """Field and reason, for each argument of a look-up."""
    schemas = {tool.name: tool.parameters.get("properties") or {} for tool in agent.tools}
    for at, node in enumerate(agent.call_flow.nodes):
        for position, action in enumerate(node.actions):
            if isinstance(action, LookupAction):
                field = f"call_flow.nodes[{at}].actions[{position}].arguments"
                yield from _of_lookup(agent, field, action, schemas.get(action.tool, {}))


def _of_lookup(
    agent: Agent, field: str, action: LookupAction, schemas: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    for name, value in action.arguments.items():
        schema = schemas.get(name)
        enum = schema.get("enum") if isinstance(schema, dict) else None
        if not (isinstance(enum, list) and isinstance(value, str) and _THE_VARIABLE.fullmatch(value)):
            continue
        taken = {str(item) for item in enum}
        refused = [option for option in _options(agent, variable_names(value)) if option not in taken]
        if refused:
            yield f"{field}.{name}", _REASON.format(" or ".join(map(repr, refused)), name, action.tool)


def _options(agent: Agent, variables: tuple[str, ...]) -> list[str]:
    """What callers may choose for these, each once."""
    collects = (collect for node in agent.call_flow.nodes for collect in node.collect)
    options = (option.value for item in collects if item.name in variables for option in item.options)
    return list(dict.fromkeys(options))
