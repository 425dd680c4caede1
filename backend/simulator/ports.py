"""What every call of the stand-in needs of its process, as protocols. No behaviour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from backend.simulator.conversation import Activity, Leg, Transcriber
from backend.simulator.eventlog import EventLog
from backend.simulator.media_leg import MediaFaults, MediaLeg
from backend.simulator.media_wire import Command, StreamFacts
from backend.simulator.orders import CallTimes
from backend.simulator.shelf import Shelf
from backend.stt.vad import VoiceActivity


class Webhooks(Protocol):
    """Where word of a call goes. See `webhooks.WebhookSender`."""

    def send(self, url: str, event_type: str, payload: dict[str, Any]) -> str:
        """Returns at once: the event's id."""
        ...


class Announcer(Protocol):
    """The carrier's own voice. See `voice.CallerVoice`."""

    async def announce(self, text: str) -> bytes:
        """Int16 at 8 kHz. Raises SpeechError."""
        ...


class Stream(Leg, Protocol):
    """A media stream to the backend. See `media_leg.MediaLeg`."""

    facts: StreamFacts

    async def run(self, on_started: Callable[[], None]) -> None:
        """Live until either side ends it. Raises StreamFailed."""

    def stop(self) -> None: ...

    def drop(self) -> None: ...


class OpenStream(Protocol):
    """Makes a stream that `run` connects."""

    def __call__(
        self,
        url: str,
        facts: StreamFacts,
        *,
        user_id: str,
        on_command: Callable[[Command], None],
        faults: MediaFaults,
    ) -> Stream: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every call needs of the process."""

    webhooks: Webhooks
    voice: Announcer
    ears: Transcriber
    events: EventLog
    faults: MediaFaults
    times: CallTimes
    user_id: str
    shelf: Shelf | None = None
    open_stream: OpenStream = MediaLeg
    make_activity: Callable[[], Activity] = VoiceActivity
