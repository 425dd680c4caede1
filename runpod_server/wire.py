"""The messages of /ws/generate, and the one check of a speech request for every endpoint.

Pure: text in, frozen dataclasses out, and back. Knows no sockets, no engine and no clock.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from runpod_server.engine.request import SPEAKERS, EndReason, SpeechRequest
from runpod_server.errors import BadRequest, SpeechError
from runpod_server.stretch import MAX_SPEED, MIN_SPEED

MIN_CHUNK_SAMPLES, MAX_CHUNK_SAMPLES = 480, 24_000
MIN_AUDIO_MS, MAX_AUDIO_MS = 80, 600_000
MAX_HEARD_CHARS, MAX_HEARD_BYTES = 1000, 1_500_000  # 30 s: quick speech; 24 kHz, 16 bits, and a header
CALLER = 9  # the speaker of what is heard, unless the client says otherwise
_MAX_ID_CHARS = 128
_MAX_SEED = 2**63 - 1
_MAX_TOP_K = 2051  # the size of a CSM codebook
_SHOWN_CHARS = 40


@dataclass(frozen=True, slots=True)
class Limits:
    """What this server accepts."""

    max_text_chars: int = 4096
    chunk_samples: int = 4800  # for requests that name none


@dataclass(frozen=True, slots=True)
class Generate:
    """A request to speak, and how its sound is to be cut into frames."""

    request: SpeechRequest
    chunk_samples: int


@dataclass(frozen=True, slots=True)
class Heard:
    """What somebody else said in a conversation. `audio` is not looked at yet: a WAV, or bare samples."""

    context_id: str
    text: str
    speaker_id: int
    audio: bytes
    request_id: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop one request; None: the running one."""

    request_id: str | None


@dataclass(frozen=True, slots=True)
class Summary:
    """How a request ended. Times count from when the server took the request up."""

    request_id: str
    reason: EndReason
    audio_ms: int
    first_audio_ms: int | None  # None: no sound was sent
    generate_ms: int


def parse(message: str | bytes, limits: Limits, fallback_id: str) -> Generate | Heard | Cancel:
    """One message of a client. `fallback_id` names a request that has no id of its own.

    Raises BadRequest naming the field; it carries the client's request_id where one could be read.
    """
    fields = json_object(message)
    if fields.get("cancel") not in (None, False):
        return cancel_from(fields)
    if fields.get("heard") is not None:
        return heard_from(fields, fallback_id)
    return generate_from(fields, limits, fallback_id)


def json_object(message: str | bytes) -> dict[str, object]:
    """A message as a JSON object. Raises BadRequest."""
    if isinstance(message, bytes):
        raise BadRequest('send requests as JSON text, not as binary: {"text": "...", "speaker_id": 0}')
    try:
        fields = orjson.loads(message)
    except orjson.JSONDecodeError as error:
        raise BadRequest(
            f'the message is not JSON ({error}): send {{"text": "...", "speaker_id": 0}}'
        ) from None
    if not isinstance(fields, dict):
        raise BadRequest('the message must be a JSON object: {"text": "...", "speaker_id": 0}')
    return fields


def cancel_from(fields: Mapping[str, object]) -> Cancel:
    """`{"cancel": true}` or `{"cancel": "<request_id>"}`. Raises BadRequest."""
    target = fields["cancel"]
    if target is True:
        return Cancel(None)
    if isinstance(target, str):
        return Cancel(target)
    raise BadRequest(f"cancel must be true or a request_id, not {_shown(target)}", field="cancel")


def generate_from(fields: Mapping[str, object], limits: Limits, fallback_id: str) -> Generate:
    """A request from JSON fields; null counts as absent, unknown ones as nothing. Raises BadRequest."""
    fields = {name: value for name, value in fields.items() if value is not None}
    request_id = _text(fields, "request_id", max_chars=_MAX_ID_CHARS) or fallback_id
    try:
        request = SpeechRequest(
            text=_speakable(fields, limits.max_text_chars),
            request_id=request_id,
            speaker_id=_speaker(fields),
            voice=_text(fields, "voice", max_chars=_MAX_ID_CHARS),
            max_audio_ms=_whole(fields, "max_audio_length_ms", MIN_AUDIO_MS, MAX_AUDIO_MS),
            temperature=_number(fields, "temperature", 0.0, 2.0),
            top_k=_whole(fields, "top_k", 1, _MAX_TOP_K),
            seed=_whole(fields, "seed", 0, _MAX_SEED),
            context_id=_text(fields, "context_id", max_chars=_MAX_ID_CHARS),
            speed=_number(fields, "speed", MIN_SPEED, MAX_SPEED) or 1.0,
        )
        chunk = _whole(fields, "chunk_samples", MIN_CHUNK_SAMPLES, MAX_CHUNK_SAMPLES)
    except BadRequest as error:
        error.request_id = request_id if "request_id" in fields else None
        raise
    return Generate(request, limits.chunk_samples if chunk is None else chunk)


