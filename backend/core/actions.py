"""A node's actions as the agent file writes them → what is to be done in this call. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from backend.core.agent_checks import transfer_target_problem
from backend.core.call_flow import ActionSettings, Node
from backend.core.steps import Action, CallWebhook, Hangup, Record, SendDtmf, Transfer
from backend.core.templates import render
from backend.errors import FlowError


def actions_of(node: Node, variables: Mapping[str, str]) -> tuple[Action, ...]:
    """What is done at the node. Raises FlowError when a variable holds no number to transfer to."""
    return tuple(_action(node, item, variables) for item in node.actions)


def _action(node: Node, action: ActionSettings, variables: Mapping[str, str]) -> Action:
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
