"""Who speaks now and who waits: a number of slots and a bounded queue. Pure: no clock, no event loop."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from runpod_server.errors import Busy

Key = TypeVar("Key", bound=Hashable)


class Slots(Generic[Key]):
    """`capacity` keys hold slots; up to `max_waiting` more wait, first come, first served.

    A key that made way is never refused: it comes back behind all who wait, in a hurry before them.
    """

    def __init__(self, capacity: int, max_waiting: int) -> None:
        self.capacity, self.max_waiting = capacity, max_waiting
        self._active: set[Key] = set()
        self._waiting: OrderedDict[Key, None] = OrderedDict()
        self._hurried: OrderedDict[Key, None] = OrderedDict()  # made way before, go first
        self._last: OrderedDict[Key, None] = OrderedDict()  # made way before, go last

    @property
    def active(self) -> int:
        """How many hold a slot."""
        return len(self._active)

    @property
    def waiting(self) -> int:
        """How many wait for their first one."""
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
        for line in self._lines:
            line.pop(key, None)
        if key not in self._active:
            return None
        self._active.discard(key)
        return self._next()

    def make_way(self, key: Key) -> Key | None:
        """Give up a slot if somebody has more need of it; returns who gets it. None: it keeps its slot."""
        if key not in self._active or not (self._hurried or self._waiting):
            return None
        self._active.discard(key)
        return self._next()

    def come_back(self, key: Key) -> bool:
        """Who made way wants a slot again. True: it has one. False: it is the last in line."""
        if len(self._active) < self.capacity:
            self._active.add(key)
            return True
        self._last[key] = None
        return False

    def hurry(self, key: Key) -> None:
        """Who came back to the end of the line goes before all who wait for their first slot."""
        if key in self._last:
            del self._last[key]
            self._hurried[key] = None

    @property
    def _lines(self) -> tuple[OrderedDict[Key, None], ...]:
        return self._hurried, self._waiting, self._last

    def _next(self) -> Key | None:
        for line in self._lines:
            if line:
                following, _ = line.popitem(last=False)
                self._active.add(following)
                return following
        return None
