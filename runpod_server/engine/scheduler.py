"""Who speaks now and who waits: a number of slots and a bounded queue. Pure: no clock, no event loop."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from runpod_server.errors import Busy

Key = TypeVar("Key", bound=Hashable)


class Slots(Generic[Key]):
    """`capacity` keys hold slots; up to `max_waiting` more wait, first come, first served."""

    def __init__(self, capacity: int, max_waiting: int) -> None:
        self.capacity, self.max_waiting = capacity, max_waiting
        self._active: set[Key] = set()
        self._waiting: OrderedDict[Key, None] = OrderedDict()

    @property
    def active(self) -> int:
        """How many hold a slot."""
        return len(self._active)

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._waiting)

    def enter(self, key: Key) -> bool:
        """True: `key` has a slot now. False: it waits, and `leave` of another will name it.

        Raises Busy when the queue is full too.
        """
        if len(self._active) < self.capacity:
            self._active.add(key)
            return True
        if len(self._waiting) >= self.max_waiting:
            raise Busy(
                f"all {self.capacity} streams are taken and {len(self._waiting)} requests wait already: "
                "try again shortly, use another server, or raise MAX_STREAMS or MAX_QUEUE"
            )
        self._waiting[key] = None
        return False

    def leave(self, key: Key) -> Key | None:
        """Give up a slot or a place in the queue; returns who gets the slot now. Unknown keys are ignored."""
        if key in self._waiting:
            del self._waiting[key]
            return None
        if key not in self._active:
            return None
        self._active.discard(key)
        if not self._waiting:
            return None
        following, _ = self._waiting.popitem(last=False)
        self._active.add(following)
        return following
