"""A call's recording by the carrier: switched on and off beside the talk, which never waits for it.

What becomes of a recording is told by the carrier, mostly when the call is over: see `aftermath`.
"""

from __future__ import annotations

import asyncio
import logging

from backend.calls.ledger import Ledger, now
from backend.calls.leg import CarrierLeg
from backend.core.agent_settings import RecordingSettings
from backend.core.records import CallRecording
from backend.errors import CallGone, CarrierError

log = logging.getLogger(__name__)


class Tape:
    """One call's. Its work runs in `tasks`; `close` it before they must end."""

    def __init__(
        self, leg: CarrierLeg, ledger: Ledger, how: RecordingSettings, tasks: asyncio.TaskGroup
    ) -> None:
        self._leg, self._ledger, self._how, self._tasks = leg, ledger, how, tasks
        self._on = False
        self._latest: asyncio.Task[None] | None = None
        self._turnstile = asyncio.Lock()  # first come, first served: on and off in order
        self._work: set[asyncio.Task[None]] = set()

    def switch(self, on: bool) -> None:
        """Record from now on, or no more. Returns at once; asked for what is so already, nothing is done."""
        if on == self._on:
            return
        self._on = on
        task = self._tasks.create_task(self._start() if on else self._stop(), name="recording")
        self._latest = task
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def close(self) -> None:
        """The call is over, and its recording with it."""
        for task in self._work:
            task.cancel()

    async def _start(self) -> None:
        async with self._turnstile:
            # First on record, then on tape: word of it may come as soon as the carrier is asked.
            begun = CallRecording("started", now(), channels=self._how.channels)
            self._ledger.turns.add_recording(begun)
            try:
                await self._leg.start_recording(self._how)
                self._ledger.meter.recording(True, self._ledger.clock())
            except CarrierError as error:
                if asyncio.current_task() is self._latest:
                    self._on = False  # else it was switched off meanwhile, and on again perhaps
                problem = f"the carrier did not record: {error}"
                self._ledger.turns.add_recording(
                    CallRecording("failed", begun.started_at, channels=begun.channels, problem=problem)
                )
                if not isinstance(error, CallGone):
                    log.error("call %s: %s", self._ledger.record.id, problem)

    async def _stop(self) -> None:
        async with self._turnstile:
            try:
                await self._leg.stop_recording()
                self._ledger.meter.recording(False, self._ledger.clock())
            except CallGone:
                pass  # so is the recording
            except CarrierError as error:
                # It goes on to the end of the call then: more is on tape than was wanted.
                log.error("call %s: the recording does not stop: %s", self._ledger.record.id, error)
                self._ledger.error = self._ledger.error or f"the recording does not stop: {error}"
