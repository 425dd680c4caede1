"""What a database driver says when it cannot go on, as a StorageError with a sentence for an operator."""

from __future__ import annotations

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from backend.errors import StorageError

# What drivers say (in lower case) → what to do about it.
_ADVICE: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("database is locked", "database table is locked"),
        "another program holds it. Stop that program, or give each its own DATABASE_URL.",
    ),
    (
        ("unable to open database file", "readonly database", "read-only", "permission denied"),
        "it cannot be written. Set DATABASE_URL to a file this program may write.",
    ),
    (
        ("file is not a database", "malformed"),
        "the file is not an SQLite database, or is damaged. Move it, or set DATABASE_URL to another.",
    ),
    (
        ("disk is full", "disk full", "no space left"),
        "the disk is full. Make room; calls go on, but are not recorded.",
    ),
    (
        ("password authentication failed", "no password supplied"),
        "the user or password is not accepted. Correct them in DATABASE_URL.",
    ),
    (
        ("role", "does not exist"),
        "there is no such user. Create it, or correct DATABASE_URL.",
    ),
    (
        ("database", "does not exist"),
        "there is no such database on that server. Create it, or correct DATABASE_URL.",
    ),
    (
        ("too many connections", "remaining connection slots"),
        "the server takes no more connections. Raise max_connections, or run fewer backends.",
    ),
)
_UNREACHABLE = "the server cannot be reached. Check that it runs, and the host and port in DATABASE_URL."
_SLOW = "it did not answer in time. Check the load on it and its disk."


def storage_error(url: URL, error: BaseException) -> StorageError:
    """The error to raise for what a driver raised; the URL is told without its password."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = " ".join(str(cause).split())
    where = url.render_as_string(hide_password=True)
    return StorageError(f"The database {where} cannot be used: {_advice(cause, said.lower())} ({said})")


def _advice(cause: BaseException, said: str) -> str:
    for signs, advice in _ADVICE:
        # "X does not exist" needs both words; elsewhere any sign will do.
        match = all if "does not exist" in signs else any
        if match(sign in said for sign in signs):
            return advice
    if isinstance(cause, TimeoutError | PoolTimeoutError):
        return _SLOW
    if isinstance(cause, OSError) or "connection" in said:
        return _UNREACHABLE
    return "it refused a command."
