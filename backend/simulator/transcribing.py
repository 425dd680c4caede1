"""The carrier's own transcription of one call: what the person says is told by webhook.

What the script says is what was heard.
"""

from __future__ import annotations

from backend.simulator import refusal
from backend.simulator.lifetime import Lifetime
from backend.simulator.orders import TranscriptionOrder
from backend.simulator.telling import Telling

_FINAL_WORDS_AFTER_S = 0.25  # of the end of the person's speech


class Transcribing:
    """One call's: on or off."""

    def __init__(self, life: Lifetime, telling: Telling) -> None:
        self._life, self._telling = life, telling
        self._order: TranscriptionOrder | None = None

    def start(self, order: TranscriptionOrder) -> None:
        """From now on. Raises Refusal where it is on."""
        if self._order is not None:
            raise refusal.bad_request("This call is transcribed already.")
        self._order = order

    def stop(self) -> None:
        """Raises Refusal where it is off."""
        if self._order is None:
            raise refusal.bad_request("This call is not transcribed.")
        self._order = None

    def heard(self, text: str) -> None:
        """The person has said this."""
        if self._order is not None and not self._life.over.is_set():
            self._life.spawn(self._transcribe(text, self._order), "transcription")

    async def _transcribe(self, text: str, order: TranscriptionOrder) -> None:
        """So far at once, if that is wanted, then for good."""
        if order.interim:
            self._tell(text, is_final=False)
        if not await self._life.happens(self._life.over, _FINAL_WORDS_AFTER_S):
            self._tell(text, is_final=True)

    def _tell(self, text: str, *, is_final: bool) -> None:
        data = {
            "transcript": text,
            "is_final": is_final,
            "confidence": 0.97,
            "transcription_track": "inbound",
        }
        self._telling.tell("call.transcription", transcription_data=data)