def heard_from(fields: Mapping[str, object], fallback_id: str) -> Heard:
    """`{"context_id", "heard": {"text", "audio", "speaker_id"?}}`. Raises BadRequest."""
    request_id = _text(fields, "request_id", max_chars=_MAX_ID_CHARS)
    try:
        context_id = _text(fields, "context_id", max_chars=_MAX_ID_CHARS)
        if context_id is None:
            raise BadRequest(
                "context_id is missing: name the conversation it was heard in", field="context_id"
            )
        if fields.get("text") is not None:
            raise BadRequest("send heard and text in messages of their own", field="heard")
        text, speaker_id, audio = _what_was_heard(fields["heard"])
    except BadRequest as error:
        error.request_id = request_id
        raise
    return Heard(context_id, text, speaker_id, audio, request_id or fallback_id)


def _what_was_heard(heard: object) -> tuple[str, int, bytes]:
    if not isinstance(heard, dict):
        raise BadRequest(
            f'heard must be {{"text": "...", "audio": "<base64>"}}, not {_shown(heard)}', field="heard"
        )
    try:
        speaker_id = _whole(heard, "speaker_id", SPEAKERS.start, SPEAKERS.stop - 1)
        return (
            _speakable(heard, MAX_HEARD_CHARS),
            CALLER if speaker_id is None else speaker_id,
            _base64(heard, "audio", max_bytes=MAX_HEARD_BYTES),
        )
    except BadRequest as error:  # whose sentences begin with the field's name
        raise BadRequest(f"heard.{error}", field=f"heard.{error.field}") from None


def with_voice_id(fields: Mapping[str, object]) -> dict[str, object]:
    """`voice_id` put where it belongs: a number, or a string of digits, is a speaker; else a voice name."""
    renamed = {name: value for name, value in fields.items() if name != "voice_id"}
    voice_id = fields.get("voice_id")
    if isinstance(voice_id, str) and voice_id.isdecimal():
        voice_id = int(voice_id)
    if voice_id is not None:
        renamed["voice" if isinstance(voice_id, str) else "speaker_id"] = voice_id
    return renamed


def done(summary: Summary) -> str:
    """The reply after the last frame."""
    return _json(
        {
            "done": True,
            "request_id": summary.request_id,
            "reason": summary.reason,
            "audio_ms": summary.audio_ms,
            "first_audio_ms": summary.first_audio_ms,
            "generate_ms": summary.generate_ms,
        }
    )


def noted(heard: Heard, *, kept: bool) -> str:
    """The reply to what was heard; not kept: by an engine that keeps no conversations."""
    return _json({"noted": kept, "request_id": heard.request_id, "context_id": heard.context_id})


def error(failure: SpeechError, request_id: str | None) -> str:
    """The reply to a request that failed."""
    return _json({"error": failure.code, "message": str(failure), "request_id": request_id})


def _json(fields: Mapping[str, object]) -> str:
    return orjson.dumps(fields).decode()


def _speakable(fields: Mapping[str, object], max_chars: int) -> str:
    text = fields.get("text")
    if text is None:
        raise BadRequest("text is missing", field="text")
    if not isinstance(text, str):
        raise BadRequest(f"text must be a string, not {_shown(text)}", field="text")
    if len(text) > max_chars:
        raise BadRequest(
            f"text has {len(text)} characters and this server takes {max_chars}: send it in parts",
            field="text",
        )
    if not text.strip():
        raise BadRequest("text is empty", field="text")
    return text


def _speaker(fields: Mapping[str, object]) -> int:
    speaker = _whole(fields, "speaker_id", SPEAKERS.start, SPEAKERS.stop - 1)
    return 0 if speaker is None else speaker


def _text(fields: Mapping[str, object], name: str, *, max_chars: int) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value or len(value) > max_chars:
        raise BadRequest(
            f"{name} must be a string of 1 to {max_chars} characters, not {_shown(value)}", field=name
        )
    return value


def _base64(fields: Mapping[str, object], name: str, *, max_bytes: int) -> bytes:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise BadRequest(
            f"{name} must be the sound in base64: a WAV, or int16 little-endian samples at 24 kHz", field=name
        )
    if len(value) > -(-max_bytes // 3) * 4:
        raise BadRequest(
            f"{name} is larger than {max_bytes} bytes: send at most 30 s, at 24 kHz or less", field=name
        )
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except ValueError as error:  # binascii.Error, or a character that is none of ASCII's
        raise BadRequest(f"{name} is not base64 ({error})", field=name) from None


def _whole(fields: Mapping[str, object], name: str, low: int, high: int) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadRequest(
            f"{name} must be a whole number from {low} to {high}, not {_shown(value)}", field=name
        )
    return value


def _number(fields: Mapping[str, object], name: str, low: float, high: float) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise BadRequest(f"{name} must be a number from {low:g} to {high:g}, not {_shown(value)}", field=name)
    return float(value)


def _shown(value: object) -> str:
    shown = _json({"": value})[4:-1]  # as the client wrote it, after `{"":`
    return shown if len(shown) <= _SHOWN_CHARS else shown[:_SHOWN_CHARS] + "…"
