"""What a call is made of before it begins: who calls whom, how the person behaves, how a stream is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backend.core.g711 import Codec
from backend.simulator.conversation import Said
from backend.simulator.machine import MachineDetection
from backend.simulator.media_leg import MediaFaults
from backend.simulator.record import Direction
from backend.simulator.script import Script

Outcome = Literal["answer", "busy", "no_answer"]


@dataclass(frozen=True, slots=True)
class CallTimes:
    """How patient everybody is."""

    caller_rings_s: float = 30.0
    media_grace_s: float = 3.0  # after the answer: without media by then, the line's clock starts anyway
    longest_call_s: float = 900.0
    transfer_rings_s: float = 0.3


@dataclass(frozen=True, slots=True)
class StreamOrder:
    """A checked `streaming_start`."""

    url: str
    auth_token: str | None
    inbound_track: bool
    outbound_track: bool
    plays: bool  # stream_bidirectional_mode is rtp and the audio is meant for this leg
    send_codec: Codec | None  # what the backend is sent; None: the leg's own
    play_codec: Codec  # what the backend sends
    custom_parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TranscriptionOrder:
    """A checked `transcription_start`."""

    engine: str
    interim: bool  # words are also told before they are final


@dataclass(frozen=True, slots=True)
class RecordingOrder:
    """A checked `record_start`. `base_url`: where the stand-in is reached, with a slash at the end."""

    channels: Literal["single", "dual"]
    audio_format: Literal["wav", "mp3"]
    base_url: str


@dataclass(frozen=True, slots=True)
class Plan:
    """How the person at the other end behaves."""

    script: Script
    said: Said
    codec: Codec
    outcome: Outcome = "answer"
    answer_after_ms: int | None = None
    faults: MediaFaults | None = None  # of this call's network; None: the stand-in's own


@dataclass(frozen=True, slots=True)
class Order:
    """Who calls whom, and what was asked with a dial."""

    direction: Direction
    from_number: str
    to_number: str
    connection_id: str
    webhook_url: str
    client_state: str | None = None
    timeout_s: float = 30.0
    time_limit_s: float | None = None
    stream: StreamOrder | None = None
    machine_detection: MachineDetection = "disabled"
