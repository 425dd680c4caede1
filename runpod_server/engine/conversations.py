"""The recent turns of every conversation: bounded in number, length and time. Pure: time is passed in."""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

TurnT = TypeVar("TurnT")


@dataclass(slots=True)
class _Conversation(Generic[TurnT]):
    turns: deque[tuple[TurnT, int]] = field(default_factory=deque)  # with the positions each takes
    positions: int = 0
    version: int = 0
    used_s: float = 0.0


class Conversations(Generic[TurnT]):
    """Turns by context id. The oldest turn goes first, the conversation longest unused likewise."""

    def __init__(self, *, max_positions: int, max_conversations: int = 1024, keep_s: float = 600.0) -> None:
        self.max_positions = max_positions
        self._max_conversations, self._keep_s = max_conversations, keep_s
        self._versions = itertools.count(1)  # one row for all: an id that comes back is not what it was
        self._by_id: OrderedDict[str, _Conversation[TurnT]] = OrderedDict()  # longest unused first

    def __len__(self) -> int:
        return len(self._by_id)

    def turns(self, context_id: str, now_s: float) -> tuple[tuple[TurnT, ...], int]:
        """The turns so far, oldest first, and their version, which changes with every turn."""
        self._expire(now_s)
        found = self._by_id.get(context_id)
        if found is None:
            return (), 0
        self._touch(context_id, found, now_s)
        return tuple(turn for turn, _ in found.turns), found.version

    def add(self, context_id: str, turn: TurnT, positions: int, now_s: float) -> int:
        """One more turn, which takes so many of the model's positions; the version from now on."""
        self._expire(now_s)
        found = self._by_id.setdefault(context_id, _Conversation())
        found.turns.append((turn, positions))
        found.positions += positions
        while found.positions > self.max_positions:
            _, gone = found.turns.popleft()
            found.positions -= gone
        found.version = next(self._versions)
        self._touch(context_id, found, now_s)
        while len(self._by_id) > self._max_conversations:
            self._by_id.popitem(last=False)
        return found.version

    def forget(self, context_id: str) -> None:
        """Free all that is kept of a conversation."""
        self._by_id.pop(context_id, None)

    def _touch(self, context_id: str, conversation: _Conversation[TurnT], now_s: float) -> None:
        conversation.used_s = now_s
        self._by_id.move_to_end(context_id)

    def _expire(self, now_s: float) -> None:
        while self._by_id and next(iter(self._by_id.values())).used_s + self._keep_s <= now_s:
            self._by_id.popitem(last=False)
