"""What is remembered of a call: plain frozen records that calls write and storage keeps.

All `*_ms` are milliseconds since the call's media started unless said otherwise; `*_at` are UTC datetimes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Direction = Literal["inbound", "outbound"]
CallState = Literal["queued", "ringing", "answered", "in_progress", "ended", "failed"]
Role = Literal["agent", "caller"]

ENDED_STATES: frozenset[CallState] = frozenset({"ended", "failed"})


@dataclass(frozen=True, slots=True)
class TurnTimings:
    """When things happened within one turn; None where they did not.

    For an agent's turn that answers the caller: the caller's last speech → recognised → decision what to
    say → first chunk from the speech route → first frame handed to the carrier → first frame played.
    """

    caller_speech_ended_ms: float | None = None
    recognised_ms: float | None = None
    turn_ended_ms: float | None = None
    text_ready_ms: float | None = None
    first_chunk_ms: float | None = None
    first_frame_ms: float | None = None
    heard_ms: float | None = None


@dataclass(frozen=True, slots=True)
class SpokenBy:
    """Words of an agent's turn that one speech route spoke. `reason`: why the route before it was left."""

    route: str
    text: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """One side's turn. `text` is what was meant (agent) or recognised (caller); `heard_text` what was played.

    `text` of a caller's turn of key presses is the digits; `via` says which it was. `route` is the route that
    began an agent's turn, `spoken` every route's share of it, in order.
    """

    index: int
    role: Role
    text: str
    heard_text: str
    started_ms: float
    ended_ms: float
    node_id: str | None = None
    via: Literal["speech", "dtmf"] = "speech"
    interrupted: bool = False
    route: str | None = None
    timings: TurnTimings = TurnTimings()
    spoken: tuple[SpokenBy, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One use of a tool, begun at `at_ms`. `problem`: what the model was told instead of a result."""

    index: int
    name: str
    arguments: Mapping[str, object]
    ok: bool
    at_ms: float
    took_ms: float
    node_id: str | None = None
    problem: str | None = None


AnsweredBy = Literal["human", "machine", "fax", "unknown"]
"""Who picked up an outbound call, where the carrier was asked to find out."""
Voicemail = Literal["none", "waiting", "leaving", "left", "failed"]
"""What became of the message for an answering machine. A call that is over and `waiting` ended before the
greeting did, one `leaving` in the middle of the message; `none`: there was none to leave."""
RecordingState = Literal["started", "saved", "failed"]


@dataclass(frozen=True, slots=True)
class CallRecording:
    """A stretch of the call that the carrier was told to record. `started`: not saved, or not yet.

    `urls` by format ("mp3", "wav"): whoever has one may listen, so they are in no repr, and thus in no log.
    """

    state: RecordingState
    started_at: datetime | None = None
    ended_at: datetime | None = None
    channels: str | None = None
    urls: Mapping[str, str] = field(default_factory=dict, repr=False)
    problem: str | None = None
    index: int = 0


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call. `id` is ours; `call_control_id` is Telnyx's (None until it answered our dial)."""

    id: str
    direction: Direction
    agent_id: str
    from_number: str
    to_number: str
    state: CallState
    created_at: datetime
    call_control_id: str | None = None
    call_session_id: str | None = None
    call_leg_id: str | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    hangup_cause: str | None = None
    hangup_source: str | None = None
    error: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    answered_by: AnsweredBy | None = None
    voicemail: Voicemail | None = None
    estimated_usd: float | None = None
    billed_usd: float | None = None
    billed_parts: Mapping[str, float] | None = None
    nodes: tuple[str, ...] = ()  # of the call flow, in the order in which they were entered
    turns: tuple[TurnRecord, ...] = ()
    tools: tuple[ToolUse, ...] = ()
    recordings: tuple[CallRecording, ...] = ()
