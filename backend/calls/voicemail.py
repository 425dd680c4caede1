"""Who picked up an outbound call, and what follows: carries out what `backend.core.voicemail` decides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from backend.calls.ledger import Ledger
from backend.calls.talk import Talk
from backend.core.agent_settings import VoicemailSettings
from backend.core.templates import render
from backend.core.voicemail import (
    GREETING_S,
    Detection,
    HangUp,
    Hush,
    LeaveMessage,
    MachineWatch,
    Order,
    detection,
)

log = logging.getLogger(__name__)


class WhoAnswered:
    """One call's. `close` it when the call is over."""

    def __init__(self, how: VoicemailSettings, ledger: Ledger, *, hang_up: Callable[[str], None]) -> None:
        """`hang_up` ends the call, for a reason."""
        self._how, self._ledger, self._hang_up = how, ledger, hang_up
        self._watch = MachineWatch(message=how.message is not None)
        self._talk: Talk | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        self._storing: set[asyncio.Task[bool]] = set()

    @property
    def detection(self) -> Detection | None:
        """What to ask of the carrier when it dials."""
        return detection(wanted=self._how.detect, message=self._how.message is not None)

    @property
    def hushed(self) -> bool:
        """Whether a machine is on the line: a talk that begins now is to say nothing of its own."""
        return self._watch.hushed

    def told(self, event_type: str, result: str | None) -> None:
        """The carrier has found something out."""
        if self._how.detect and not self._over:
            log.info("call %s: %s: %s", self._ledger.record.id, event_type, result)
            self._carry_out(self._watch.told(event_type, result))

    def line_is_up(self, talk: Talk) -> None:
        """There is a talk now; what is due by then is said at once."""
        self._talk = talk
        if self._watch.due:
            self._leave(talk)

    def close(self) -> None:
        """The call is over."""
        self._over = True
        self._stop_waiting()

    async def flush(self) -> None:
        """Returns when what is known is stored, or could not be."""
        if self._storing:
            await asyncio.wait(self._storing)

    def _carry_out(self, orders: list[Order]) -> None:
        for order in orders:
            match order:
                case Hush():
                    if self._talk is not None:
                        self._talk.fall_silent()
                        self._talk.get_ready(self._message(self._talk))
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(GREETING_S, self._waited)
                case LeaveMessage():
                    self._stop_waiting()
                    if self._talk is not None:
                        self._leave(self._talk)
                case HangUp(reason):
                    self._hang_up(reason)
        self._note()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _leave(self, talk: Talk) -> None:
        talk.leave(self._message(talk), self._said)

    def _message(self, talk: Talk) -> str:
        return render(self._how.message or "", talk.variables)

    def _said(self, whole: bool) -> None:
        self._carry_out(self._watch.said(whole=whole))

    def _waited(self) -> None:
        self._carry_out(self._watch.waited())

    def _note(self) -> None:
        """Into the record, here at once."""
        known = {"answered_by": self._watch.answered_by, "voicemail": self._watch.voicemail}
        record = self._ledger.record
        if known != {"answered_by": record.answered_by, "voicemail": record.voicemail}:
            self._ledger.record = replace(
                record, answered_by=self._watch.answered_by, voicemail=self._watch.voicemail
            )
            task = asyncio.create_task(self._ledger.update(**known), name="who answered")
            self._storing.add(task)
            task.add_done_callback(self._storing.discard)
