"""All live calls of this process: carrier events in, calls begun, found, acted on and drained.

Owns every call's task. Knows nothing of HTTP; RequestError carries the status a request should get.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol, TypeVar

from backend.calls import aftermath
from backend.calls.live_call import LiveCall
from backend.calls.ports import CallParts, Carrier, MediaSocket
from backend.core import voicemail
from backend.core.agent import Agent, missing_variables
from backend.core.agent_checks import transfer_target_problem
from backend.core.records import ENDED_STATES, CallRecord, CallState, Direction
from backend.core.templates import call_variables
from backend.core.voicemail import Detection
from backend.core.zones import local
from backend.errors import CallGone, CarrierError, RequestError, StorageError
from backend.telnyx.control import DialedCall, RejectCause
from backend.telnyx.webhooks import SeenEvents, TelnyxEvent, heard_words

log = logging.getLogger(__name__)

_MAX_ENDED = 10_000
T = TypeVar("T")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")


@dataclass(frozen=True, slots=True)
class _Ended:
    """The end of a call, told before its beginning."""

    hangup_cause: str | None
    hangup_source: str | None


class DiallingCarrier(Carrier, Protocol):
    """A carrier that can also place and reject calls."""

    async def dial(
        self,
        *,
        to: str,
        from_: str,
        client_state: str | None,
        machine_detection: Detection | None,
        command_id: str,
    ) -> DialedCall: ...

    async def reject(self, ccid: str, *, cause: RejectCause, command_id: str) -> None: ...


class Agents(Protocol):
    """The agents there are. See `backend.storage.agent_files`."""

    def get(self, agent_id: str) -> Agent | None: ...

    def by_number(self, number: str) -> Agent | None: ...

    def all(self) -> Sequence[Agent]: ...


class CallManager:
    """Use as `async with`: leaving it hangs up what still lives and waits until all is stored."""

    def __init__(
        self,
        parts: CallParts,
        carrier: DiallingCarrier,
        agents: Agents,
        *,
        from_number: str | None = None,
        max_calls: int = 200,
    ) -> None:
        self._parts, self._carrier, self._agents = parts, carrier, agents
        self._from_number, self._max_calls = from_number, max_calls
        self._calls: dict[str, LiveCall] = {}
        self._by_control_id: dict[str, LiveCall] = {}
        self._seen = SeenEvents()
        self._ended: OrderedDict[str, _Ended | None] = OrderedDict()  # by control id; None: it is on record
        self._tasks: asyncio.TaskGroup | None = None
        self._running: dict[asyncio.Task[None], LiveCall] = {}
        self._draining = False

    async def __aenter__(self) -> CallManager:
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draining = True
        for task, call in self._running.items():
            if not call.closing:
                task.cancel()
        assert self._tasks is not None
        try:
            await self._tasks.__aexit__(kind, error, trace)
        finally:
            self._tasks = None

    @property
    def live_calls(self) -> int:
        """Calls under way."""
        return len(self._calls)

    # --- carrier events --------------------------------------------------------------------------------

    def accept_event(self, event: TelnyxEvent) -> bool:
        """Take a verified event; returns at once, the work is done afterwards. False for a duplicate."""
        if not self._seen.is_new(event.id):
            return False
        if self._tasks is None:
            log.warning("event %s came after the last call was stored: ignored", event.event_type)
            return True
        if event.event_type == "call.initiated" and event.payload.get("direction") == "incoming":
            self._spawn(self._offered(event), "offered call")
            return True
        if event.event_type in aftermath.EVENTS:
            self._spawn(aftermath.keep(self._parts.store, event), event.event_type)
            return True
        call = self._find_for(event)
        if call is not None:
            self._tell(call, event)
        elif event.event_type == "call.hangup" and event.call_control_id:
            # Events come in any order: a call can be over before we hear that it began.
            cause, source = event.payload.get("hangup_cause"), event.payload.get("hangup_source")
            if event.call_control_id not in self._ended:
                self._remember_end(event.call_control_id, _Ended(_text(cause), _text(source)))
        else:
            log.debug("event %s for no live call", event.event_type)
        return True

    def _find_for(self, event: TelnyxEvent) -> LiveCall | None:
        call = self._by_control_id.get(event.call_control_id or "")
        if call is None and (ours := event.client_state):
            # The first events of a call we dial may overtake the reply to the dial itself.
            call = self._calls.get(ours)
            if call is not None and event.call_control_id:
                self._by_control_id.setdefault(event.call_control_id, call)
                call.named(event.call_control_id)
        return call

    def _tell(self, call: LiveCall, event: TelnyxEvent) -> None:
        payload = event.payload
        match event.event_type:
            case "call.answered":
                call.tell(call.machine.answered)
            case "call.hangup":
                cause, source = payload.get("hangup_cause"), payload.get("hangup_source")
                call.tell(lambda: call.machine.hung_up(_text(cause), _text(source)))
            case "streaming.failed":
                log.error("call %s: media failed: %s", call.record.id, payload.get("failure_reason"))
                call.tell(call.machine.streaming_failed)
            case "call.dtmf.received":
                if digit := _text(payload.get("digit")):
                    call.key_pressed(digit, "webhook")
            case "call.initiated":
                call.tell(call.machine.dialled)
            case "call.transcription":
                if (words := heard_words(event)) is not None:
                    call.carrier_heard(words[0], final=words[1], at=event.occurred_at or "")
            case "call.speak.ended":
                call.carrier_spoke()
            case about if about in voicemail.EVENTS:
                call.who_answered.told(about, _text(payload.get("result")))
            case other:
                log.debug("call %s: %s", call.record.id, other)

    # --- beginnings ------------------------------------------------------------------------------------

    async def _offered(self, event: TelnyxEvent) -> None:
        """An inbound call: answer it, or reject it with a reason on record."""
        control_id = event.call_control_id
        ended = self._ended.get(control_id or "")
        if not control_id or control_id in self._by_control_id or (control_id in self._ended and not ended):
            return
        # Who withholds the number may be null.
        caller, called = (str(event.payload.get(end) or "") for end in ("from", "to"))
        agent = self._agents.by_number(called)
        record = _record("inbound", agent.id if agent else "", caller, called)
        record = replace(
            record,
            call_control_id=control_id,
            call_session_id=event.call_session_id,
            call_leg_id=event.call_leg_id,
        )
        if ended is not None:
            self._remember_end(control_id, None)
            await self._keep(replace(record, state="ended", ended_at=_now(), **asdict(ended)))
        elif agent is None:
            reason = f"no agent has the number {called}: add it to phone_numbers in an agent's file"
            await self._reject(record, "NOT_FOUND", reason)
        elif self._draining or len(self._calls) >= self._max_calls:
            why = "shutting down" if self._draining else f"all {self._max_calls} places are taken"
            await self._reject(record, "USER_BUSY", why)
        else:
            await self._start(record, agent, {})

    async def _reject(self, record: CallRecord, cause: RejectCause, reason: str) -> None:
        log.warning("call from %s to %s rejected: %s", record.from_number, record.to_number, reason)
        assert record.call_control_id is not None
        try:
            await self._carrier.reject(record.call_control_id, cause=cause, command_id=f"{record.id}-reject")
        except CarrierError as error:
            log.error("cannot reject the call from %s: %s", record.from_number, error)
        self._remember_end(record.call_control_id, None)
        await self._keep(
            replace(record, state="failed", ended_at=record.created_at, error=reason, hangup_cause="rejected")
        )

    async def _keep(self, ended: CallRecord) -> None:
        try:
            await self._parts.store.create(ended)
        except StorageError as error:
            log.error("call not stored: %s: %s", error, ended)

    async def place_call(
        self,
        *,
        agent_id: str,
        to: str,
        from_number: str | None,
        variables: Mapping[str, str],
        idempotency_key: str | None,
    ) -> CallRecord:
        """Begin an outbound call; returns it before it rings. The same key again gives the same call.

        Raises RequestError for an unknown agent, a missing variable or number, or when no place is free.
        """
        agent = self._agents.get(agent_id)
        if agent is None:
            raise RequestError(f"there is no agent {agent_id!r}", status=404, code="unknown_agent")
        for number in (to, *([from_number] if from_number else [])):
            if not _E164.fullmatch(number):
                raise RequestError(f"{number!r} is not a phone number like +15551234567", code="bad_number")
        sender = from_number or self._from_number or next(iter(agent.phone_numbers), None)
        if sender is None:
            raise RequestError(
                "no number to call from: give `from`, or set TELNYX_FROM_NUMBER", code="no_from_number"
            )
        if missing := missing_variables(agent, set(variables)):
            raise RequestError(
                f"agent {agent_id!r} needs the variables {', '.join(missing)}", code="missing_variables"
            )
        if self._draining or len(self._calls) >= self._max_calls:
            raise RequestError("no place is free for another call; try again later", status=503, code="busy")
        record = replace(
            _record("outbound", agent.id, sender, to),
            variables=dict(variables),
            idempotency_key=idempotency_key,
        )
        kept = await self._store(self._parts.store.create(record))
        if kept.id == record.id:
            call = self._register(kept, agent, dict(variables))
            self._spawn(self._dial(call), "dial")
        return kept

    async def _dial(self, call: LiveCall) -> None:
        running = self._run(call)
        if self._draining:
            call.tell(lambda: call.machine.failed("shutdown"))
            return
        try:
            dialled = await self._carrier.dial(
                to=call.record.to_number,
                from_=call.record.from_number,
                client_state=call.record.id,
                machine_detection=call.who_answered.detection,
                command_id=call.leg.next_command_id("dial"),
            )
        except CarrierError as error:
            log.error("call %s: cannot dial: %s", call.record.id, error)
            call.ledger.error = f"cannot dial {call.record.to_number}: {error}"
            call.tell(lambda: call.machine.failed("dial_failed"))
        else:
            if call.record.id in self._calls:
                self._by_control_id[dialled.call_control_id] = call
            else:
                self._remember_end(dialled.call_control_id, None)
            await call.dialled(dialled)
        await asyncio.wait([running])

    async def _start(self, record: CallRecord, agent: Agent, variables: dict[str, str]) -> None:
        call = self._register(record, agent, variables)
        try:
            # Stored before it is answered: a call that rang is never lost.
            await self._parts.store.create(record)
        except StorageError as error:
            log.error("call %s: not stored, answered all the same: %s", record.id, error)
            call.ledger.stored = False
        await asyncio.wait([self._run(call)])

    def _register(self, record: CallRecord, agent: Agent, variables: dict[str, str]) -> LiveCall:
        filled = call_variables(
            agent_name=agent.name,
            # The other party, whoever dialled.
            caller_number=record.from_number if record.direction == "inbound" else record.to_number,
            called_number=record.to_number,
            direction=record.direction,
            now=local(_now(), agent.timezone or self._parts.timezone),
        )
        call = LiveCall(record, agent, {**filled, **variables}, self._parts)
        self._calls[record.id] = call
        self._parts.observer.call_moved(record.direction, None, record.state)
        if record.call_control_id:
            self._by_control_id[record.call_control_id] = call
        return call

    def _run(self, call: LiveCall) -> asyncio.Task[None]:
        assert self._tasks is not None
        task = self._tasks.create_task(self._live(call), name=f"call {call.record.id}")
        self._running[task] = call
        task.add_done_callback(self._running.pop)
        if self._draining:
            # Shut down while the call was being stored. It is cancelled once begun, so that it ends properly.
            asyncio.get_running_loop().call_soon(task.cancel)
        return task

    async def _live(self, call: LiveCall) -> None:
        try:
            await _guarded(call.run(), f"call {call.record.id}")
        finally:
            self._calls.pop(call.record.id, None)
            for control_id in [key for key, value in self._by_control_id.items() if value is call]:
                del self._by_control_id[control_id]
                self._remember_end(control_id, None)

    # --- acting on live calls --------------------------------------------------------------------------

    async def hangup(self, any_id: str) -> None:
        """End a call. Raises RequestError: 404 unknown, 409 already over."""
        call = await self._live_call(any_id)
        call.tell(lambda: call.machine.hang_up("asked for by the API"))

    async def transfer(self, any_id: str, to: str) -> None:
        """Hand a call to another number. Raises RequestError."""
        call = await self._answered_call(any_id)
        if problem := transfer_target_problem(to):
            raise RequestError(f"the call cannot be transferred: {problem}", code="bad_number")
        await self._order(call.transfer(to))

    async def send_dtmf(self, any_id: str, digits: str) -> None:
        """Press keys on the line. Raises RequestError."""
        call = await self._answered_call(any_id)
        await self._order(call.leg.send_dtmf(digits))

    async def say(self, any_id: str, text: str, *, interrupt: bool) -> None:
        """Have the agent say something. Raises RequestError."""
        call = await self._live_call(any_id)
        if not call.say(text, interrupt=interrupt):
            raise RequestError("the call's line is not up yet", status=409, code="not_in_progress")

    async def _answered_call(self, any_id: str) -> LiveCall:
        call = await self._live_call(any_id)
        if call.machine.state not in ("answered", "in_progress"):
            raise RequestError(f"call {any_id!r} is not answered yet", status=409, code="not_in_progress")
        return call

    async def _live_call(self, any_id: str) -> LiveCall:
        call = self._calls.get(any_id) or self._by_control_id.get(any_id)
        if call is not None and not call.machine.over:
            return call
        if call is not None:
            # It is being stored, and until then stands in the database as it was.
            raise RequestError(f"call {any_id!r} is {call.machine.state}", status=409, code="call_over")
        known = await self._store(self._parts.store.get(any_id))
        if known is None:
            raise RequestError(f"there is no call {any_id!r}", status=404, code="unknown_call")
        state = known.state if known.state in ENDED_STATES else "not live in this process"
        raise RequestError(f"call {any_id!r} is {state}", status=409, code="call_over")

    # --- media -----------------------------------------------------------------------------------------

    def claim_media(self, token: str, auth_token: str | None) -> LiveCall | None:
        """The call a media socket belongs to; None for a wrong, used or expired token."""
        return next((call for call in self._calls.values() if call.claims(token, auth_token)), None)

    async def serve_media(self, call: LiveCall, socket: MediaSocket) -> None:
        """Carry a call's audio until its socket closes."""
        await call.attach(socket)

    # --- helpers ---------------------------------------------------------------------------------------

    def _remember_end(self, control_id: str, ended: _Ended | None) -> None:
        self._ended[control_id] = ended
        if len(self._ended) > _MAX_ENDED:
            self._ended.popitem(last=False)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        assert self._tasks is not None
        self._tasks.create_task(_guarded(work, name), name=name)

    async def _order(self, command: Awaitable[None]) -> None:
        try:
            await command
        except CallGone as error:
            raise RequestError(str(error), status=409, code="call_over") from error
        except CarrierError as error:
            raise RequestError(str(error), status=502, code="carrier_refused") from error

    async def _store(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except StorageError as error:
            raise RequestError(str(error), status=503, code="storage_unavailable") from error


async def _guarded(work: Coroutine[Any, Any, None], name: str) -> None:
    """One call's bug must not end the others: it is logged, and its task alone ends."""
    try:
        await work
    except Exception:
        log.exception("%s failed", name)


def _record(direction: Direction, agent_id: str, from_number: str, to_number: str) -> CallRecord:
    state: CallState = "ringing" if direction == "inbound" else "queued"
    return CallRecord(
        f"call_{secrets.token_hex(12)}", direction, agent_id, from_number, to_number, state, _now()
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _now() -> datetime:
    return datetime.now(UTC)
