"""Calls and their turns in a database: SQLite by default, PostgreSQL when asked.

Keeps what it is given and gives it back. Refuses to know what a call is doing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Insert, Select, Table, and_, insert, literal, or_, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from backend.core.recordings import placed
from backend.core.records import CallRecord, CallRecording, CallState, Direction, ToolUse, TurnRecord
from backend.errors import RequestError, StorageError
from backend.storage import tables
from backend.storage.engine import OPERATION_TIMEOUT_S, make_engine, make_folder, parse_url
from backend.storage.problems import storage_error

log = logging.getLogger(__name__)

MAX_PAGE = 500
_Page = list[CallRecord]  # inside the class, `list` is a method
_LISTS = frozenset(("turns", "tools", "recordings"))
_CHANGEABLE = frozenset(f.name for f in dataclasses.fields(CallRecord)) - _LISTS - {"id"}


class CallStore:
    """The calls with their turns, tools and recordings. Use `open` to make one and `close` it at the end.

    Every method raises StorageError, with a sentence, when the database cannot be used.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._url = engine.url

    @classmethod
    async def open(cls, url: str, *, busy_timeout_ms: int = 5000) -> CallStore:
        """Connect to `url` and make the tables.

        `url`: such as `sqlite:///calls.sqlite3` or `postgresql://user:password@host/name`.
        `busy_timeout_ms`: how long SQLite waits for another writer. Raises StorageError: the URL makes no
        sense, a driver is missing, the place cannot be written or reached, or is of a later version.
        """
        parsed = parse_url(url)
        if parsed.get_backend_name() == "sqlite":
            await asyncio.to_thread(make_folder, parsed)
        store = cls(make_engine(parsed, busy_timeout_ms))
        try:
            await store._prepare()
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    async def create(self, call: CallRecord) -> CallRecord:
        """Keep a new call with all that belongs to it.

        A call with the same idempotency key, or of the same `call_control_id`, that is there already is
        returned instead, with its turns, and nothing is changed.
        """
        async with self._transaction() as connection:
            row = tables.call_row(call)
            done = await connection.execute(self._insert(tables.calls).values(row).on_conflict_do_nothing())
            if done.rowcount:
                for turn in call.turns:
                    await connection.execute(self._upsert(tables.turns, tables.turn_row(call.id, turn)))
                for tool in call.tools:
                    await connection.execute(self._upsert(tables.tool_uses, tables.tool_row(call.id, tool)))
                for item in call.recordings:
                    await connection.execute(
                        self._upsert(tables.recordings, tables.recording_row(call.id, item))
                    )
                return call
            same = [tables.calls.c.id == call.id]
            if call.idempotency_key is not None:
                same.append(tables.calls.c.idempotency_key == call.idempotency_key)
            if call.call_control_id is not None:
                same.append(tables.calls.c.call_control_id == call.call_control_id)
            existing = await _fetch(connection, or_(*same))
        if existing is None or existing.id == call.id:
            raise StorageError(f"A call {call.id} is in the database already; ids must be new.")
        return existing

    async def update(self, call_id: str, **changes: object) -> CallRecord:
        """Change fields of our call `call_id`; the call as it is then, with its turns.

        Raises TypeError for a field that calls do not have (or `id`, or a list), StorageError for a call that
        is not there.
        """
        if unknown := changes.keys() - _CHANGEABLE:
            raise TypeError(f"a call has no field to change named {', '.join(sorted(unknown))}")
        async with self._transaction() as connection:
            if changes:
                await connection.execute(
                    update(tables.calls).where(tables.calls.c.id == call_id).values(changes)
                )
            call = await _fetch(connection, tables.calls.c.id == call_id)
        if call is None:
            raise StorageError(f"There is no call {call_id} in the database to change.")
        return call

    async def add_turn(self, call_id: str, turn: TurnRecord) -> None:
        """Keep a turn of our call `call_id`; the turn of the same index is replaced."""
        await self._add(tables.turns, tables.turn_row(call_id, turn), "a turn")

    async def add_tool(self, call_id: str, tool: ToolUse) -> None:
        """Keep what a tool did in our call `call_id`; the one of the same index is replaced."""
        await self._add(tables.tool_uses, tables.tool_row(call_id, tool), "a use of a tool")

    async def keep_recording(self, call_id: str, told: CallRecording) -> None:
        """Keep what is told of a recording of our call `call_id`: see `backend.core.recordings`."""
        async with self._transaction() as connection:
            # Changes nothing, and makes whoever is told of another recording meanwhile wait.
            locked = await connection.execute(
                update(tables.calls).where(tables.calls.c.id == call_id).values(id=call_id)
            )
            if not locked.rowcount:
                raise StorageError(f"There is no call {call_id} in the database to add a recording to.")
            rows = await connection.execute(_of_call(tables.recordings, call_id))
            item = placed([tables.recording(row) for row in rows.mappings()], told)
            if item is not None:
                await connection.execute(self._upsert(tables.recordings, tables.recording_row(call_id, item)))

    async def find(
        self,
        *,
        call_id: str | None = None,
        call_control_id: str | None = None,
        call_leg_id: str | None = None,
        call_session_id: str | None = None,
    ) -> str | None:
        """Our id of the call that has one of these ids, the first that is known; the newest of several."""
        calls = tables.calls.c
        wanted = (
            (calls.id, call_id),
            (calls.call_control_id, call_control_id),
            (calls.call_leg_id, call_leg_id),
            (calls.call_session_id, call_session_id),
        )
        async with self._transaction() as connection:
            for column, value in wanted:
                if value is None:
                    continue
                query = select(calls.id).where(column == value).order_by(calls.created_at.desc()).limit(1)
                if (found := await connection.scalar(query)) is not None:
                    return str(found)
        return None

    async def get(self, any_id: str) -> CallRecord | None:
        """The call of this id, ours or Telnyx's call_control_id, with all that belongs to it."""
        async with self._transaction() as connection:
            return await _fetch(
                connection, or_(tables.calls.c.id == any_id, tables.calls.c.call_control_id == any_id)
            )

    async def list(
        self,
        *,
        agent_id: str | None = None,
        state: CallState | None = None,
        direction: Direction | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> _Page:
        """Up to `limit` (1–500) calls, newest first, without their lists.

        `before`: the id of the last call of the page before. Raises RequestError when there is no such call.
        """
        wanted = {"agent_id": agent_id, "state": state, "direction": direction}
        query = select(tables.calls).where(
            *(tables.calls.c[name] == value for name, value in wanted.items() if value is not None)
        )
        async with self._transaction() as connection:
            if before is not None:
                query = query.where(await _older_than(connection, before))
            query = query.order_by(tables.calls.c.created_at.desc(), tables.calls.c.id.desc())
            rows = await connection.execute(query.limit(max(1, min(limit, MAX_PAGE))))
            return [tables.call_record(row) for row in rows.mappings()]

    async def ping(self) -> None:
        """Return if the database answers."""
        async with self._transaction() as connection:
            await connection.execute(select(literal(1)))

    async def _prepare(self) -> None:
        async with self._transaction() as connection:
            if self._url.get_backend_name() == "postgresql":
                # Two backends that start at once would both make the tables.
                await connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7220190412)")
            else:
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            await connection.run_sync(tables.metadata.create_all)
            version = await connection.scalar(select(tables.schema_version.c.version))
            if version is None:
                await connection.execute(
                    insert(tables.schema_version).values(
                        version=tables.SCHEMA_VERSION, applied_at=datetime.now(UTC)
                    )
                )
            elif version != tables.SCHEMA_VERSION:
                await self._upgrade(connection, version)

    async def _upgrade(self, connection: AsyncConnection, version: int) -> None:
        """Bring the tables of an older version up to ours, all or nothing."""
        where = self._url.render_as_string(hide_password=True)
        if version not in tables.UPGRADES:
            raise StorageError(
                f"The database {where} has tables of version {version}; this program knows version "
                f"{tables.SCHEMA_VERSION}. Run the program that made it, or set DATABASE_URL to another "
                "place."
            )
        more = tables.POSTGRESQL_UPGRADES if self._url.get_backend_name() == "postgresql" else {}
        for older in range(version, tables.SCHEMA_VERSION):
            for command in (*tables.UPGRADES[older], *more.get(older, ())):
                await connection.exec_driver_sql(command)
        await connection.execute(
            update(tables.schema_version).values(version=tables.SCHEMA_VERSION, applied_at=datetime.now(UTC))
        )
        log.info(
            "database %s: tables of version %d are of version %d now", where, version, tables.SCHEMA_VERSION
        )

    @contextlib.asynccontextmanager
    async def _transaction(self, *, explain: bool = True) -> AsyncIterator[AsyncConnection]:
        """A connection whose work is kept at the end; the only place that sees database errors."""
        try:
            async with asyncio.timeout(OPERATION_TIMEOUT_S), self._engine.begin() as connection:
                yield connection
        except IntegrityError as error:
            if not explain:
                raise
            raise storage_error(self._url, error) from error
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise storage_error(self._url, error) from error

    def _insert(self, table: Any) -> Any:
        """INSERT with ON CONFLICT, which each database spells for itself."""
        is_postgresql = self._url.get_backend_name() == "postgresql"
        return (postgresql.insert if is_postgresql else sqlite_insert)(table)

    async def _add(self, table: Table, row: dict[str, Any], what: str) -> None:
        try:
            async with self._transaction(explain=False) as connection:
                await connection.execute(self._upsert(table, row))
        except IntegrityError as error:
            raise StorageError(
                f"There is no call {row['call_id']} in the database to add {what} to."
            ) from error

    def _upsert(self, table: Table, row: dict[str, Any]) -> Insert:
        """A row of one of a call's lists; one of the same key is replaced."""
        key = [column.name for column in table.primary_key]
        upsert: Insert = (
            self._insert(table)
            .values(row)
            .on_conflict_do_update(
                index_elements=key,
                set_={name: value for name, value in row.items() if name not in key},
            )
        )
        return upsert


