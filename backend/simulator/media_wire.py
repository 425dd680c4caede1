"""The media stream's JSON frames from the carrier's side: what Telnyx sends, and how it reads what it gets.

Numbers inside frames are strings, as Telnyx writes them. No sockets, no clocks, no audio decoding.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import orjson

from backend.core.g711 import BYTES_PER_MS, FRAME_BYTES, RATE_HZ

_MAX_PAYLOAD_BYTES = 30_000 * BYTES_PER_MS
_MALFORMED = (100003, "malformed_frame")
_INVALID_MEDIA = (100004, "invalid_media")


@dataclass(frozen=True, slots=True)
class PlayAudio:
    """G.711 for the line, 20 ms to 30 s."""

    g711: bytes


@dataclass(frozen=True, slots=True)
class PlayMark:
    """Send the name back once the audio before it was played."""

    name: str


@dataclass(frozen=True, slots=True)
class ClearQueue:
    """Stop playing."""


@dataclass(frozen=True, slots=True)
class BadFrame:
    """A frame that cannot be used; answered with an `error` frame, the stream goes on."""

    code: int
    title: str
    detail: str


Command = PlayAudio | PlayMark | ClearQueue | BadFrame


def read_command(message: str | bytes) -> Command:
    """One message from the backend."""
    if isinstance(message, bytes):
        return BadFrame(*_MALFORMED, "expected a text message with JSON, got a binary one")
    try:
        frame = orjson.loads(message)
    except orjson.JSONDecodeError as error:
        return BadFrame(*_MALFORMED, f"not JSON: {error}")
    if not isinstance(frame, dict):
        return BadFrame(*_MALFORMED, "not a JSON object")
    match frame.get("event"):
        case "media":
            return _read_media(frame.get("media"))
        case "mark":
            mark = frame.get("mark")
            name = mark.get("name") if isinstance(mark, dict) else None
            if not isinstance(name, str) or not name:
                return BadFrame(*_MALFORMED, "mark.name is missing or not a string")
            return PlayMark(name)
        case "clear":
            return ClearQueue()
        case other:
            return BadFrame(*_MALFORMED, f"unknown event {other!r}; known are media, mark and clear")


def _read_media(media: object) -> PlayAudio | BadFrame:
    payload = media.get("payload") if isinstance(media, dict) else None
    if not isinstance(payload, str):
        return BadFrame(*_INVALID_MEDIA, "media.payload is missing or not a string")
    try:
        g711 = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        return BadFrame(*_INVALID_MEDIA, f"media.payload is not base64: {error}")
    if not FRAME_BYTES <= len(g711) <= _MAX_PAYLOAD_BYTES:
        ms = len(g711) / BYTES_PER_MS
        return BadFrame(*_INVALID_MEDIA, f"media.payload holds {ms:g} ms of audio; it must be 20 ms to 30 s")
    return PlayAudio(g711)


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What the `start` frame tells about the call. `encoding` is that of the audio sent to the backend."""

    stream_id: str
    call_control_id: str
    call_session_id: str
    from_number: str
    to_number: str
    encoding: str
    client_state: str | None = None
    auth_token: str | None = None
    custom_parameters: tuple[tuple[str, str], ...] = ()


class FrameWriter:
    """Numbers and writes one stream's frames."""

    def __init__(self, facts: StreamFacts) -> None:
        self._facts = facts
        self._sequence = 0
        self._chunks: dict[str, int] = {}

    def connected(self) -> str:
        frame = {"event": "connected", "version": "1.0.0"}
        if self._facts.auth_token is not None:
            frame["stream_auth_token"] = self._facts.auth_token
        return orjson.dumps(frame).decode()

    def start(self, user_id: str) -> str:
        facts = self._facts
        start: dict[str, Any] = {
            "user_id": user_id,
            "call_control_id": facts.call_control_id,
            "call_session_id": facts.call_session_id,
            "from": facts.from_number,
            "to": facts.to_number,
            "tags": [],
            "client_state": facts.client_state,
            "custom_parameters": dict(facts.custom_parameters),
            "media_format": {"encoding": facts.encoding, "sample_rate": RATE_HZ, "channels": 1},
        }
        return self._frame("start", start=start)

    def media(self, g711: bytes, *, timestamp_ms: int, track: str = "inbound") -> str:
        chunk = self._chunks[track] = self._chunks.get(track, 0) + 1
        payload = base64.b64encode(g711).decode("ascii")
        media = {"track": track, "chunk": str(chunk), "timestamp": str(timestamp_ms), "payload": payload}
        return self._frame("media", media=media)

    def dtmf(self, digit: str) -> str:
        return self._frame("dtmf", dtmf={"digit": digit})

    def mark(self, name: str) -> str:
        return self._frame("mark", mark={"name": name})

    def stop(self, user_id: str) -> str:
        return self._frame("stop", stop={"user_id": user_id, "call_control_id": self._facts.call_control_id})

    def error(self, fault: BadFrame) -> str:
        payload = {"code": fault.code, "title": fault.title, "detail": fault.detail}
        frame = {"event": "error", "stream_id": self._facts.stream_id, "payload": payload}
        return orjson.dumps(frame).decode()

    def _frame(self, event: str, **body: Any) -> str:
        self._sequence += 1
        frame = {
            "event": event,
            "sequence_number": str(self._sequence),
            "stream_id": self._facts.stream_id,
            **body,
        }
        return orjson.dumps(frame).decode()
