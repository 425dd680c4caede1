"""What a call's two sides have heard of each other so far, for the language model. Pure.

The agent's words count as far as they were played, the caller's as they were recognised.
"""

from __future__ import annotations

from collections.abc import Sequence

from backend.core.llm import Message, ToolCall

_MOST_MESSAGES = 60
_MOST_CHARACTERS = 12_000
_MOST_SAID = 2_000  # characters of one turn; what a caller says in a minute is under 1,000
BROKEN_OFF = " —"
"""Ends words of the agent's that were interrupted."""


class History:
    """One call's talk. The oldest is forgotten beyond 60 messages or 12,000 characters."""

    def __init__(self) -> None:
        self._messages: list[Message] = []

    def agent(self, heard: str, *, interrupted: bool = False) -> None:
        """The caller heard the agent say this."""
        if heard.strip():
            self._add("assistant", heard.strip() + (BROKEN_OFF if interrupted else ""))

    def caller(self, said: str) -> None:
        """The caller said this."""
        if said.strip():
            self._add("user", said.strip()[:_MOST_SAID])

    def keys(self, digits: str) -> None:
        """The caller pressed these keys."""
        self._add("user", f"(pressed the keys {digits})")

    def tools(self, calls: Sequence[ToolCall], results: Sequence[str]) -> None:
        """The model used tools, and this is what they gave: one result a call."""
        self._messages.append(Message("assistant", "", tool_calls=tuple(calls)))
        for call, result in zip(calls, results, strict=True):
            self._messages.append(Message("tool", result[:_MOST_SAID], tool_call_id=call.id))

    def messages(self, *, then_said: str | None = None) -> tuple[Message, ...]:
        """The talk, oldest first; `then_said`: as if the caller had said that now."""
        kept = list(self._messages)
        if then_said is not None:
            kept.append(Message("user", then_said[:_MOST_SAID]))
        size = 0
        for at in range(len(kept) - 1, -1, -1):
            size += len(kept[at].text) + sum(len(call.arguments) for call in kept[at].tool_calls)
            if size > _MOST_CHARACTERS or len(kept) - at > _MOST_MESSAGES:
                kept = kept[at + 1 :]
                break
        while kept and kept[0].role == "tool":
            del kept[0]  # a result without its call is refused
        return tuple(kept)

    def _add(self, role: str, text: str) -> None:
        last = self._messages[-1] if self._messages else None
        if role == "user":
            self._messages.append(Message("user", text))
        elif last is not None and last.role == "assistant" and not last.tool_calls:
            self._messages[-1] = Message("assistant", f"{last.text} {text}")
        else:
            self._messages.append(Message("assistant", text))
        del self._messages[: -2 * _MOST_MESSAGES]


def without_opening(heard: str, opening: str) -> str:
    """What was heard after `opening`, which may have been cut short; all, if it opened otherwise."""
    words, first = heard.split(), opening.split()
    said = min(len(words), len(first))
    return " ".join(words[said:]) if first and words[:said] == first[:said] else heard
