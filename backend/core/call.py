"""A call's life as decisions: what the carrier tells → what to command. No clock, no carrier.

    inbound   ringing ─Answer→ answered ─StartStreaming→ in_progress ─→ ended
    outbound  queued ─(dialled)→ ringing → answered ─StartStreaming→ in_progress ─→ ended

Events come in any order and twice; what does not fit the state is ignored. The end is final.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backend.core.records import ENDED_STATES, CallState, Direction

STREAMING_TRIES = 3
LOST_MEDIA_S = 1.5
"""A closing socket is mostly the caller hanging up: the word of it is on its way, and waited for so long."""
_LONGEST_CALL_S = 14_400.0  # Telnyx ends any call by then (`time_limit_secs`)


@dataclass(frozen=True, slots=True)
class Answer:
    """Pick up."""


@dataclass(frozen=True, slots=True)
class StartStreaming:
    """Ask the carrier to connect its media socket; `attempt` counts from 1."""

    attempt: int


@dataclass(frozen=True, slots=True)
class HangUp:
    """End the call from our side; `reason` is for the log and the record."""

    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The call is over."""

    state: Literal["ended", "failed"]
    cause: str | None
    source: str | None


Command = Answer | StartStreaming | HangUp | Finish


class CallMachine:
    """One call's state. Each method takes what happened and gives what to do, in order."""

    def __init__(self, direction: Direction) -> None:
        self.direction = direction
        self.state: CallState = "ringing" if direction == "inbound" else "queued"
        self._tries = 0
        self._media = False
        self._hanging_up = False
        self._handed_over = False
        self._unsaid: list[Command] = []  # a hang-up waiting for the carrier to name the call

    @property
    def over(self) -> bool:
        """Whether the call has ended."""
        return self.state in ENDED_STATES

    @property
    def patience_s(self) -> float | None:
        """How long to wait for the next event before `timed_out`; None for as long as it takes."""
        if self._hanging_up:
            # A dial under way cannot be taken back: its answer is awaited to hang up on.
            return 30.0 if self.state == "queued" else 5.0
        if self._handed_over:
            return _LONGEST_CALL_S
        if self.state == "ringing" and self.direction == "inbound":
            return 15.0
        if self.state == "answered":
            return 10.0
        if self.state == "in_progress":
            return None if self._media else LOST_MEDIA_S
        return 90.0

    def rang(self) -> list[Command]:
        """An inbound call is offered, and we want it."""
        return [Answer()] if self.state == "ringing" and self.direction == "inbound" else []

    def dialled(self) -> list[Command]:
        """The carrier took our dial."""
        if self.state == "queued":
            self.state = "ringing"
        return self._late_hang_up()

    def answered(self) -> list[Command]:
        """Somebody picked up."""
        if self.state not in ("queued", "ringing"):
            return []
        self.state = "answered"
        return self._late_hang_up() if self._hanging_up else self._stream()

    def media_attached(self) -> list[Command]:
        """The media socket is there."""
        if self.over:
            return []
        self._media, self._tries = True, 0
        self.state = "in_progress"
        return []

    def media_lost(self) -> list[Command]:
        """The media socket closed. That alone is not the end of a call: the carrier does not reconnect by
        itself, so it is asked again, unless word of a hang-up comes first."""
        self._media = False
        return []

    def streaming_failed(self) -> list[Command]:
        """The carrier could not connect its media socket."""
        if self._hanging_up or self._handed_over or self.state != "answered":
            return []
        return self._stream()

    def timed_out(self) -> list[Command]:
        """`patience_s` went by and nothing came."""
        if self.over:
            return []
        if self._hanging_up:
            return self.hung_up("no_hangup_event", "backend")
        if self._handed_over:
            return self.hung_up("no_hangup_event", "carrier")
        if self.state in ("answered", "in_progress"):
            self.state = "answered"
            return self._stream()
        return self.hang_up(f"nothing from the carrier while {self.state}")

    def hang_up(self, reason: str) -> list[Command]:
        """We want the call to end."""
        if self.over or self._hanging_up:
            return []
        self._hanging_up = True
        self._unsaid = [HangUp(reason)]
        return [] if self.state == "queued" else self._late_hang_up()

    def handed_over(self) -> list[Command]:
        """The caller was transferred: the carrier keeps the call, and our media socket may go."""
        self._handed_over = True
        return []

    def gone(self) -> list[Command]:
        """A command came too late: the call has ended, and its hang-up event says why."""
        self._hanging_up = True
        return []

    def hung_up(self, cause: str | None, source: str | None) -> list[Command]:
        """The carrier says that the call is over."""
        if self.over:
            return []
        self.state = "ended"
        return [Finish("ended", cause, source)]

    def failed(self, cause: str) -> list[Command]:
        """The call cannot be had at all, as when a dial is refused."""
        if self.over:
            return []
        self.state = "failed"
        return [Finish("failed", cause, "backend")]

    def _late_hang_up(self) -> list[Command]:
        orders, self._unsaid = self._unsaid, []
        return [] if self.over else orders

    def _stream(self) -> list[Command]:
        self._tries += 1
        if self._tries > STREAMING_TRIES:
            return self.hang_up("the carrier could not connect its media socket")
        return [StartStreaming(self._tries)]
