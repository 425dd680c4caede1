"""The carrier: all calls, who answers outbound ones, and what is kept of them afterwards.

Owns every call's task. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import orjson

from backend.core.g711 import Codec
from backend.simulator import refusal
from backend.simulator.call import SimCall
from backend.simulator.conversation import Transcriber
from backend.simulator.eventlog import EventLog
from backend.simulator.line import Utterance
from backend.simulator.machine import with_beep
from backend.simulator.media_leg import MediaFaults
from backend.simulator.orders import CallTimes, Order, Outcome, Plan
from backend.simulator.ports import Surroundings
from backend.simulator.recording import Recorded
from backend.simulator.script import LISTENER, Say, Script
from backend.simulator.shelf import MAX_BYTES, Shelf
from backend.simulator.voice import CallerVoice
from backend.simulator.webhooks import WebhookPolicy, WebhookSender

log = logging.getLogger(__name__)

MAX_ANSWERERS = 1_000
_MAX_LIVE_CALLS = 200
_KEPT_CALLS = 500
_KEPT_RECORDINGS = 50
_END_WITHIN_S = 8.0


@dataclass(frozen=True, slots=True)
class CarrierConfig:
    """How the stand-in behaves. `webhook_url`: where the backend takes Telnyx events."""

    webhook_url: str
    api_key: str | None = None
    connection_id: str = "simulated-connection"
    out_dir: Path | None = None
    webhooks: WebhookPolicy = field(default_factory=WebhookPolicy)
    faults: MediaFaults = field(default_factory=MediaFaults)
    times: CallTimes = field(default_factory=CallTimes)
    max_sound_bytes: int = MAX_BYTES


class Carrier:
    """`async with` it: leaving ends all calls."""

    def __init__(self, config: CarrierConfig, *, voice: CallerVoice, ears: Transcriber) -> None:
        self.config = config
        self.webhooks = WebhookSender(config.webhooks)
        self.events = EventLog()
        self._voice = voice
        self._around = Surroundings(
            webhooks=self.webhooks,
            voice=voice,
            ears=ears,
            events=self.events,
            faults=config.faults,
            times=config.times,
            user_id="simulated-user",
            shelf=Shelf(config.max_sound_bytes),
        )
        self._calls: OrderedDict[str, SimCall] = OrderedDict()
        self._answerers: deque[Plan] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Carrier:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for call in self._calls.values():
            call.cut()
        running = tuple(self._running)
        if running:
            await asyncio.wait(running, timeout=_END_WITHIN_S)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self.webhooks.close(grace_s=1.0)

    async def plan(
        self,
        script: Script,
        codec: Codec,
        *,
        outcome: Outcome = "answer",
        answer_after_ms: int | None = None,
        faults: MediaFaults | None = None,
    ) -> Plan:
        """A person who plays the script; all they will say is synthesised now. Raises SpeechError."""
        said = {
            (step.say, step.noise_db): await self._voice.say(
                step.say, pitch=script.voice.pitch, speed=script.voice.speed, noise_db=step.noise_db
            )
            for step in script.spoken
        }
        for step in script.spoken:
            if isinstance(step, Say) and step.beep:
                said[step.say, step.noise_db] = with_beep(said[step.say, step.noise_db])
        return Plan(script, said, codec, outcome, answer_after_ms, faults)

    def ring(self, *, from_number: str, to_number: str, plan: Plan) -> SimCall:
        """Somebody calls the backend. Raises Refusal when too many calls are live."""
        order = Order(
            direction="inbound",
            from_number=from_number,
            to_number=to_number,
            connection_id=self.config.connection_id,
            webhook_url=self.config.webhook_url,
        )
        return self._place(order, plan)

    async def say(self, call_control_id: str, text: str, *, noise_db: float | None = None) -> Utterance:
        """A call's person says this, in their own voice, as soon as it is synthesised. → what is said.

        Raises Refusal when there is no line, SpeechError when there is nothing to pronounce.
        """
        call = self.call(call_control_id)
        voice = call.plan.script.voice
        utterance = await self._voice.say(text, pitch=voice.pitch, speed=voice.speed, noise_db=noise_db)
        call.say_by_caller(utterance)
        return utterance

    def answer_next(self, plan: Plan) -> int:
        """How the next outbound dial without a plan of its own is answered. → how many are waiting."""
        if len(self._answerers) >= MAX_ANSWERERS:
            raise refusal.bad_request(f"{MAX_ANSWERERS} answers are waiting for outbound calls already.")
        self._answerers.append(plan)
        return len(self._answerers)

    def dial(self, order: Order) -> SimCall:
        """The backend calls somebody. Raises Refusal when too many calls are live."""
        plan = self._answerers.popleft() if self._answerers else Plan(LISTENER, {}, Codec.PCMU)
        return self._place(order, plan)

    def call(self, call_control_id: str) -> SimCall:
        """Raises Refusal (404) for an unknown one."""
        found = self._calls.get(call_control_id)
        if found is None:
            raise refusal.unknown_call(call_control_id)
        return found

    def recording(self, name: str, signature: str) -> tuple[SimCall, Recorded]:
        """A recording, and whose it is. Raises Refusal (403) for a wrong address, whatever is wrong in it."""
        for call in self._calls.values():
            for recorded in call.recorder.done:
                if recorded.name == name and hmac.compare_digest(
                    recorded.signature.encode(), signature.encode()
                ):
                    return call, recorded
        raise refusal.Refusal(403, "10010", "Not authorized", "There is no recording at this address.")

    @property
    def calls(self) -> list[SimCall]:
        """Newest first."""
        return list(reversed(self._calls.values()))

    @property
    def live_calls(self) -> int:
        return sum(not call.complete for call in self._calls.values())

    def _place(self, order: Order, plan: Plan) -> SimCall:
        if self.live_calls >= _MAX_LIVE_CALLS:
            raise refusal.Refusal(
                403, "90041", "User channel limit exceeded", f"{_MAX_LIVE_CALLS} calls are live already."
            )
        call = SimCall(order, plan, self._around)
        self._calls[call.call_control_id] = call
        task = asyncio.create_task(self._run(call), name=f"call {call.call_control_id}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return call

    async def _run(self, call: SimCall) -> None:
        await call.run()
        if self.config.out_dir is not None:
            try:
                await asyncio.to_thread(_write, self.config.out_dir, call)
            except OSError as error:
                log.error("the recording of %s cannot be written: %s", call.call_control_id, error)
        self._forget()

    def _forget(self) -> None:
        """Bound what is kept: sound of the newest 50 ended calls at most, facts of the newest 500."""
        ended = [call for call in self.calls if call.complete]
        for call in ended[_KEPT_RECORDINGS:]:
            call.conversation.line.forget_audio()
        for call in ended[_KEPT_CALLS:]:
            del self._calls[call.call_control_id]


def _write(folder: Path, call: SimCall) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{call.created_at:%Y%m%d-%H%M%S}-{call.order.direction}-{call.call_session_id}"
    if call.conversation.line.sound_kept:
        (folder / f"{name}.wav").write_bytes(call.conversation.line.wav())
    else:
        log.error("the sound of %s cannot be written: %s", call.call_control_id, refusal.sound_given_up())
    (folder / f"{name}.json").write_bytes(orjson.dumps(call.record().to_json(), option=orjson.OPT_INDENT_2))
