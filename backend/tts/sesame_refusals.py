"""How a Sesame speech server words a refusal, over either of its protocols."""

from __future__ import annotations

import re

from backend.errors import SpeechFailure

_BY_CODE: dict[str, SpeechFailure] = {
    "bad_request": "bad_request",
    "busy": "busy",
    "out_of_memory": "out_of_memory",
    "generation_failed": "generation_failed",
    "not_ready": "not_ready",
    "unauthorized": "unauthorized",
}
_UNKNOWN_VOICE = re.compile(r"voice\b.{0,200}\bnot known", re.IGNORECASE | re.DOTALL)


def failure_of(code: str, message: str, otherwise: SpeechFailure) -> SpeechFailure:
    """What a refusal's code and message mean; `otherwise` where the code is none of the server's.

    A voice the server does not know is a bad request by its code; here it is told apart, since another server
    or vendor may well speak.
    """
    reason = _BY_CODE.get(code, otherwise)
    if reason == "bad_request" and _UNKNOWN_VOICE.match(message):
        return "unknown_voice"
    return reason
