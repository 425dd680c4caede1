"""What one call speaks and hears by, from its first ring to its end."""

from __future__ import annotations

import logging

from backend.calls.leg import SEND_CODEC, CarrierLeg
from backend.calls.ports import CallParts, CarrierTold, StreamingTranscriber
from backend.calls.speaking.carrier_voice import CarrierVoice
from backend.calls.speaking.voice import Voice
from backend.core.agent import Agent
from backend.core.failover import Patience
from backend.errors import SpeechError

log = logging.getLogger(__name__)


class Equipment:
    """One call's voice and ears. `aclose` it when the call is over."""

    def __init__(self, call_id: str, agent: Agent, parts: CallParts, leg: CarrierLeg) -> None:
        self._call_id = call_id
        self.carrier_voice = CarrierVoice(
            parts.carrier,
            language=agent.language,
            ccid=lambda: leg.ccid,
            command_id=leg.next_command_id,
        )
        self.prepared = parts.prepared(agent)
        self.voice = Voice(
            parts.plan_routes(agent),
            board=parts.board,
            clock=parts.clock,
            codec=SEND_CODEC,
            patience=Patience(first_audio_ms=agent.failover.first_audio_ms, hedge_ms=agent.failover.hedge_ms),
            ears=parts.transcriber if agent.language.startswith("en") else None,
            prepared=self.prepared,
            last_resort=self.carrier_voice.say if agent.falls_back_on_carrier else None,
        )
        self.ears = parts.make_ears(agent, leg.start_hearing) if parts.make_ears else parts.transcriber

    async def warm_up(self) -> None:
        """Get the voice ready, so that the first word comes sooner."""
        try:
            await self.voice.connect()
        except SpeechError as error:
            # Not the end yet: the voice may be back by the time somebody picks up.
            log.warning("call %s: %s", self._call_id, error)

    def carrier_heard(self, text: str, *, final: bool, at: str) -> None:
        """The carrier, listening along, has heard the caller say this."""
        if isinstance(self.ears, CarrierTold):
            self.ears.told(text, final=final, at=at)

    async def aclose(self) -> None:
        """Let go of all of it."""
        await self.voice.aclose()
        if isinstance(self.ears, StreamingTranscriber):
            await self.ears.aclose()
        await self.carrier_voice.aclose()
        if self.prepared is not None:
            await self.prepared.aclose()
