"""The way to a database: its URL checked, its driver chosen, its connections set up. Knows no tables."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from backend.errors import StorageError
from backend.extras import install_command

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
# Long enough for a slow disk, short enough that a call does not hang on its records.
OPERATION_TIMEOUT_S = 15.0
_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}


def parse_url(url: str) -> URL:
    """The URL with a driver that can wait. Raises StorageError: it makes no sense, or names no such one."""
    how = "Set DATABASE_URL to sqlite:///calls.sqlite3 or postgresql://user:password@host:5432/name"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StorageError(f"DATABASE_URL is not a database URL. {how}.") from error
    if parsed.drivername not in (*_DRIVERS, *_DRIVERS.values()):
        raise StorageError(f"DATABASE_URL names {parsed.drivername}, which is not supported. {how}.")
    return parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))


def make_folder(url: URL) -> None:
    """The folder of an SQLite file. Blocks. Raises StorageError: it cannot be made."""
    if url.database in (None, "", ":memory:"):
        return
    folder = Path(str(url.database)).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"The folder {folder} for the database cannot be made ({error.strerror}). "
            "Set DATABASE_URL to a place this program may write."
        ) from error


def make_engine(url: URL, busy_timeout_ms: int) -> AsyncEngine:
    """Connections that are made when needed. `busy_timeout_ms`: how long SQLite waits for another writer.

    Raises StorageError: the driver is not installed.
    """
    try:
        if url.get_backend_name() == "postgresql":
            return create_async_engine(
                url,
                pool_pre_ping=True,
                hide_parameters=True,  # what callers say, and where recordings lie, is for no log
                pool_timeout=CONNECT_TIMEOUT_S,
                connect_args={"timeout": CONNECT_TIMEOUT_S, "command_timeout": OPERATION_TIMEOUT_S},
            )
        in_memory = url.database in (None, "", ":memory:")
        # A database in memory lives in its one connection; SQLite has one writer anyway.
        engine = create_async_engine(
            url,
            poolclass=AsyncAdaptedQueuePool,
            hide_parameters=True,
            pool_size=1 if in_memory else 5,
            max_overflow=0,
            pool_timeout=OPERATION_TIMEOUT_S,
        )
    except ModuleNotFoundError as error:
        raise StorageError(
            f"The driver {error.name} for {url.get_backend_name()} is not installed. "
            f"Run: {install_command('postgres')}"
        ) from error

    def set_up(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(busy_timeout_ms)}")
        try:
            cursor.execute("PRAGMA journal_mode = WAL")  # readers do not wait for the writer
        except sqlite3.OperationalError as error:
            # SQLite does not wait its turn for this one. Whoever holds the file has it set, or the next will.
            log.debug("write-ahead log not set this time: %s", error)
        cursor.execute("PRAGMA synchronous = NORMAL")  # safe with WAL: a power cut loses no consistency
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    event.listen(engine.sync_engine, "connect", set_up)
    return engine
