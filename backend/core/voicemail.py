"""Who picked up, as the carrier finds: people are talked to, machines left one message, or hung up on.

What is told → what to do. Words of it come late, twice and in any order. No clock, no carrier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backend.core.records import AnsweredBy, Voicemail

Detection = Literal["detect", "greeting_end"]
"""How the carrier is to listen (`answering_machine_detection`): for a machine; and for its greeting's end."""
GREETING_S = 60.0
"""A greeting whose end is not told by then is over: longer ones than that nobody records."""

_DETECTED = frozenset(("call.machine.detection.ended", "call.machine.premium.detection.ended"))
_GREETED = frozenset(("call.machine.greeting.ended", "call.machine.premium.greeting.ended"))
EVENTS = _DETECTED | _GREETED
"""The carrier's events that tell of it."""
_PEOPLE = frozenset(("human", "human_residence", "human_business"))


@dataclass(frozen=True, slots=True)
class Hush:
    """Say no more: nobody listens yet. Within `GREETING_S` comes the order to leave the message."""


@dataclass(frozen=True, slots=True)
class LeaveMessage:
    """Say the message from its start, then hang up."""


@dataclass(frozen=True, slots=True)
class HangUp:
    """End the call; `reason` is for the log."""

    reason: str


Order = Hush | LeaveMessage | HangUp


def detection(*, wanted: bool, message: bool) -> Detection | None:
    """What to ask of the carrier."""
    if not wanted:
        return None
    return "greeting_end" if message else "detect"


class MachineWatch:
    """One outbound call's."""

    def __init__(self, *, message: bool) -> None:
        """`message`: whether there is one to leave."""
        self.answered_by: AnsweredBy | None = None
        self.voicemail: Voicemail | None = None
        self._message = message

    @property
    def hushed(self) -> bool:
        """Whether the agent is to talk no more, but for the message."""
        return self.voicemail is not None

    @property
    def due(self) -> bool:
        """Whether the message is to be said now."""
        return self.voicemail == "leaving"

    def told(self, event_type: str, result: str | None) -> list[Order]:
        """One of `EVENTS`, with its result."""
        if event_type in _GREETED:
            # Told of machines only, be the word that it is one still on its way.
            return self._machine(greeted=True)
        if result == "machine":
            return self._machine(greeted=False)
        if self.answered_by is not None:
            return []
        if result == "fax_detected":
            self.answered_by = "fax"
            return [HangUp("a fax machine picked up")]
        self.answered_by = "human" if result in _PEOPLE else "unknown"
        return []

    def waited(self) -> list[Order]:
        """`GREETING_S` went by since the hush."""
        return self._leave() if self.voicemail == "waiting" else []

    def said(self, *, whole: bool) -> list[Order]:
        """The message was said, or could not be."""
        if self.voicemail != "leaving":
            return []
        self.voicemail = "left" if whole else "failed"
        return [HangUp("the message is left" if whole else "the message could not be said")]

    def _machine(self, *, greeted: bool) -> list[Order]:
        if self.answered_by in ("fax", "human"):
            return []  # once a person, always a person: they have been talked to meanwhile
        if self.voicemail is None:
            self.answered_by = "machine"
            if not self._message:
                self.voicemail = "none"
                return [HangUp("an answering machine picked up")]
            self.voicemail = "waiting"
            return [Hush(), *(self._leave() if greeted else ())]
        return self._leave() if greeted and self.voicemail == "waiting" else []

    def _leave(self) -> list[Order]:
        self.voicemail = "leaving"
        return [LeaveMessage()]
