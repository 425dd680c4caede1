"""The Telnyx media protocol without I/O: frames in → events, and the few frames we send.

Follows Telnyx's media streaming over WebSockets. Numbers inside frames are strings; inbound audio may come
out of order. Knows nothing of sockets, of what the audio says, or of when to send.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from backend.core.g711 import FRAME_BYTES, Codec
from backend.errors import BackendError

_KEYS = frozenset("0123456789*#ABCD")
_MAX_NUMBER_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Connected:
    """The socket speaks the media protocol; no audio yet."""

    version: str


@dataclass(frozen=True, slots=True)
class Started:
    """The stream's facts. `codec` is that of the caller's audio; ours is what `streaming_start` declared."""

    stream_id: str
    call_control_id: str
    codec: Codec


@dataclass(frozen=True, slots=True)
class AudioIn:
    """Caller's audio in order, G.711 bytes in the leg's codec."""

    g711: bytes


@dataclass(frozen=True, slots=True)
class DtmfIn:
    """A key the caller pressed: 0-9, *, #, A-D."""

    digit: str


@dataclass(frozen=True, slots=True)
class MarkReturned:
    """All audio sent before the mark was played, or it was cleared."""

    name: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The carrier ended the stream."""


@dataclass(frozen=True, slots=True)
class CarrierFault:
    """The carrier could not use a frame we sent.

    Codes: 100002 unknown event, 100003 malformed, 100004 invalid media, 100005 too many.
    """

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A frame that cannot be used, and why. Never fatal: carriers add frames."""

    reason: str


MediaEvent = Connected | Started | AudioIn | DtmfIn | MarkReturned | Stopped | CarrierFault | Ignored


class UnsupportedLeg(BackendError):
    """The leg's codec is none of ours; the message names it."""


class MediaSession:
    """One media socket's receiving side: feed it text frames, get events."""

    def __init__(self, *, reorder_frames: int = 5) -> None:
        self._depth = reorder_frames
        self._order = _Reorder(reorder_frames)
        self._codec = Codec.PCMU

    def receive(self, frame: str | bytes) -> list[MediaEvent]:
        """Events of one frame, audio already in order.

        Raises UnsupportedLeg when the stream starts with a codec other than PCMU or PCMA at 8 kHz mono.
        """
        try:
            message = orjson.loads(frame)
        except orjson.JSONDecodeError as error:
            return [Ignored(f"not JSON: {error}")]
        if not isinstance(message, dict):
            return [Ignored("not a JSON object")]
        match message.get("event"):
            case "media":
                return self._media(_part(message, "media"))
            case "start":
                return [self._start(message)]
            case "dtmf":
                return [_key(_part(message, "dtmf").get("digit"))]
            case "mark":
                return [MarkReturned(str(_part(message, "mark").get("name", "")))]
            case "stop":
                return [*self._drain(), Stopped()]
            case "connected":
                return [Connected(str(message.get("version", "")))]
            case "error":
                fault = _part(message, "payload")
                return [CarrierFault(str(fault.get("code", "")), str(fault.get("detail", "")))]
            case other:
                return [Ignored(f"unknown event {other!r}")]

    def _start(self, message: Mapping[str, Any]) -> Started:
        start = _part(message, "start")
        media_format = _part(start, "media_format")
        encoding = str(media_format.get("encoding") or "PCMU").upper()
        rate, channels = str(media_format.get("sample_rate") or 8000), str(media_format.get("channels") or 1)
        if encoding not in Codec.__members__ or rate != "8000" or channels != "1":
            raise UnsupportedLeg(
                f"the leg speaks {encoding} at {rate} Hz with {channels} channel(s); "
                "only PCMU and PCMA at 8000 Hz mono are supported"
            )
        self._codec = Codec[encoding]
        self._order = _Reorder(self._depth)  # a stream that starts numbers its frames anew
        return Started(str(message.get("stream_id", "")), str(start.get("call_control_id", "")), self._codec)

    def _media(self, media: Mapping[str, Any]) -> list[MediaEvent]:
        if media.get("track", "inbound") not in ("inbound", "inbound_track"):
            return []
        try:
            payload = base64.b64decode(media.get("payload", ""), validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            return [Ignored(f"media payload is not base64: {error}")]
        chunk = str(media.get("chunk", ""))
        if not chunk.isdecimal() or len(chunk) > _MAX_NUMBER_DIGITS:
            return [AudioIn(payload)] if payload else []
        return [AudioIn(g711) for g711 in self._order.push(int(chunk), payload, self._codec.silence)]

    def _drain(self) -> list[MediaEvent]:
        return [AudioIn(g711) for g711 in self._order.drain(self._codec.silence)]


class _Reorder:
    """Puts numbered frames in order, waiting for a late one until `depth` later ones have come.

    A frame that stays away is replaced by silence, so that time on the line keeps its length; one that
    comes later still is dropped. Numbers that leap, forwards or back, are a new beginning.
    """

    _MAX_FILL = 50  # a second; a longer jump in the numbers is a new beginning, not a loss
    _RESTART_RUN = 3  # frames in a row from far back: one alone is a straggler, these are a new numbering

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._next: int | None = None
        self._early: dict[int, bytes] = {}
        self._far_back = 0

    def push(self, number: int, payload: bytes, silence: bytes) -> Iterator[bytes]:
        if self._next is None:
            # Frames count from 1: the very first ones may be out of order, too.
            self._next = 1 if 1 <= number <= self._depth + 1 else number
        if number < self._next:
            self._far_back = self._far_back + 1 if self._next - number > self._MAX_FILL else 0
            if self._far_back < self._RESTART_RUN:
                return
            yield from self.drain(silence)
            self._next = number
        self._far_back = 0
        self._early.setdefault(number, payload)
        yield from self._ready()
        if len(self._early) > self._depth:
            yield from self._skip_gap(silence)

    def drain(self, silence: bytes) -> Iterator[bytes]:
        while self._early:
            yield from self._skip_gap(silence)

    def _ready(self) -> Iterator[bytes]:
        while self._next is not None and (payload := self._early.pop(self._next, None)) is not None:
            self._next += 1
            if payload:
                yield payload

    def _skip_gap(self, silence: bytes) -> Iterator[bytes]:
        assert self._next is not None
        first = min(self._early)
        missing = first - self._next
        if missing <= self._MAX_FILL:
            yield silence * (len(self._early[first]) or FRAME_BYTES) * missing
        self._next = first
        yield from self._ready()


def media_frame(g711: bytes) -> str:
    """Audio for the line: 20 ms to 30 s of raw codec bytes, no header."""
    return f'{{"event":"media","media":{{"payload":"{base64.b64encode(g711).decode("ascii")}"}}}}'


def mark_frame(name: str) -> str:
    """A mark that comes back when the audio sent before it was played, or cleared."""
    return orjson.dumps({"event": "mark", "mark": {"name": name}}).decode()


CLEAR_FRAME = '{"event":"clear"}'
"""Stop playing, empty the carrier's queue; every queued mark comes back."""


def _key(digit: object) -> DtmfIn | Ignored:
    key = str(digit).upper()
    return DtmfIn(key) if key in _KEYS else Ignored(f"no such key: {digit!r}")


def _part(message: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = message.get(key)
    return value if isinstance(value, Mapping) else {}
