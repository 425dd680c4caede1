"""What is told of one call: to the backend by webhook, and to its record, event by event."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from backend.core.g711 import Codec
from backend.simulator.orders import Order
from backend.simulator.ports import Surroundings
from backend.simulator.record import EventKind, LineEvent, LineRecord, Logbook


def new_control_id() -> str:
    return f"v3:{uuid.uuid4().hex}{uuid.uuid4().hex[:12]}"


class Telling:
    """One call's ids, and word of it under them. `line_ms`: the time on the line's clock."""

    def __init__(self, order: Order, around: Surroundings, line_ms: Callable[[], float]) -> None:
        self._order, self._around, self._line_ms = order, around, line_ms
        self._book = Logbook(now_s=time.monotonic(), unix_s=time.time())
        self.call_control_id = new_control_id()
        self.call_leg_id, self.call_session_id = str(uuid.uuid1()), str(uuid.uuid1())
        self.client_state = order.client_state

    # --- the record -----------------------------------------------------------------------------------

    def start_clock(self) -> None:
        """The line begins: from now on events carry its time."""
        self._book.start_clock(now_s=time.monotonic(), unix_s=time.time())

    def note(self, kind: EventKind, **data: Any) -> None:
        self.note_event(LineEvent(self._line_ms(), kind, data))

    def note_event(self, event: LineEvent) -> None:
        t_ms = self._book.add(event, now_s=time.monotonic())
        self._around.events.add(self.call_control_id, event, t_ms)

    def record(self, codec: Codec) -> LineRecord:
        """Everything so far."""
        return self._book.record(
            call_control_id=self.call_control_id,
            direction=self._order.direction,
            codec=codec.value,
            duration_ms=self._line_ms(),
        )

    # --- webhooks -------------------------------------------------------------------------------------

    def tell(self, event_type: str, leg: dict[str, Any] | None = None, /, **payload: Any) -> None:
        """Send a webhook. `leg`: the ids it goes under, instead of the call's own."""
        ids = leg or self.ids()
        self._around.webhooks.send(self._order.webhook_url, event_type, {**ids, **payload})

    def tell_numbered(self, event_type: str, **payload: Any) -> None:
        """As `tell`, with who calls whom."""
        numbers = {"from": self._order.from_number, "to": self._order.to_number}
        self.tell(event_type, **payload, **numbers)

    def ids(self, *, control: bool = True) -> dict[str, Any]:
        ids = {
            "call_leg_id": self.call_leg_id,
            "call_session_id": self.call_session_id,
            "connection_id": self._order.connection_id,
            "client_state": self.client_state,
        }
        return {"call_control_id": self.call_control_id, **ids} if control else ids
