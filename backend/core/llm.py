"""What passes between a call and a language model: messages and tools in; text, tool calls and usage out.

Types only. Refuses to know which server answers, and what the words and tools are for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool the model may call."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON Schema of its arguments, an object."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool the model calls."""

    id: str
    """The model's own, for the message that brings the result."""
    name: str
    arguments: str
    """JSON text as the model wrote it, unchecked; "" for none."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation as the model sees it."""

    role: Role
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    """Of an assistant; each must be answered by a tool message before the next request."""
    tool_call_id: str | None = None
    """Of a tool message: which call this is the result of."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A fragment of what the model says, of any length, in order."""

    text: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What a reply cost; last, and only where the server tells it."""

    prompt_tokens: int
    completion_tokens: int
    model: str
    """The model that answered: the fallback, where the first one failed."""


LlmEvent = TextDelta | ToolCall | Usage
"""In the order of the stream; a ToolCall comes whole."""
