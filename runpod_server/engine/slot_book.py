"""Which slot of the model goes to whom, and what lies in those that nobody uses.

A slot given back may still hold a conversation, under a key; whoever asks for that key gets that
slot and need not read it all again. Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable


class SlotBook:
    """`slots` slots, each taken, free, or free and holding what a key names."""

    def __init__(self, slots: int) -> None:
        # The longest free first.
        self._free: OrderedDict[int, Hashable | None] = OrderedDict.fromkeys(range(slots))
        self._holding: dict[Hashable, int] = {}

    @property
    def free(self) -> int:
        """How many nobody uses."""
        return len(self._free)

    def take(self, key: Hashable | None) -> tuple[int, bool]:
        """A free slot, and whether it holds what `key` names. Else an empty one, or the one left longest.

        Raises LookupError when none is free.
        """
        if not self._free:
            raise LookupError("no slot is free")
        kept = self._holding.get(key) if key is not None else None
        if kept is not None:
            self._remove(kept)
            return kept, True
        empty = (slot for slot, holds in self._free.items() if holds is None)
        slot = next(empty, next(iter(self._free)))
        self._remove(slot)
        return slot, False

    def give_back(self, slot: int, key: Hashable | None = None) -> None:
        """The slot is free, and holds what `key` names, or nothing worth keeping."""
        if slot in self._free:
            raise ValueError(f"slot {slot} is free already")
        if key is not None and key in self._holding:
            self._free[self._holding.pop(key)] = None
        self._free[slot] = key
        if key is not None:
            self._holding[key] = slot

    def held(self) -> tuple[Hashable, ...]:
        """The keys of all that lies in free slots."""
        return tuple(self._holding)

    def forget(self, key: Hashable) -> None:
        """What `key` names is not needed any more."""
        slot = self._holding.pop(key, None)
        if slot is not None:
            self._free[slot] = None

    def _remove(self, slot: int) -> None:
        key = self._free.pop(slot)
        if key is not None:
            del self._holding[key]
