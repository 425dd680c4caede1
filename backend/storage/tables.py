"""The tables calls are kept in, for SQLite and PostgreSQL alike, and rows to records and back.

Refuses to know connections and queries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    TypeDecorator,
)

from backend.core.records import CallRecord, CallRecording, SpokenBy, ToolUse, TurnRecord, TurnTimings

# Raise it with every change of a table, and say in UPGRADES how an older database becomes one of it.
SCHEMA_VERSION = 8

# Version → the commands that make a database of it one of the next version, in SQLite and PostgreSQL alike.
# Tables that are new are made before, as in a new database.
UPGRADES: Mapping[int, tuple[str, ...]] = {
    1: ("ALTER TABLE turns ADD COLUMN spoken JSON",),
    2: (),  # tool_uses is new
    3: (  # recordings is new
        "ALTER TABLE calls ADD COLUMN call_leg_id TEXT",
        "CREATE INDEX ix_calls_call_leg_id ON calls (call_leg_id)",
    ),
    4: (
        "ALTER TABLE calls ADD COLUMN answered_by VARCHAR(16)",
        "ALTER TABLE calls ADD COLUMN voicemail VARCHAR(16)",
    ),
    5: (
        "ALTER TABLE calls ADD COLUMN estimated_usd FLOAT",
        "ALTER TABLE calls ADD COLUMN billed_usd FLOAT",
        "ALTER TABLE calls ADD COLUMN billed_parts JSON",
    ),
    6: (),  # SQLite holds a column to no length
    7: ("ALTER TABLE calls ADD COLUMN nodes JSON",),
}
# Likewise, what only PostgreSQL needs.
POSTGRESQL_UPGRADES: Mapping[int, tuple[str, ...]] = {
    6: (
        "ALTER TABLE calls ALTER COLUMN from_number TYPE TEXT",
        "ALTER TABLE calls ALTER COLUMN to_number TYPE TEXT",
    ),
}


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes only, kept in UTC; SQLite itself forgets the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone; records hold UTC datetimes")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Words(TypeDecorator[str]):
    """Text as people and carriers gave it, fit for either database: PostgreSQL takes no null character, and
    halves of characters, which JSON can hold, are none in UTF-8."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else value.replace("\0", "").encode(errors="replace").decode()


metadata = MetaData()

schema_version = Table(
    "schema_version",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("applied_at", UtcDateTime, nullable=False),
)

calls = Table(
    "calls",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("direction", String(16), nullable=False),
    Column("agent_id", String(128), nullable=False),
    # Numbers, or SIP addresses of any length as their senders please.
    Column("from_number", Words, nullable=False),
    Column("to_number", Words, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # Telnyx's ids have no stated length.
    Column("call_control_id", Text, unique=True),
    Column("call_session_id", Text, index=True),
    Column("call_leg_id", Text, index=True),
    Column("answered_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("hangup_cause", Words),
    Column("hangup_source", Words),
    Column("error", Words),
    Column("variables", JSON, nullable=False),
    Column("idempotency_key", String(255), unique=True),
    Column("answered_by", String(16)),
    Column("voicemail", String(16)),
    Column("estimated_usd", Float),
    Column("billed_usd", Float),
    Column("billed_parts", JSON),
    Column("nodes", JSON),  # null in rows of version 7
    Index("calls_by_time", "created_at", "id"),
    Index("calls_by_agent", "agent_id", "created_at"),
    Index("calls_by_state", "state", "created_at"),
)

turns = Table(
    "turns",
    metadata,
    Column("call_id", String(64), ForeignKey("calls.id", ondelete="CASCADE"), primary_key=True),
    Column("index", Integer, primary_key=True, autoincrement=False),
    Column("role", String(16), nullable=False),
    Column("text", Words, nullable=False),
    Column("heard_text", Words, nullable=False),
    Column("started_ms", Float, nullable=False),
    Column("ended_ms", Float, nullable=False),
    Column("node_id", Text),
    Column("via", String(16), nullable=False),
    Column("interrupted", Boolean, nullable=False),
    Column("route", Text),
    Column("timings", JSON, nullable=False),
    Column("spoken", JSON),  # null in rows of version 1
)

tool_uses = Table(
    "tool_uses",
    metadata,
    Column("call_id", String(64), ForeignKey("calls.id", ondelete="CASCADE"), primary_key=True),
    Column("index", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("ok", Boolean, nullable=False),
    Column("at_ms", Float, nullable=False),
    Column("took_ms", Float, nullable=False),
    Column("node_id", Text),
    Column("problem", Words),
)

recordings = Table(
    "recordings",
    metadata,
    Column("call_id", String(64), ForeignKey("calls.id", ondelete="CASCADE"), primary_key=True),
    Column("index", Integer, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("channels", String(16)),
    Column("urls", JSON, nullable=False),
    Column("problem", Words),
)

_TIMING_NAMES = frozenset(timing.name for timing in dataclasses.fields(TurnTimings))
_SPOKEN_NAMES = frozenset(item.name for item in dataclasses.fields(SpokenBy))


def call_row(call: CallRecord) -> dict[str, Any]:
    """A call without its lists, as columns."""
    row = {column.name: getattr(call, column.name) for column in calls.columns}
    row["variables"] = dict(call.variables)
    return row


def turn_row(call_id: str, turn: TurnRecord) -> dict[str, Any]:
    """One turn as columns."""
    return {**dataclasses.asdict(turn), "call_id": call_id}


def tool_row(call_id: str, tool: ToolUse) -> dict[str, Any]:
    """One use of a tool as columns."""
    return {**dataclasses.asdict(tool), "call_id": call_id}


def recording_row(call_id: str, recording: CallRecording) -> dict[str, Any]:
    """One recording as columns."""
    return {
        **dataclasses.asdict(recording),
        "call_id": call_id,
        "channels": recording.channels and recording.channels[:16],
    }


def call_record(row: RowMapping, **lists: Any) -> CallRecord:
    """The call a row of `calls` holds; `lists`: its turns, tools and recordings."""
    values = {column.name: row[column] for column in calls.columns}
    return CallRecord(**{**values, "nodes": tuple(values["nodes"] or ())}, **lists)


def tool_use(row: RowMapping) -> ToolUse:
    """What a row of `tool_uses` holds."""
    return ToolUse(**{column.name: row[column] for column in tool_uses.columns if column.name != "call_id"})


def turn_record(row: RowMapping) -> TurnRecord:
    """The turn a row of `turns` holds; what a later version wrote into its JSON is passed over."""
    values = {column.name: row[column] for column in turns.columns if column.name != "call_id"}
    timings: Mapping[str, float | None] = values["timings"]
    known = {name: at_ms for name, at_ms in timings.items() if name in _TIMING_NAMES}
    spoken = tuple(
        SpokenBy(**{name: value for name, value in item.items() if name in _SPOKEN_NAMES})
        for item in values["spoken"] or ()
    )
    return TurnRecord(**{**values, "timings": TurnTimings(**known), "spoken": spoken})


def recording(row: RowMapping) -> CallRecording:
    """What a row of `recordings` holds."""
    names = [column.name for column in recordings.columns if column.name != "call_id"]
    return CallRecording(**{name: row[name] for name in names})
