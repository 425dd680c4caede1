"""What ElevenLabs' replies mean: refusals as reasons an operator can act on, alignments as marks. Pure.

All of its adapters use this. Its statuses alone do not tell: a used-up quota has come as HTTP 401.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from backend.core.speech import CharMark
from backend.errors import SpeechFailure

_CLUES: tuple[tuple[SpeechFailure, str], ...] = (
    ("quota", "quota|insufficient_credit|payment_required|credits"),
    ("unknown_voice", "voice_not_found|voice_does_not|voice_id_does_not|invalid_voice|a voice with"),
    ("rate_limited", "rate_limit|too_many|concurren|max_active"),
    ("busy", "system_busy|overloaded"),
    ("unauthorized", "api[_ ]key|authentic|authoriz|permission|unusual_activity|access_denied"),
    ("closed", "input_timeout|inactivity"),
    ("generation_failed", "internal|server_error"),
)
_BY_STATUS: dict[int, SpeechFailure] = {
    401: "unauthorized", 402: "quota", 403: "unauthorized", 404: "unknown_voice", 408: "timeout",
    429: "rate_limited", 503: "busy",
}  # fmt: skip
_ADVICE: dict[SpeechFailure, str] = {
    "quota": "out of credit: buy more, raise the key's limit, or wait for the next period",
    "unauthorized": "the key was refused: check ELEVENLABS_API_KEY and what it may do",
    "unknown_voice": "there is no such voice for this key: check elevenlabs_settings.voice_id",
    "rate_limited": "more requests at once than the plan allows",
    "busy": "overloaded",
    "bad_request": "the request was refused",
    "closed": "the connection was given up",
    "generation_failed": "an error of its own",
}
_SAID_AT_MOST = 300


def decoded(raw: str | bytes | bytearray) -> object:
    """A message, or the body of a refusal; None when it is no JSON."""
    try:
        message: object = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return message


def refusal(status: int | None, body: object) -> tuple[SpeechFailure, str]:
    """Reason and sentence for an HTTP error (its status and decoded body) or an error frame (status None)."""
    words, message = _words(body)
    reason = _reason(status, words)
    said = message or words
    about = _ADVICE.get(reason, reason)
    where = f" (HTTP {status})" if status else ""
    return reason, f"{about}{where}{': ' + said[:_SAID_AT_MOST] if said else ''}"


def _reason(status: int | None, words: str) -> SpeechFailure:
    for reason, clues in _CLUES:
        if re.search(clues, words):
            return reason
    if status is None:
        return "generation_failed"
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return "bad_request" if 400 <= status < 500 else "generation_failed"


def _words(body: object) -> tuple[str, str]:
    """The machine's words for it, in lower case, and the sentence for people."""
    if not isinstance(body, Mapping):
        return "", body.strip() if isinstance(body, str) else ""
    detail = body.get("detail", body)
    if not isinstance(detail, Mapping):
        return "", str(detail)
    codes = [str(detail[key]) for key in ("status", "code", "type", "error") if detail.get(key)]
    return " ".join(codes).lower(), str(detail.get("message") or "")


class Aligner:
    """Turns the alignments of one request's chunks into marks on its text.

    A chunk tells its own characters, timed from its own start; the text that was sent may differ from them
    in spaces. Characters that stand nowhere ahead are passed over.
    """

    _LOOK_AHEAD = 40

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def marks(self, alignment: object, chunk_start_ms: float) -> tuple[CharMark, ...]:
        """Marks of a chunk that begins so long after the request's first sample; () for what is malformed."""
        if not isinstance(alignment, Mapping):
            return ()
        chars, starts = alignment.get("chars"), _starts(alignment)
        if not isinstance(chars, list) or starts is None or len(starts) < len(chars):
            return ()
        marks = []
        for char, start_ms in zip(chars, starts, strict=False):
            if not isinstance(char, str) or not isinstance(start_ms, int | float):
                return ()
            if (found := self._find(char)) is not None:
                marks.append(CharMark(found, chunk_start_ms + float(start_ms)))
        return tuple(marks)

    def _find(self, char: str) -> int | None:
        if not char or (char.isspace() and not self._text[self._at : self._at + 1].isspace()):
            return None
        found = self._text.find(char, self._at, self._at + self._LOOK_AHEAD)
        if found < 0:
            return None
        self._at = found + len(char)
        return found


def _starts(alignment: Mapping[str, Any]) -> list[Any] | None:
    for name in ("charStartTimesMs", "charsStartTimesMs"):
        if isinstance(starts := alignment.get(name), list):
            return starts
    durations = alignment.get("charDurationsMs") or alignment.get("charsDurationsMs")
    if not isinstance(durations, list) or not all(isinstance(d, int | float) for d in durations):
        return None
    total = 0.0
    starts = []
    for duration in durations:
        starts.append(total)
        total += duration
    return starts
