"""One call's transfer: the leg to whoever it goes to, which rings, is answered and ends with the call."""

from __future__ import annotations

import uuid
from typing import Any

from backend.simulator import refusal
from backend.simulator.conversation import Conversation
from backend.simulator.lifetime import Lifetime
from backend.simulator.orders import CallTimes, Order
from backend.simulator.telling import Telling, new_control_id


class Transferring:
    """At most one a call."""

    def __init__(
        self,
        order: Order,
        times: CallTimes,
        life: Lifetime,
        telling: Telling,
        conversation: Conversation,
    ) -> None:
        self._order, self._times = order, times
        self._life, self._telling, self._conversation = life, telling, conversation
        self._leg: dict[str, Any] | None = None

    def start(self, to: str, from_number: str | None, client_state: str | None) -> None:
        """Raises Refusal where the call was transferred already."""
        if self._leg is not None:
            raise refusal.bad_request("This call was transferred already.")
        self._telling.note("transfer", to=to)
        self._leg = {
            "call_control_id": new_control_id(),
            "call_leg_id": str(uuid.uuid1()),
            "call_session_id": self._telling.call_session_id,
            "connection_id": self._order.connection_id,
            "client_state": client_state,
            "from": from_number or self._order.to_number,
            "to": to,
        }
        self._life.spawn(self._bridge(self._leg), "transfer")

    def hung_up(self, cause: str) -> None:
        """The call has ended, and the leg with it, if there is one."""
        if self._leg is not None:
            self._telling.tell("call.hangup", self._leg, state="hangup", hangup_cause=cause)

    async def _bridge(self, leg: dict[str, Any]) -> None:
        self._telling.tell("call.initiated", leg, direction="outgoing", state="bridging")
        if await self._life.happens(self._life.over, self._times.transfer_rings_s):
            return
        self._telling.tell("call.answered", leg, state="answered")
        self._telling.tell("call.bridged", leg)
        self._telling.tell_numbered("call.bridged")
        self._conversation.transferred()
