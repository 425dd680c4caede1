"""Who of many listeners is spoken to next: slots, and streams that make way while they are far ahead.

A slot is worth having only while sound is made. So a stream that has given its listener seconds of sound
gives its slot to whoever waits, and has one again when the listener has played most of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from runpod_server.engine.pace import Pace, PaceRules
from runpod_server.engine.scheduler import Slots

_RULES = PaceRules()
_LONGEST_ASIDE_MS = 1000.0  # clients take 4 s without sound for a server that has died


class Timer(Protocol):
    """Something that will be called."""

    def cancel(self) -> None:
        """It will not be called."""


class Clock(Protocol):
    """What the time is, and what happens later."""

    def now_ms(self) -> float:
        """Milliseconds since any moment."""

    def call_later(self, delay_ms: float, call: Callable[[], None]) -> Timer:
        """Call once, after so long."""


class LoopClock:
    """The running event loop's time."""

    def now_ms(self) -> float:
        """See Clock.now_ms."""
        return asyncio.get_running_loop().time() * 1000

    def call_later(self, delay_ms: float, call: Callable[[], None]) -> Timer:
        """See Clock.call_later."""
        return asyncio.get_running_loop().call_later(delay_ms / 1000, call)


class Line:
    """The slots of an engine and all who hold, want or lent one."""

    def __init__(self, capacity: int, max_waiting: int, clock: Clock | None = None) -> None:
        self.slots: Slots[Place] = Slots(capacity, max_waiting)
        self.clock = clock or LoopClock()
        self._places: set[Place] = set()

    def enter(self) -> Place:
        """A place for a new stream, with a slot or waiting for one. Raises Busy."""
        place = Place(self)
        has_slot = self.slots.enter(place)
        self._places.add(place)
        if has_slot:
            place.admit()
        else:
            self._take_from_whom_is_far_ahead()
        return place

    def leave(self, place: Place) -> None:
        """Its stream has ended; harmless when it left before."""
        self._places.discard(place)
        self._admit(self.slots.leave(place))

    def make_way(self, place: Place) -> None:
        """Give its slot to whoever waits; it keeps it when nobody does."""
        following = self.slots.make_way(place)
        if following is not None:
            place.lend()
            self._admit(following)

    def hurry(self, place: Place) -> None:
        """It is near to having nothing to play: the next slot is for it."""
        self.slots.hurry(place)
        self._take_from_whom_is_far_ahead()

    def _take_from_whom_is_far_ahead(self) -> None:
        now_ms = self.clock.now_ms()
        spare = [place for place in self._places if place.can_spare(now_ms)]
        if spare:
            self.make_way(max(spare, key=lambda place: place.lead_ms(now_ms)))

    @staticmethod
    def _admit(following: Place | None) -> None:
        if following is not None:
            following.admit()


class Place:
    """One stream's place in the line, and what its listener has to play."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._pace = Pace(_RULES)
        self._slot = self._no_slot()
        self._has_lent = False  # it gave its slot up, and has not asked for one since
        self._is_asked = False  # somebody awaits its next sound
        self._timer: Timer | None = None

    def admit(self) -> None:
        """It has a slot."""
        self._stop_timer()
        if not self._slot.done():
            self._slot.set_result(None)

    async def admitted(self) -> None:
        """Return when it has a slot, or has left."""
        await asyncio.wait({self._slot})

    def lend(self) -> None:
        """Its slot went to another."""
        self._slot, self._has_lent = self._no_slot(), True

    def leave(self) -> None:
        """Its stream has ended: the slot is another's at once."""
        self._stop_timer()
        self._slot.cancel()
        self._line.leave(self)

    @contextmanager
    def asked(self) -> Iterator[None]:
        """While inside, its next sound is awaited, and its slot is not taken from it."""
        self._is_asked = True
        try:
            if self._has_lent and not self._slot.cancelled():
                self._come_back()
            yield
        finally:
            self._is_asked = False

    def handed_over(self, audio_ms: float) -> None:
        """Its listener was given so much sound, and more is to come."""
        now_ms = self._line.clock.now_ms()
        self._pace.handed_over_ms(audio_ms, now_ms)
        if self._pace.is_ahead(now_ms):
            self._line.make_way(self)

    def can_spare(self, now_ms: float) -> bool:
        """Whether it holds a slot that it has no use for now."""
        holds = self._slot.done() and not self._slot.cancelled()
        return holds and not self._is_asked and self._pace.is_ahead(now_ms)

    def lead_ms(self, now_ms: float) -> float:
        """Sound its listener has still to play."""
        return self._pace.lead_ms(now_ms)

    def _come_back(self) -> None:
        self._has_lent = False
        if self._line.slots.come_back(self):
            self.admit()
            return
        aside_ms = min(self._pace.until_near_ms(self._line.clock.now_ms()), _LONGEST_ASIDE_MS)
        if aside_ms > 0:
            self._timer = self._line.clock.call_later(aside_ms, self._hurry)
        else:
            self._hurry()

    def _hurry(self) -> None:
        self._line.hurry(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @staticmethod
    def _no_slot() -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()
