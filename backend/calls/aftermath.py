"""What the carrier tells when a call is over and forgotten here, into the store: recordings and bills.

Addresses of recordings are for the record alone: whoever has one may listen. They are never logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from backend.calls.ledger import now
from backend.calls.ports import Store
from backend.core import recordings
from backend.core.cost import billed
from backend.core.records import CallRecording
from backend.errors import StorageError
from backend.telnyx.webhooks import TelnyxEvent

log = logging.getLogger(__name__)

_SAVED, _FAILED, _COST = "call.recording.saved", "call.recording.error", "call.cost"
EVENTS = frozenset((_SAVED, _FAILED, _COST))
_TRIES = 4


async def keep(store: Store, event: TelnyxEvent) -> None:
    """Keep what one of `EVENTS` tells, with the call it belongs to. Raises nothing."""
    if event.event_type == _COST:
        await _keep_bill(store, event)
    elif event.event_type == _SAVED:
        await _keep_recording(store, event, recordings.saved(event.payload))
    else:
        await _keep_recording(store, event, recordings.failed(event.payload, now()))


async def _keep_recording(store: Store, event: TelnyxEvent, told: CallRecording) -> None:
    async def write() -> None:
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
        log.info("call %s: recording %s%s", call_id, told.state, f": {told.problem}" if told.problem else "")

    await _patiently(write, f"a recording ({told.state})", event)


async def _keep_bill(store: Store, event: TelnyxEvent) -> None:
    bill = billed(event.payload)
    if bill is None:
        log.warning("a bill that tells no cost (session %s)", event.call_session_id)
        return

    async def write() -> None:
        # Not by session: somebody the call was transferred to is billed apart.
        call_id = await store.find(call_control_id=event.call_control_id, call_leg_id=event.call_leg_id)
        if call_id is not None:
            await store.update(call_id, billed_usd=bill.usd, billed_parts=dict(bill.parts))

    await _patiently(write, "a bill", event)


async def _patiently(write: Callable[[], Awaitable[None]], what: str, event: TelnyxEvent) -> None:
    for attempt in range(_TRIES):
        try:
            await write()
            return
        except StorageError as error:
            log.warning("%s not stored yet: %s", what, error)
            await asyncio.sleep(0.1 * 3**attempt)
    log.error("%s is not in the database: session %s", what, event.call_session_id)
