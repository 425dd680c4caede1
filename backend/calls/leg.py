"""One call at the carrier: its commands, each with an id that makes a retry harmless.

Refuses to know when they are due.
"""

from __future__ import annotations

from backend.calls.ledger import Ledger
from backend.calls.ports import Carrier, ListeningCarrier, RecordingCarrier
from backend.core.agent_settings import RecordingSettings
from backend.core.g711 import Codec
from backend.core.hearing import CarrierHearing
from backend.errors import CallGone, CarrierError, HearingError, SpeechFailure

SEND_CODEC = Codec.PCMU
"""What we ask the carrier to take from us (`stream_bidirectional_codec`): it transcodes for the leg. What
comes from the caller is in the leg's own codec, as `start.media_format` says."""


class CarrierLeg:
    """One call's. Every command raises CarrierError, as `CallGone` when the call is over."""

    def __init__(self, carrier: Carrier, ledger: Ledger) -> None:
        self.carrier, self._ledger = carrier, ledger
        self._commands = 0

    @property
    def ccid(self) -> str:
        """The carrier's id of the call; "" while it has none."""
        return self._ledger.record.call_control_id or ""

    def next_command_id(self, name: str) -> str:
        """An id that makes a retried command harmless."""
        self._commands += 1
        return f"{self._ledger.record.id}-{self._commands}-{name}"

    async def answer(self) -> None:
        """Pick up."""
        await self.carrier.answer(self.ccid, command_id=self.next_command_id("answer"))

    async def hang_up(self) -> None:
        """End the call; nothing for a dial that the carrier has not taken yet."""
        if self.ccid:
            await self.carrier.hangup(self.ccid, command_id=self.next_command_id("hangup"))

    async def start_streaming(self, url: str, auth_token: str) -> None:
        """Have the carrier connect its media socket."""
        await self.carrier.start_streaming(
            self.ccid,
            stream_url=url,
            auth_token=auth_token,
            codec=SEND_CODEC.value,
            command_id=self.next_command_id("stream"),
        )

    async def transfer(self, to: str) -> None:
        """Hand the other party to somebody else."""
        await self.carrier.transfer(self.ccid, to=to, command_id=self.next_command_id("transfer"))

    async def send_dtmf(self, digits: str) -> None:
        """Press keys."""
        await self.carrier.send_dtmf(self.ccid, digits=digits, command_id=self.next_command_id("dtmf"))

    async def start_recording(self, how: RecordingSettings) -> None:
        """Have the carrier record."""
        if not isinstance(self.carrier, RecordingCarrier):
            raise CarrierError("this carrier cannot record")
        await self.carrier.start_recording(
            self.ccid,
            channels=how.channels,
            audio_format=how.format,
            # What comes of it is told without the call's id, perhaps, and when the call is long forgotten.
            client_state=self._ledger.record.id,
            command_id=self.next_command_id("record"),
        )

    async def stop_recording(self) -> None:
        """Record no more."""
        if isinstance(self.carrier, RecordingCarrier):
            await self.carrier.stop_recording(self.ccid, command_id=self.next_command_id("record-stop"))

    async def start_hearing(self, order: CarrierHearing) -> None:
        """Have the carrier listen along. Raises HearingError."""
        carrier = self.carrier
        if not isinstance(carrier, ListeningCarrier):
            what = "this carrier cannot listen along"
            raise HearingError(what, route="telnyx", reason="bad_request")
        try:
            await carrier.start_transcription(
                self.ccid,
                model=order.model,
                language=order.language,
                key_terms=order.key_terms,
                command_id=self.next_command_id("transcription"),
            )
        except CarrierError as error:
            raise HearingError(str(error), route="telnyx", reason=_refusal(error)) from error


def _refusal(error: CarrierError) -> SpeechFailure:
    """Why the carrier does not listen along."""
    if isinstance(error, CallGone):
        return "bad_request"  # it is not the carrier's fault
    if error.status in (401, 403):
        return "unauthorized"
    if error.status is None:
        return "unreachable"
    return "rate_limited" if error.status == 429 else "generation_failed"
