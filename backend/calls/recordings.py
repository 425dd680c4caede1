"""What the carrier tells of recordings, into the store: mostly of calls that are over and forgotten here.

Addresses of recordings are for the record alone: whoever has one may listen. They are never logged.
"""

from __future__ import annotations

import asyncio
import logging

from backend.calls.ledger import now
from backend.calls.ports import Store
from backend.core import recordings
from backend.errors import StorageError
from backend.telnyx.webhooks import TelnyxEvent

log = logging.getLogger(__name__)

SAVED, FAILED = "call.recording.saved", "call.recording.error"
_TRIES = 4


async def keep_recording(store: Store, event: TelnyxEvent) -> None:
    """Keep what an event of these types tells, with the call it belongs to. Raises nothing."""
    if event.event_type == SAVED:
        told = recordings.saved(event.payload)
    else:
        told = recordings.failed(event.payload, now())
    for attempt in range(_TRIES):
        try:
            call_id = await store.find(
                call_id=event.client_state,
                call_control_id=event.call_control_id,
                call_leg_id=event.call_leg_id,
                call_session_id=event.call_session_id,
            )
            if call_id is None:
                log.warning("a recording of no known call (session %s)", event.call_session_id)
                return
            await store.keep_recording(call_id, told)
        except StorageError as error:
            log.warning("recording not stored yet: %s", error)
            await asyncio.sleep(0.1 * 3**attempt)
        else:
            log.info("call %s: recording %s%s", call_id, told.state, _why(told.problem))
            return
    log.error("a recording (%s) is not in the database: session %s", told.state, event.call_session_id)


def _why(problem: str | None) -> str:
    return f": {problem}" if problem else ""
