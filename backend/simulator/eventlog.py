"""What happens on all lines, in order, for those who watch: bounded, numbered, waited for."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from typing import Any

from backend.simulator.record import LineEvent

_KEPT = 10_000


class EventLog:
    """The newest 10,000 events; older ones are forgotten."""

    def __init__(self) -> None:
        self._events: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._numbers = itertools.count(1)
        self._changed = asyncio.Event()

    def add(self, call_control_id: str, event: LineEvent, t_ms: float | None) -> None:
        """`t_ms` is None for what happened before the line's zero."""
        self._events.append(
            {
                "seq": next(self._numbers),
                "at_unix_s": time.time(),
                "call_control_id": call_control_id,
                "t_ms": t_ms,
                "kind": event.kind,
                "data": event.data,
            }
        )
        self._changed.set()
        self._changed = asyncio.Event()

    def after(self, number: int) -> list[dict[str, Any]]:
        """Events with a higher number, oldest first."""
        newer: list[dict[str, Any]] = []
        for event in reversed(self._events):
            if event["seq"] <= number:
                break
            newer.append(event)
        return newer[::-1]

    async def wait_after(self, number: int, *, timeout_s: float) -> list[dict[str, Any]]:
        """The same, but waits for one when there is none yet; [] when the time is up."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not (found := self.after(number)):
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changed.wait()
            except TimeoutError:
                return []
        return found
