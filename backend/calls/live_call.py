"""One live call: carrier events and the media socket in, commands out, from first ring to last row written.

The machine in `backend.core.call` decides; this carries out. It owns every task of its call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from backend.calls.equipment import Equipment
from backend.calls.flow_actions import FlowActions
from backend.calls.ledger import Ledger, now
from backend.calls.leg import CarrierLeg
from backend.calls.media_line import MediaLine
from backend.calls.ports import CallParts, MediaSocket
from backend.calls.talk import Talk
from backend.calls.tape import Tape
from backend.calls.voicemail import WhoAnswered
from backend.core import call as commands
from backend.core.agent import Agent
from backend.core.call import CallMachine, Command
from backend.core.dtmf import DtmfMerger, Source
from backend.core.g711 import Codec
from backend.core.media import UnsupportedLeg
from backend.core.records import CallRecord
from backend.errors import CallGone, CarrierError
from backend.telnyx.control import DialedCall

log = logging.getLogger(__name__)

_MAX_INBOX = 200


class LiveCall:
    """A call under way. `run` returns when it is over and everything about it is stored."""

    def __init__(self, record: CallRecord, agent: Agent, variables: dict[str, str], parts: CallParts) -> None:
        self.agent, self._parts = agent, parts
        self.machine = CallMachine(record.direction)
        self.ledger = Ledger(record, parts.store, parts.observer, prices=parts.prices, clock=parts.clock)
        self.leg = CarrierLeg(parts.carrier, self.ledger)
        self._variables = variables
        self._inbox: asyncio.Queue[Callable[[], list[Command]]] = asyncio.Queue(_MAX_INBOX)
        self._equipment = Equipment(record.id, agent, parts, self.leg)
        self._dtmf = DtmfMerger()
        self._line = MediaLine(record.id, self)
        self.who_answered = WhoAnswered(agent.voicemail, self.ledger, hang_up=self._talk_over)
        self._tasks: asyncio.TaskGroup | None = None
        self._tape: Tape | None = None
        self._actions: FlowActions | None = None
        self._talk: Talk | None = None
        self._closing = False
        self.finished = asyncio.Event()

    @property
    def closing(self) -> bool:
        """Whether it is over and being stored, which must not be cut short."""
        return self._closing

    @property
    def record(self) -> CallRecord:
        """What is known of the call."""
        return self.ledger.record

    # --- told from outside -----------------------------------------------------------------------------

    def tell(self, what: Callable[[], list[Command]]) -> None:
        """Something happened to the call: a method of its machine, to be run in the call's own order."""
        try:
            self._inbox.put_nowait(what)
        except asyncio.QueueFull:
            log.error("call %s: event dropped, %d are waiting", self.record.id, _MAX_INBOX)

    def key_pressed(self, digit: str, source: Source) -> None:
        """The caller pressed a key, as told by the media socket or by a webhook."""
        if self._dtmf.accept(source) and self._talk is not None:
            self._talk.key_pressed(digit)

    def say(self, text: str, *, interrupt: bool) -> bool:
        """Have the agent say something. False when it cannot speak now."""
        if self._talk is None or self.machine.over:
            return False
        return self._talk.say(text, interrupt=interrupt)

    def named(self, call_control_id: str) -> None:
        """An event told the carrier's id of our outbound call before the reply to the dial did."""
        if self.record.call_control_id is None:
            self.ledger.record = replace(self.record, call_control_id=call_control_id)

    async def dialled(self, call: DialedCall) -> None:
        """The carrier gave our outbound call its ids."""
        await self.ledger.update(
            call_control_id=call.call_control_id,
            call_session_id=call.call_session_id or None,
            call_leg_id=call.call_leg_id or None,
        )
        if self._closing or self.machine.over:
            # Given up meanwhile, as on shutdown: the telephone must not ring for nobody.
            await self._command("hang up", self.leg.hang_up)
        self.tell(self.machine.dialled)

    async def transfer(self, to: str) -> None:
        """Hand the call to another number, and fall silent. Raises CarrierError."""
        assert self._actions is not None
        await self._actions.hand_over(to)
        if self._talk is not None:
            self._talk.fall_silent()

    def carrier_spoke(self) -> None:
        """The carrier has said what it was asked to say in its own voice."""
        self._equipment.carrier_voice.spoke()

    def carrier_heard(self, text: str, *, final: bool, at: str) -> None:
        """The carrier, listening along, has heard the caller say this."""
        self._equipment.carrier_heard(text, final=final, at=at)

    # --- life ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """From first ring to the last row. Cancelling it hangs up; not once it is `closing`."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self._tape = tape = Tape(self.leg, self.ledger, self.agent.recording, tasks)
                self._actions = FlowActions(
                    self.leg,
                    self.ledger,
                    tape,
                    self._parts.webhook,
                    tasks,
                    on_handed_over=self._handed_over,
                )
                writer = tasks.create_task(self.ledger.turns.run(), name="recorder")
                warm_up = tasks.create_task(self._equipment.warm_up(), name="warm up")
                try:
                    await self._live()
                finally:
                    self._closing = True
                    warm_up.cancel()
                    tape.close()
                    self._actions.close()
                    self.who_answered.close()
                    try:
                        await self._wind_up()
                    finally:
                        # A bug on the way here must not leave a call on record that never ends.
                        await self._store_the_end()
                        writer.cancel()
        finally:
            self.finished.set()
            if self._talk is not None:
                await self._talk.aclose()
            await self._equipment.aclose()

    async def _wind_up(self) -> None:
        try:
            if not (self.machine.over or self._is_handed_over):
                # Cancelled from outside, as on shutdown: nobody is left on a dead line.
                await self._command("hang up", self.leg.hang_up)
            if self._talk is not None:
                await self._talk.stop()
            await self.who_answered.flush()
        except Exception as error:
            self.ledger.error = self.ledger.error or f"internal error: {error!r}"
            log.exception("call %s: its talk was not wound up", self.record.id)

    async def _live(self) -> None:
        if self.record.direction == "inbound":
            await self._obey(self.machine.rang())
        while not self.machine.over:
            try:
                async with asyncio.timeout(self.machine.patience_s):
                    what = await self._inbox.get()
            except TimeoutError:
                what = self.machine.timed_out
            await self._obey(what())
            if self.machine.state != self.record.state:
                await self.ledger.update(state=self.machine.state)

    async def _obey(self, orders: list[Command]) -> None:
        for order in orders:
            match order:
                case commands.Answer():
                    await self._command("answer", self.leg.answer)
                case commands.StartStreaming():
                    answered_at = self.record.answered_at or now()
                    await self._command("start streaming", self._start_streaming)
                    if self.record.answered_at is None:
                        self._picked_up()
                    await self.ledger.update(state="answered", answered_at=answered_at)
                case commands.HangUp(reason):
                    log.info("call %s: hanging up: %s", self.record.id, reason)
                    await self._command("hang up", self.leg.hang_up)
                case commands.Finish(state, cause, source):
                    self.ledger.note(state=state, hangup_cause=cause, hangup_source=source, ended_at=now())

    async def _command(self, name: str, command: Callable[[], Any]) -> None:
        try:
            await command()
        except CallGone:
            self.tell(self.machine.gone)
        except CarrierError as error:
            log.error("call %s: cannot %s: %s", self.record.id, name, error)
            self.ledger.error = self.ledger.error or f"cannot {name}: {error}"
            if name == "hang up":
                self.tell(lambda: self.machine.hung_up("hangup_failed", "backend"))
            else:
                self.tell(lambda: self.machine.hang_up(f"cannot {name}"))

    async def _start_streaming(self) -> None:
        token, auth_token = self._line.new_tokens()
        await self.leg.start_streaming(f"{self._parts.media_url}/{token}", auth_token)

    def _picked_up(self) -> None:
        asked = self.record.direction == "outbound" and self.who_answered.detection is not None
        self.ledger.meter.answered(self.ledger.clock(), detection=asked)
        if self.agent.recording.enabled:
            assert self._tape is not None
            self._tape.switch(True)

    async def _store_the_end(self) -> None:
        shut_down = not self.machine.over
        if shut_down:
            # A caller who talks to somebody else by now goes on doing so: that end nobody will tell us.
            cause, source = ("transferred", None) if self._is_handed_over else ("shutdown", "backend")
            self.ledger.note(state="ended", hangup_cause=cause, hangup_source=source, ended_at=now())
        variables = self._talk.variables if self._talk is not None else self._variables
        await self.ledger.store_the_end(variables, hurry=shut_down)

    @property
    def _is_handed_over(self) -> bool:
        return self._actions is not None and self._actions.handed_over

    def _handed_over(self) -> None:
        self.who_answered.close()  # whatever it was that picked up: it talks to somebody else now
        self.ledger.meter.transferred()
        self.tell(self.machine.handed_over)

    def _talk_over(self, reason: str) -> None:
        self.tell(lambda: self.machine.hang_up(reason))

    # --- media -----------------------------------------------------------------------------------------

    def claims(self, token: str, auth_token: str | None) -> bool:
        """Whether a media socket with these tokens is the one asked for. A token serves once."""
        return self._line.claims(token, auth_token)

    async def attach(self, socket: MediaSocket) -> None:
        """Serve a media socket until it closes or the call is over."""
        await self._line.serve(socket, self.finished)

    def wants_line(self) -> bool:
        """Whether there is still a use for a line."""
        return not (self.machine.over or self._closing)

    def line_is_up(self, codec: Codec) -> None:
        """The line is there. The first time, the call's clock starts, and the talk."""
        if self._talk is not None:
            self._talk.line_restored()
        else:
            try:
                self._talk = self._begin_talk(codec)
            except Exception as error:
                # A bug must not leave the caller in silence until the carrier has tried again in vain.
                log.exception("call %s: the talk could not begin", self.record.id)
                self.ledger.error = f"internal error: {error!r}"
                self._talk_over("the agent could not begin")
                return
            self.who_answered.line_is_up(self._talk)
        self.tell(self.machine.media_attached)

    def _begin_talk(self, codec: Codec) -> Talk:
        assert self._tasks is not None
        assert self._actions is not None
        return Talk(
            self.agent,
            self._variables,
            self._parts,
            self._equipment,
            self.ledger,
            self._actions,
            codec=codec,
            send=self._line.send,
            tasks=self._tasks,
            on_over=self._talk_over,
            silent=self.who_answered.hushed,
        )

    def line_lost(self) -> None:
        """The media socket is gone."""
        if self._talk is not None:
            self._talk.line_lost()
        self.tell(self.machine.media_lost)

    def line_unusable(self, error: UnsupportedLeg) -> None:
        """The line's sound cannot be used."""
        log.error("call %s: %s", self.record.id, error)
        self.ledger.error = str(error)
        self.tell(lambda: self.machine.hang_up("unsupported codec"))

    def caller_audio(self, g711: bytes) -> None:
        """Audio of the caller's."""
        if self._talk is not None:
            self._talk.caller_audio(g711)

    def mark_returned(self, name: str) -> None:
        """The carrier has played up to this mark."""
        if self._talk is not None:
            self._talk.mark_returned(name)
