"""Telnyx's webhooks: is it really Telnyx, what does it say, have we had it before.

Pure: bytes, headers and the time come in. Works on the raw body, and leniently on what it says: an event we
do not know is still an event. Refuses to know HTTP and what events mean for a call.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from backend.errors import ConfigError, WebhookRejected

TOLERANCE_S = 300  # developers.telnyx.com: webhook signing
_KEY_BYTES = 32
_SIGNATURE_BYTES = 64


class WebhookVerifier:
    """Checks Telnyx's Ed25519 signature. `public_key_b64` is the key shown in Telnyx's portal.

    Raises ConfigError when that is not a key.
    """

    def __init__(self, public_key_b64: str, *, tolerance_s: int = TOLERANCE_S) -> None:
        key = _base64(public_key_b64.strip())
        if key is None or len(key) != _KEY_BYTES:
            raise ConfigError(
                "TELNYX_PUBLIC_KEY is not a public key: it must be 32 bytes in base64 (44 characters). "
                "Copy it from portal.telnyx.com, Account, Keys & Credentials, Public Key."
            )
        self._key = VerifyKey(key)
        self._tolerance_s = tolerance_s

    def verify(self, raw_body: bytes, *, signature: str, timestamp: str, now_s: float) -> None:
        """Return if `raw_body` was signed by Telnyx within the tolerance of `now_s` (Unix seconds).

        `signature` and `timestamp` are the headers `telnyx-signature-ed25519` and `telnyx-timestamp`, empty
        when absent. Raises WebhookRejected (status 401) with the reason.
        """
        if not signature or not timestamp:
            raise _forged("it carries no telnyx-signature-ed25519 and telnyx-timestamp headers")
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
            raise _forged("its telnyx-timestamp is not a Unix time in seconds")
        signed = _base64(signature)
        if signed is None or len(signed) != _SIGNATURE_BYTES:
            raise _forged("its telnyx-signature-ed25519 is not an Ed25519 signature in base64")
        try:
            self._key.verify(timestamp.encode("ascii") + b"|" + raw_body, signed)
        except BadSignatureError as error:
            raise _forged(
                "its signature does not match its body; if it does come from Telnyx, TELNYX_PUBLIC_KEY is "
                "another account's"
            ) from error
        # Last, so that only Telnyx itself is told about clocks.
        age_s = now_s - int(timestamp)
        if abs(age_s) > self._tolerance_s:
            when = "old" if age_s > 0 else "ahead of this machine's clock"
            raise _forged(f"it is {abs(age_s):.0f} s {when}; at most {self._tolerance_s} s is allowed")


@dataclass(frozen=True, slots=True)
class TelnyxEvent:
    """One event. `payload` is Telnyx's own, unchecked; the ids in it are repeated here where present."""

    id: str
    event_type: str
    call_control_id: str | None = None
    call_leg_id: str | None = None
    call_session_id: str | None = None
    occurred_at: str | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)

    @property
    def client_state(self) -> str | None:
        """The plain text that our `dial` attached, or None where there is none or it is not text."""
        state = self.payload.get("client_state")
        raw = _base64(state) if isinstance(state, str) else None
        try:
            return raw.decode() if raw else None
        except UnicodeDecodeError:
            return None


def parse_event(raw_body: bytes) -> TelnyxEvent:
    """The event in a webhook's body. Unknown types and fields pass through.

    Raises WebhookRejected (status 400) for what is not Telnyx's envelope.
    """
    try:
        envelope = json.loads(raw_body)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or bytes that are not UTF-8
        raise _malformed("its body is not JSON") from error
    data = envelope.get("data") if isinstance(envelope, Mapping) else None
    if not isinstance(data, Mapping):
        raise _malformed('its body has no object "data"')
    event_id, event_type = _text(data, "id"), _text(data, "event_type")
    if event_id is None or event_type is None:
        raise _malformed('its "data" has no "id" or no "event_type"')
    payload = data.get("payload")
    if not isinstance(payload, Mapping):
        payload = {}
    return TelnyxEvent(
        id=event_id,
        event_type=event_type,
        call_control_id=_text(payload, "call_control_id"),
        call_leg_id=_text(payload, "call_leg_id"),
        call_session_id=_text(payload, "call_session_id"),
        occurred_at=_text(data, "occurred_at"),
        payload=payload,
    )


def heard_words(event: TelnyxEvent) -> tuple[str, bool] | None:
    """What a `call.transcription` says that the caller said, and whether that is final; None for nothing."""
    data = event.payload.get("transcription_data")
    if not isinstance(data, Mapping) or data.get("transcription_track") not in (None, "inbound"):
        return None
    text = _text(data, "transcript")
    return None if text is None else (text, data.get("is_final") is not False)


class SeenEvents:
    """Remembers the last `limit` event ids; the one least recently delivered is forgotten first."""

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._ids: OrderedDict[str, None] = OrderedDict()

    def is_new(self, event_id: str) -> bool:
        """Remember `event_id`; False when it was remembered already."""
        if event_id in self._ids:
            self._ids.move_to_end(event_id)
            return False
        self._ids[event_id] = None
        if len(self._ids) > self._limit:
            self._ids.popitem(last=False)
        return True

    def __len__(self) -> int:
        return len(self._ids)


def _forged(reason: str) -> WebhookRejected:
    return WebhookRejected(f"This webhook is refused: {reason}.", status=401, code="webhook_refused")


def _malformed(reason: str) -> WebhookRejected:
    return WebhookRejected(f"This webhook cannot be read: {reason}.", status=400, code="webhook_malformed")


def _text(source: Mapping[str, Any], name: str) -> str | None:
    value = source.get(name)
    return value if isinstance(value, str) and value else None


def _base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
