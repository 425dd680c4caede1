"""A node's actions as the agent file writes them → what is to be done in this call. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from backend.core.agent import Agent
from backend.core.agent_checks import transfer_target_problem
from backend.core.call_flow import ActionSettings, LookupAction, Node
from backend.core.steps import Action, CallWebhook, Hangup, Lookup, Record, SendDtmf, Transfer
from backend.core.templates import render
from backend.errors import FlowError


def actions_of(agent: Agent, node: Node, variables: Mapping[str, str]) -> tuple[Action, ...]:
    """What is done at the node. Raises FlowError when a variable holds no number to transfer to."""
    return tuple(_action(agent, node, item, variables) for item in node.actions)


def _action(agent: Agent, node: Node, action: ActionSettings, variables: Mapping[str, str]) -> Action:
    match action.type:
        case "hangup":
            return Hangup()
        case "transfer":
            to = render(action.to, variables)
            if problem := transfer_target_problem(to):
                raise FlowError(f"node {node.id!r} cannot transfer the call: {problem}")
            return Transfer(to)
        case "dtmf":
            return SendDtmf(action.digits)
        case "webhook":
            return CallWebhook(action.url)
        case "record":
            return Record(action.on)
        case "lookup":
            return _lookup(agent, node, action, variables)


def _lookup(agent: Agent, node: Node, action: LookupAction, variables: Mapping[str, str]) -> Lookup:
    tool = next((tool for tool in agent.tools if tool.name == action.tool), None)
    if tool is None:
        raise FlowError(f"node {node.id!r} looks up with {action.tool!r}, and there is no such tool")
    kinds = tool.parameters.get("properties") or {}
    given = {name: _argument(value, kinds.get(name), variables) for name, value in action.arguments.items()}
    known = {name: value for name, value in given.items() if value != ""}  # what is not known is not sent
    return Lookup(tool.name, json.dumps(known), tool.fillers(agent.language))


def _argument(value: str | bool | int | float, kind: Any, variables: Mapping[str, str]) -> Any:
    """The value as the tool's parameter wants it; variables hold text alone."""
    if not isinstance(value, str):
        return value
    text = render(value, variables)
    wanted = kind.get("type") if isinstance(kind, dict) else None
    if wanted == "boolean":
        return {"yes": True, "true": True, "no": False, "false": False}.get(text.lower(), text)
    try:
        if wanted == "integer":
            return int(text)
        return float(text) if wanted == "number" else text
    except ValueError:
        return text  # the tool's own check says what is wrong
