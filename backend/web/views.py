"""Calls as the API shows them: records of `backend.core.records` in JSON, with what follows from them."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from backend.core.records import (
    AnsweredBy,
    CallRecord,
    CallState,
    Direction,
    RecordingState,
    Role,
    TurnRecord,
    Voicemail,
)


class TimingsView(BaseModel):
    """When things happened within a turn, milliseconds since the call's media started; null: they did not."""

    caller_speech_ended_ms: float | None
    recognised_ms: float | None
    turn_ended_ms: float | None
    text_ready_ms: float | None
    first_chunk_ms: float | None
    first_frame_ms: float | None
    heard_ms: float | None


class SpokenView(BaseModel):
    """Words that one speech route spoke."""

    route: str
    text: str
    reason: str | None = Field(description="Why the route before it was left; null: it was the first.")


class TurnView(BaseModel):
    """One side's turn."""

    index: int
    role: Role
    text: str = Field(description="What was meant (agent) or recognised (caller); the digits, if pressed.")
    heard_text: str = Field(description="What of it was really played to the other side.")
    started_ms: float
    ended_ms: float
    node_id: str | None = Field(description="The node of the call flow.")
    via: str = Field(description="`speech` or `dtmf`.")
    interrupted: bool
    route: str | None = Field(description="The speech route that began to speak it.")
    spoken: list[SpokenView] = Field(description="Which route spoke which words, in order.")
    response_ms: float | None = Field(
        description="From the end of the caller's speech to the agent's first sound."
    )
    timings: TimingsView


class ToolView(BaseModel):
    """One use of a tool."""

    index: int
    name: str
    arguments: dict[str, JsonValue] = Field(description="As the language model gave them.")
    ok: bool
    at_ms: float = Field(description="When it began, milliseconds since the call's media started.")
    took_ms: float
    node_id: str | None
    problem: str | None = Field(description="What the language model was told instead of a result.")


class RecordingView(BaseModel):
    """A stretch of the call that was recorded."""

    state: RecordingState = Field(description="`started`: not saved, or not yet.")
    started_at: datetime | None
    ended_at: datetime | None
    channels: str | None = Field(description="`dual`: the caller and the agent apart.")
    urls: dict[str, str] = Field(
        description="By format. Whoever has one may listen; Telnyx's last 10 minutes."
    )
    problem: str | None


class CostView(BaseModel):
    """What the call costs, US dollars."""

    estimated_usd: float | None = Field(description="From list prices, once it is over; null: not answered.")
    billed_usd: float | None = Field(description="By Telnyx, once it tells.")
    billed_parts: dict[str, float] | None


class CallSummary(BaseModel):
    """One call."""

    model_config = ConfigDict(populate_by_name=True)

    id: str
    call_control_id: str | None = Field(description="Telnyx's id; null until Telnyx took the call.")
    call_session_id: str | None
    direction: Direction
    state: CallState
    agent_id: str
    from_number: str = Field(alias="from")
    to_number: str = Field(alias="to")
    created_at: datetime
    answered_at: datetime | None
    ended_at: datetime | None
    duration_s: float | None = Field(description="From answer to end, seconds.")
    hangup_cause: str | None
    hangup_source: str | None
    answered_by: AnsweredBy | None = Field(description="Who picked up, where Telnyx was asked to find out.")
    voicemail: Voicemail | None = Field(description="What became of the message for an answering machine.")
    cost: CostView
    error: str | None = Field(description="Why the call failed, as a sentence.")
    variables: dict[str, str]


class CallView(CallSummary):
    """One call with what was said and done in it."""

    nodes: list[str] = Field(
        description="The nodes of the call flow in the order they were entered in, silent ones included."
    )
    turns: list[TurnView]
    tools: list[ToolView] = Field(description="The tools used, in order.")
    recordings: list[RecordingView]
    routes: list[str] = Field(description="The speech routes used, in the order of their first use.")


class CallPage(BaseModel):
    """Calls, newest first."""

    calls: list[CallSummary]
    next: str | None = Field(description="Give it as `before` to get the next page; null: this is the last.")


def summary(call: CallRecord) -> CallSummary:
    """The call without its lists."""
    return CallSummary.model_validate(_values(call))


def view(call: CallRecord) -> CallView:
    """The call with all that belongs to it."""
    used = (name for turn in call.turns for name in (turn.route, *(item.route for item in turn.spoken)))
    routes = dict.fromkeys(name for name in used if name)
    turns = [turn_view(turn) for turn in call.turns]
    tools = [dataclasses.asdict(tool) for tool in call.tools]
    recordings = [dataclasses.asdict(recording) for recording in call.recordings]
    return CallView.model_validate(
        {
            **_values(call),
            "nodes": list(call.nodes),
            "turns": turns,
            "tools": tools,
            "recordings": recordings,
            "routes": list(routes),
        }
    )


def turn_view(turn: TurnRecord) -> TurnView:
    """The turn with its response time, where it answers the caller."""
    response_ms = None
    ended_ms, heard_ms = turn.timings.caller_speech_ended_ms, turn.timings.heard_ms
    if turn.role == "agent" and ended_ms is not None and heard_ms is not None:
        response_ms = heard_ms - ended_ms
    return TurnView.model_validate({**dataclasses.asdict(turn), "response_ms": response_ms})


_APART = ("nodes", "turns", "tools", "recordings", "call_leg_id", "variables", *CostView.model_fields)


def _values(call: CallRecord) -> dict[str, object]:
    names = [field.name for field in dataclasses.fields(call) if field.name not in _APART]
    values = {name: getattr(call, name) for name in names}
    duration_s = None
    if call.answered_at is not None and call.ended_at is not None:
        duration_s = (call.ended_at - call.answered_at).total_seconds()
    cost = {name: getattr(call, name) for name in CostView.model_fields}
    return {**values, "variables": dict(call.variables), "duration_s": duration_s, "cost": cost}