async def _fetch(connection: AsyncConnection, which: ColumnElement[bool]) -> CallRecord | None:
    row = (await connection.execute(select(tables.calls).where(which))).mappings().first()
    if row is None:
        return None
    its_turns = await connection.execute(_of_call(tables.turns, row["id"]))
    its_tools = await connection.execute(_of_call(tables.tool_uses, row["id"]))
    its_recordings = await connection.execute(_of_call(tables.recordings, row["id"]))
    return tables.call_record(
        row,
        turns=tuple(tables.turn_record(turn) for turn in its_turns.mappings()),
        tools=tuple(tables.tool_use(tool) for tool in its_tools.mappings()),
        recordings=tuple(tables.recording(item) for item in its_recordings.mappings()),
    )


def _of_call(table: Table, call_id: str) -> Select[Any]:
    return select(table).where(table.c.call_id == call_id).order_by(table.c.index)


async def _older_than(connection: AsyncConnection, call_id: str) -> ColumnElement[bool]:
    calls = tables.calls.c
    created_at = await connection.scalar(select(calls.created_at).where(calls.id == call_id))
    if created_at is None:
        raise RequestError(f"before: there is no call {call_id}; use the `next` of the page before.")
    return or_(calls.created_at < created_at, and_(calls.created_at == created_at, calls.id < call_id))
