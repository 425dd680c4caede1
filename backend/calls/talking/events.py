"""What happens to a call's talk, in the order it happens: the caller's turns, keys, requests, the line.

Keeps what of it is used later. Does not decide what any of it leads to.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from backend.calls.ports import Clock
from backend.core.keypad import KeyEntry
from backend.core.turns import BargeIn, SpeechResumed, SpeechStarted, TurnEnded, TurnEvent

log = logging.getLogger(__name__)

_MAX_EVENTS = 256
_MAX_ASIDES = 20


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """The caller pressed a key."""

    digit: str
    at_ms: float = field(default=0.0, compare=False)  # filled in on arrival


@dataclass(frozen=True, slots=True)
class KeysEnded:
    """The caller pressed the `#` or `*` that ends keys which were acted upon already: nothing follows."""


@dataclass(frozen=True, slots=True)
class SayRequest:
    """Somebody outside wants this said, once the agent has finished or, with `interrupt`, now."""

    text: str
    interrupt: bool


@dataclass(frozen=True, slots=True)
class LineLost:
    """The media socket is gone; the carrier was asked for another."""


@dataclass(frozen=True, slots=True)
class LineRestored:
    """A new media socket is there."""


@dataclass(frozen=True, slots=True)
class LikelyEnd:
    """The caller has paused after these words: probably all they wanted to say."""

    text: str


Event = TurnEvent | KeyPressed | KeysEnded | SayRequest | LineLost | LineRestored | LikelyEnd


def cuts(event: Event, *, interruptible: bool) -> bool:
    """Whether an event makes us fall silent in the middle of a sentence."""
    match event:
        case LineLost():
            return True
        case SayRequest(interrupt=interrupt):
            return interrupt
        case BargeIn() | KeyPressed():
            return interruptible
        case _:
            return False


class Inbox:
    """One call's events. `close` it in the end."""

    def __init__(self, clock: Clock, asks_for_key: Callable[[str], bool]) -> None:
        """`asks_for_key`: whether the call flow waits for this key now."""
        self._clock, self._asks_for_key = clock, asks_for_key
        self._entry = KeyEntry()
        self.keys = ""
        """Pressed, and not yet asked for."""
        self.asides: deque[SayRequest] = deque()
        """What others want said."""
        self.line_up = True
        self.caller_quiet = asyncio.Event()
        self.caller_quiet.set()
        self._events: asyncio.Queue[Event] = asyncio.Queue(_MAX_EVENTS)
        self._waiting: asyncio.Task[Event] | None = None
        self._handed_back: Event | None = None

    def put(self, event: Event) -> None:
        """Something happened. At most 256 wait; a caller cannot make more in the time they take."""
        if isinstance(event, KeyPressed):
            event = replace(event, at_ms=self._clock())
        try:
            self._events.put_nowait(event)
        except asyncio.QueueFull:
            log.error("conversation event dropped, %d are waiting: %s", _MAX_EVENTS, event)

    async def next(
        self, timeout_ms: float | None = None, *, unless: asyncio.Task[object] | None = None
    ) -> Event | None:
        """The next event; None when the time is up or `unless` is done first."""
        if self._handed_back is not None:
            event, self._handed_back = self._handed_back, None
            return self._noted(event)
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._events.get(), name="next event")
        timeout_s = None if timeout_ms is None else max(0.0, timeout_ms) / 1000
        others: tuple[asyncio.Task[object], ...] = () if unless is None else (unless,)
        await asyncio.wait([self._waiting, *others], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not self._waiting.done():
            return None
        event, self._waiting = self._waiting.result(), None
        return self._noted(event)

    def hand_back(self, event: Event) -> None:
        """It was taken too early: it is the next one."""
        self._handed_back = event

    @property
    def handed_back(self) -> bool:
        """Whether an event was handed back, and not yet taken again."""
        return self._handed_back is not None

    def take_keys(self) -> str:
        """The keys pressed; from now on they are asked for."""
        keys, self.keys = self.keys, ""
        return keys

    def keys_acted_upon(self, keys: str) -> None:
        """These keys led somewhere; a `#` right after them is theirs."""
        self._entry.acted_upon(keys)

    def close(self) -> None:
        """Nobody asks any more."""
        if self._waiting is not None:
            self._waiting.cancel()

    def _noted(self, event: Event) -> Event:
        """The event as it is to be taken, once what it tells for later is kept."""
        if isinstance(event, KeyPressed) and self._entry.is_ended_by(
            event.digit, event.at_ms, asked_for=self._asks_for_key(event.digit)
        ):
            return KeysEnded()
        self._take_note(event)
        return event

    def _take_note(self, event: Event) -> None:
        """Keep what an event tells that is used later, whatever we are doing now."""
        match event:
            case SpeechStarted() | SpeechResumed() | BargeIn():
                self.caller_quiet.clear()
            case TurnEnded():
                self.caller_quiet.set()
            case LineLost() | LineRestored():
                self.line_up = isinstance(event, LineRestored)
                self.caller_quiet.set()
            case KeyPressed(digit):
                self.keys += digit
            case SayRequest(text) if len(self.asides) < _MAX_ASIDES:
                self.asides.append(event)
            case SayRequest(text):
                log.error("not said, %d texts are waiting: %r", _MAX_ASIDES, text)
