"""What a call flow's nodes do beside speaking: transfers, keys, recording, webhooks. Never decides when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from backend.calls.ledger import Ledger, now
from backend.calls.leg import CarrierLeg
from backend.calls.ports import SendWebhook
from backend.calls.tape import Tape
from backend.core.steps import Action, CallWebhook, Hangup, Record, SendDtmf, Transfer
from backend.errors import CallGone, CarrierError

log = logging.getLogger(__name__)

NOT_CONNECTED = "I'm sorry, I could not connect you. Please call again later."
"""Said when a transfer fails."""
_MAX_WEBHOOKS = 8  # of one call at a time; more are dropped, which is logged


class FlowActions:
    """One call's. What it sends beside the call runs in `tasks`; `close` it before they must end."""

    def __init__(
        self,
        leg: CarrierLeg,
        ledger: Ledger,
        tape: Tape,
        webhook: SendWebhook | None,
        tasks: asyncio.TaskGroup,
        *,
        on_handed_over: Callable[[], None],
    ) -> None:
        self.handed_over = False
        """Whether the caller is somebody else's by now."""
        self._leg, self._ledger, self._tape = leg, ledger, tape
        self._webhook, self._tasks = webhook, tasks
        self._on_handed_over = on_handed_over
        self._webhooks = 0
        self._transfers: set[asyncio.Task[CarrierError | None]] = set()

    async def perform(self, action: Action, node_id: str, variables: Mapping[str, str]) -> str | None:
        """Carry out an action of a node's; a sentence to say when it failed and the caller should know."""
        try:
            match action:
                case Transfer(to):
                    await self.hand_over(to)
                case SendDtmf(digits):
                    await self._leg.send_dtmf(digits)
                case CallWebhook(url):
                    self._tell_webhook(url, node_id, variables)
                case Record(on):
                    self._tape.switch(on)
                case Hangup():
                    pass  # the conversation ends, and with it the call
        except CallGone as error:
            log.info("call %s: %s", self._ledger.record.id, error)  # the caller hung up: nothing failed
        except CarrierError as error:
            log.error("call %s: %s", self._ledger.record.id, error)
            self._ledger.error = str(error)
            if isinstance(action, Transfer):
                return NOT_CONNECTED
        return None

    async def hand_over(self, to: str) -> None:
        """Hand the call to another number. Raises CarrierError.

        Once asked for, it is seen through while the call lasts, whoever stops waiting for it: see `settled`.
        """
        task = self._tasks.create_task(self._transfer(to), name="transfer")
        self._transfers.add(task)
        task.add_done_callback(self._transfers.discard)
        await asyncio.wait([task])
        if task.cancelled():
            raise CallGone("the call was over before it was transferred")
        if (error := task.result()) is not None:
            raise error

    async def settled(self) -> bool:
        """Whether the caller is somebody else's, when every transfer under way has come to its end."""
        if transfers := list(self._transfers):
            await asyncio.wait(transfers)
        for task in transfers:
            if not task.cancelled() and (error := task.result()) is not None:
                log.error("call %s: %s", self._ledger.record.id, error)
        return self.handed_over

    def close(self) -> None:
        """The call is over: nobody is left to be transferred."""
        for task in self._transfers:
            task.cancel()

    async def _transfer(self, to: str) -> CarrierError | None:
        try:
            await self._leg.transfer(to)
        except CarrierError as error:
            return error
        self.handed_over = True
        self._on_handed_over()
        return None

    def _tell_webhook(self, url: str, node_id: str, variables: Mapping[str, str]) -> None:
        """Pass on what is known now; the call goes on meanwhile."""
        send, record = self._webhook, self._ledger.record
        host = urlsplit(url).hostname  # the rest of an address may be a secret
        if send is None:
            log.warning("call %s: webhook actions are off here: nothing is sent to %s", record.id, host)
            return
        if self._webhooks >= _MAX_WEBHOOKS:
            log.error(
                "call %s: webhook not sent to %s: %d others are under way", record.id, host, _MAX_WEBHOOKS
            )
            return
        data = {
            "event": "node",
            "node_id": node_id,
            "call_id": record.id,
            "call_control_id": record.call_control_id,
            "agent_id": record.agent_id,
            "direction": record.direction,
            "from": record.from_number,
            "to": record.to_number,
            "at": now().isoformat(),
            "variables": dict(variables),
        }

        async def tell() -> None:
            try:
                await send(url, data)
            except Exception as error:
                # Nobody waits for it, and a bug in it must not end the call; its words may hold the address.
                log.error("call %s: webhook not sent: %s", record.id, type(error).__name__)
            finally:
                self._webhooks -= 1

        self._webhooks += 1
        self._tasks.create_task(tell(), name="webhook")
