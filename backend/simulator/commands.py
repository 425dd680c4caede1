"""Bodies of Telnyx's Call Control commands: checked into plain values, or refused in Telnyx's words.

Fields the stand-in has no use for are accepted and ignored, as long as Telnyx knows them or not: the real
API validates those. Knows nothing of HTTP or of calls.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, cast, get_args

from backend.core.g711 import Codec
from backend.simulator import refusal
from backend.simulator.machine import MachineDetection
from backend.simulator.orders import Order, RecordingOrder, StreamOrder, TranscriptionOrder

_E164 = re.compile(r"\+[1-9]\d{6,14}")
_SIP_URI = re.compile(r"sips?:[^\s@]+(@[^\s@]+)?")
_DTMF = re.compile(r"[0-9A-D*#wW]{1,100}")
_TRACKS = {
    "inbound_track": (True, False),
    "outbound_track": (False, True),
    "both_tracks": (True, True),
}
_ENGINES = ("Google", "Telnyx", "Deepgram", "Azure", "A", "B")
REJECT_CAUSES = ("CALL_REJECTED", "NOT_FOUND", "TEMPORARILY_UNAVAILABLE", "USER_BUSY")

Body = Mapping[str, Any]


def text(body: Body, field: str, *, longest: int = 4_000) -> str:
    """A required, non-empty text."""
    value = body.get(field)
    if value is None or value == "":
        raise refusal.missing(field)
    if not isinstance(value, str) or len(value) > longest:
        raise refusal.bad_request(
            f"{field!r} must be text of at most {longest} characters.", pointer=f"/{field}"
        )
    return value


def optional_text(body: Body, field: str, *, longest: int = 4_000) -> str | None:
    return None if body.get(field) is None else text(body, field, longest=longest)


def number(body: Body, field: str) -> str:
    """A required telephone number (E.164) or SIP URI."""
    value = body.get(field)
    if isinstance(value, list):
        if len(value) != 1:
            raise refusal.bad_request("The stand-in dials one number at a time.", pointer=f"/{field}")
        value = value[0]
    if value is None:
        raise refusal.missing(field)
    if not isinstance(value, str) or not (_E164.fullmatch(value) or _SIP_URI.fullmatch(value)):
        raise refusal.not_e164(field, value)
    return value


def integer(body: Body, field: str, *, lowest: int, highest: int) -> int | None:
    value = body.get(field)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise refusal.bad_request(
            f"{field!r} must be a whole number from {lowest} to {highest}.", pointer=f"/{field}"
        )
    return value


def choice(body: Body, field: str, known: tuple[str, ...], default: str | None) -> str:
    value = body.get(field, default)
    if value is None:
        raise refusal.missing(field)
    if value not in known:
        raise refusal.bad_request(
            f"{field!r} must be one of {', '.join(known)}, not {value!r}.", pointer=f"/{field}"
        )
    return str(value)


def client_state(body: Body, field: str = "client_state") -> str | None:
    """Base64, as Telnyx wants it."""
    value = optional_text(body, field, longest=64_000)
    if value is not None:
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise refusal.bad_request(f"{field!r} must be base64.", pointer=f"/{field}") from None
    return value


def digits(body: Body) -> str:
    value = text(body, "digits", longest=100)
    if not _DTMF.fullmatch(value):
        raise refusal.bad_request("'digits' may hold 0-9, A-D, *, #, w and W.", pointer="/digits")
    return value


def stream(body: Body, *, required: bool) -> StreamOrder | None:
    """What was asked of media streaming; None when no `stream_url` was given and none is needed."""
    if body.get("stream_url") is None and not required:
        return None
    url = text(body, "stream_url", longest=2_000)
    if not re.match(r"wss?://[^/\s]+", url):
        raise refusal.Refusal(
            422,
            "10003",
            "Invalid URL",
            "'stream_url' must begin with ws:// or wss://.",
            pointer="/stream_url",
        )
    inbound, outbound = _TRACKS[choice(body, "stream_track", tuple(_TRACKS), "inbound_track")]
    mode = choice(body, "stream_bidirectional_mode", ("mp3", "rtp"), "mp3")
    target = choice(body, "stream_bidirectional_target_legs", ("both", "self", "opposite"), "both")
    send_codec = body.get("stream_codec", "default")
    return StreamOrder(
        url=url,
        auth_token=optional_text(body, "stream_auth_token"),
        inbound_track=inbound,
        outbound_track=outbound,
        plays=mode == "rtp" and target != "opposite",
        send_codec=None if send_codec == "default" else _codec(body, "stream_codec"),
        play_codec=_codec(body, "stream_bidirectional_codec"),
        custom_parameters=_custom_parameters(body),
    )


def transcription(body: Body) -> TranscriptionOrder:
    """What was asked of transcription."""
    config = body.get("transcription_engine_config") or {}
    if not isinstance(config, Mapping):
        raise refusal.bad_request(
            "'transcription_engine_config' must be an object.", pointer="/transcription_engine_config"
        )
    if choice(body, "transcription_tracks", ("inbound", "outbound", "both"), "inbound") == "outbound":
        raise refusal.bad_request(
            "The stand-in transcribes the person at the other end only.", pointer="/transcription_tracks"
        )
    engine = choice(body, "transcription_engine", _ENGINES, "Google")
    return TranscriptionOrder(engine=engine, interim=config.get("interim_results") is True)


def recording(body: Body, base_url: str) -> RecordingOrder:
    """What was asked of recording; it is fetched below `base_url`."""
    for field in ("channels", "format"):
        text(body, field)
    if choice(body, "recording_track", ("both", "inbound", "outbound"), "both") != "both":
        raise refusal.bad_request("The stand-in records both tracks.", pointer="/recording_track")
    return RecordingOrder(
        channels="dual" if choice(body, "channels", ("single", "dual"), None) == "dual" else "single",
        audio_format="mp3" if choice(body, "format", ("wav", "mp3"), None) == "mp3" else "wav",
        base_url=base_url,
    )


def dial(body: Body, *, webhook_url: str) -> Order:
    """An outbound call."""
    return Order(
        direction="outbound",
        connection_id=text(body, "connection_id", longest=200),
        from_number=number(body, "from"),
        to_number=number(body, "to"),
        webhook_url=optional_text(body, "webhook_url") or webhook_url,
        client_state=client_state(body),
        timeout_s=integer(body, "timeout_secs", lowest=5, highest=600) or 30,
        time_limit_s=integer(body, "time_limit_secs", lowest=30, highest=14_400),
        stream=stream(body, required=False),
        machine_detection=_machine_detection(body),
    )


def _machine_detection(body: Body) -> MachineDetection:
    wanted = body.get("answering_machine_detection") or "disabled"
    for known in get_args(MachineDetection):
        if wanted == known:
            return cast(MachineDetection, known)
    raise refusal.bad_request(
        f"'answering_machine_detection': the stand-in knows {', '.join(get_args(MachineDetection))}, "
        f"not {wanted!r}.",
        pointer="/answering_machine_detection",
    )


def _codec(body: Body, field: str) -> Codec:
    value = body.get(field, "PCMU")
    if value not in Codec.__members__:
        raise refusal.bad_request(
            f"{field!r}: the stand-in speaks PCMU and PCMA, not {value!r}.", pointer=f"/{field}"
        )
    return Codec[value]


def _custom_parameters(body: Body) -> tuple[tuple[str, str], ...]:
    pairs = body.get("custom_parameters") or []
    if not isinstance(pairs, list) or not all(isinstance(pair, dict) and "name" in pair for pair in pairs):
        raise refusal.bad_request(
            "'custom_parameters' must be a list of {name, value}.", pointer="/custom_parameters"
        )
    return tuple((str(pair["name"]), str(pair.get("value", ""))) for pair in pairs)
