"""A call's recordings as they are told: by us when they begin, by the carrier when they are saved, or not.

What is told comes late, twice and in any order, and names no recording: its times say which it is. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from backend.core.records import CallRecording

_FORMATS = ("mp3", "wav")
_SAME = timedelta(seconds=10)  # between our asking for a recording and the carrier's first sample
_MAX_URL = 8_000


def saved(payload: Mapping[str, Any]) -> CallRecording:
    """What a `call.recording.saved` tells."""
    # The public ones last for ever; they are there for accounts that asked for them.
    urls = {**_urls(payload.get("recording_urls")), **_urls(payload.get("public_recording_urls"))}
    return CallRecording(
        "saved" if urls else "failed",
        started_at=_time(payload.get("recording_started_at")),
        ended_at=_time(payload.get("recording_ended_at")),
        channels=_text(payload.get("channels")),
        urls=urls,
        problem=None if urls else "the carrier saved it and told no address",
    )


def failed(payload: Mapping[str, Any], at: datetime) -> CallRecording:
    """What a `call.recording.error` tells, which is no more than a reason."""
    reason = _text(payload.get("reason")) or "no reason given"
    return CallRecording("failed", problem=f"the carrier could not save it: {reason}", ended_at=at)


def placed(known: Sequence[CallRecording], told: CallRecording) -> CallRecording | None:
    """What is told, with the index of the recording it is about, or a new one; None: it is no news."""
    for item in known:
        if told.started_at is not None and item.started_at == told.started_at:
            if item.state == "saved" and told.state != "saved":
                return None  # it was saved after all, or already
            return replace(told, index=item.index)
    if told.state == "started":
        if any(item.state == "saved" and _apart(item, told) <= _SAME for item in known):
            return None  # word of its end was faster
    elif waiting := [item for item in known if item.state == "started"]:
        mine = min(waiting, key=lambda item: (_apart(item, told), item.index))
        return replace(
            told,
            index=mine.index,
            started_at=told.started_at or mine.started_at,
            channels=told.channels or mine.channels,
        )
    elif told.started_at is None and any(item.problem == told.problem for item in known):
        return None  # the same error once more
    return replace(told, index=len(known))


def _apart(item: CallRecording, told: CallRecording) -> timedelta:
    if item.started_at is None or told.started_at is None:
        return timedelta.max if told.started_at is not None else timedelta(0)
    return abs(item.started_at - told.started_at)


def _urls(value: object) -> dict[str, str]:
    urls = value if isinstance(value, Mapping) else {}
    texts = {name: _text(urls.get(name)) for name in _FORMATS}
    return {name: url for name, url in texts.items() if url is not None and len(url) <= _MAX_URL}


def _time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


def _text(value: object) -> str | None:
    return value.replace("\0", "") if isinstance(value, str) and value else None
