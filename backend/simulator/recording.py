"""What the carrier records of one line: from when to when, where it can be fetched, and the sound itself.

Cut from what the line keeps anyway. Knows nothing of calls and webhooks.
"""

from __future__ import annotations

import io
import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from backend.simulator.hearing import RATE_HZ
from backend.simulator.line import Line, wav
from backend.simulator.orders import RecordingOrder


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recording that has ended; times on the line's clock, and by the calendar."""

    order: RecordingOrder
    from_ms: float
    until_ms: float
    started_at: datetime
    ended_at: datetime
    id: str
    signature: str

    @property
    def name(self) -> str:
        return f"{self.id}.{self.order.audio_format}"

    @property
    def url(self) -> str:
        """Where it is; as with a bucket's presigned address, whoever has it may listen."""
        return f"{self.order.base_url}sim/recordings/{self.name}?signature={self.signature}"

    def facts(self) -> dict[str, Any]:
        """What a `call.recording.saved` tells of it."""
        return {
            "channels": self.order.channels,
            "recording_started_at": _iso(self.started_at),
            "recording_ended_at": _iso(self.ended_at),
            "recording_urls": {self.order.audio_format: self.url},
            "public_recording_urls": {},
        }


class Recorder:
    """One line's recordings: at most one at a time."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._under_way: tuple[RecordingOrder, float, datetime] | None = None
        self.done: list[Recorded] = []

    @property
    def running(self) -> bool:
        return self._under_way is not None

    def start(self, order: RecordingOrder, at: datetime) -> None:
        """Record from now on."""
        self._under_way = order, self._line.now_ms, at

    def stop(self, at: datetime) -> Recorded | None:
        """Record no more; what was recorded, if anything was."""
        under_way, self._under_way = self._under_way, None
        if under_way is None:
            return None
        order, from_ms, started_at = under_way
        recorded = Recorded(
            order, from_ms, self._line.now_ms, started_at, at, str(uuid.uuid4()), secrets.token_urlsafe(16)
        )
        self.done.append(recorded)
        return recorded

    def sound(self, recorded: Recorded) -> bytes:
        """The file. It takes a while: not for the event loop."""
        stereo = self._line.stereo(recorded.from_ms, recorded.until_ms)
        if recorded.order.channels == "single":
            stereo = np.clip(stereo.astype(np.int32).sum(axis=1, keepdims=True), -32768, 32767).astype("<i2")
        if recorded.order.audio_format == "wav":
            return wav(stereo)
        # Not every stand-in is asked for MP3, and the library takes its time to load.
        import soundfile

        out = io.BytesIO()
        soundfile.write(out, stereo, RATE_HZ, format="MP3")
        return out.getvalue()


def _iso(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
