"""The folder of agent files: loading, re-reading what changed, writing safely, and the published schema.

A broken file never stops a call: its last good version stays in use, and the log says so. Refuses to know
what an agent means; `backend.core.agent_text` decides whether it is sound.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from backend.core.agent import Agent
from backend.core.agent_names import named
from backend.core.agent_text import inspect_agent
from backend.errors import AgentError

SCHEMA_NAME = "agent.schema.json"
_MAX_BYTES = 1_000_000
_log = logging.getLogger(__name__)

_Signature = tuple[int, int, int]  # modified (ns), size, inode


@dataclass(frozen=True, slots=True)
class _File:
    """What is known of one file. `good`: its last sound version; `served`: the one in use.

    `signature`: of what was read last; None when that could not be read, and is to be tried again.
    """

    signature: _Signature | None
    good: Agent | None = None
    served: Agent | None = None
    errors: tuple[AgentError, ...] = ()
    warnings: tuple[str, ...] = ()


class AgentFiles:
    """The agents of one folder.

    Files are read and written in one thread at a time, which may be any; looking an agent up never waits, and
    finds the agents as they were before a change or as they are after it.

    `problems` holds what is wrong with the files as they lie there now, `warnings` what is odd.
    """

    def __init__(
        self, dir: Path, *, pattern: str = "*.json", read: Callable[[Path], bytes] = Path.read_bytes
    ) -> None:
        """`pattern`: which files of the folder count. `read`: all of a file; raises OSError."""
        self.dir, self._pattern, self._read_bytes = dir, pattern, read
        self.problems: list[AgentError] = []
        self.warnings: list[str] = []
        self._files: dict[Path, _File] = {}
        self._by_id: dict[str, Agent] = {}
        self._by_number: dict[str, Agent] = {}
        self._serving: tuple[Agent, ...] = ()
        self._folder_problem: AgentError | None = None
        self._lock = threading.RLock()

    def load(self) -> None:
        """Read the folder. Raises AgentError only if there is no usable agent in it."""
        self.reload_changed()
        if self._by_id:
            return
        if self.problems:
            raise self.problems[0]
        raise AgentError(str(self.dir), "", "holds no agent file (*.json); set AGENTS_DIR, or add one")

    def reload_changed(self) -> bool:
        """Read what was added, changed or removed since; True if anything was. Problems are logged once."""
        with self._lock:
            return self._reload()

    def _reload(self) -> bool:
        before, folder_problem = dict(self._files), self._folder_problem
        try:
            present = self._scan()
        except OSError as error:
            return self._folder_cannot_be_listed(error)
        if self._files and not present:
            # A volume that is not mounted is an empty folder, too; and no call is answered without an agent.
            return self._folder_is_away("holds no agent file any more")
        self._folder_problem = None
        if folder_problem is not None:
            _log.info("the agents' folder %s can be read again", self.dir)
        for path in before.keys() - present.keys():
            del self._files[path]
            _log.info("agent file %s is gone", path.name)
        for path, signature in present.items():
            known = self._files.get(path)
            if known is None or signature is None or known.signature != signature:
                self._files[path] = self._read(path, signature, known)
        if before == self._files and folder_problem is None:
            return False
        self._index()
        return True

    def _folder_cannot_be_listed(self, error: OSError) -> bool:
        why = error.strerror or str(error)
        if not self._files:
            raise AgentError(
                str(self.dir),
                "",
                f"is not a folder that can be read ({why}); set AGENTS_DIR, or `voice-agent init` writes "
                "samples",
            ) from None
        return self._folder_is_away(f"cannot be read ({why})")

    def _folder_is_away(self, why: str) -> bool:
        """What was read from the folder stays in use."""
        problem = AgentError(
            str(self.dir), "", f"{why}: its agents stay in use as they were, until a restart; put them back"
        )
        if str(problem) == str(self._folder_problem):
            return False
        self._folder_problem = problem
        _log.error("%s", problem)
        self.problems = [problem, *(known for known in self.problems if known.file != problem.file)]
        return True

    def get(self, id: str) -> Agent | None:
        """The agent of that id (of either case, for a UUID)."""
        return self._by_id.get(id.lower())

    def find(self, wanted: str) -> Agent | None:
        """The agent that a person would call so: by its id, its name, the slug of its name, or its file."""
        stem = Path(wanted).stem if wanted.endswith(".json") else wanted
        if (agent := named(self._serving, stem)) is not None:
            return agent
        file = self._files.get(self.dir / f"{stem}.json")
        return file.served if file else None

    def by_number(self, e164: str) -> Agent | None:
        """The agent that answers that number."""
        return self._by_number.get(e164)

    def all(self) -> list[Agent]:
        """Every agent in use, by file name."""
        return list(self._serving)

    def put(self, agent_json: str | bytes | Mapping[str, Any]) -> Agent:
        """Check an agent and write it to its file (its present one, or `<id>.json`), all or nothing.

        Raises AgentError when it is broken or takes another agent's number; nothing is written then.
        """
        with self._lock:
            return self._put(_as_text(agent_json))

    def _put(self, text: str) -> Agent:
        self._reload()
        inspection = inspect_agent(text, file="agent")
        if inspection.agent is None:
            raise inspection.errors[0]
        agent = inspection.agent
        path = next(
            (path for path, file in self._files.items() if file.good and _key(file.good) == _key(agent)),
            self.dir / f"{_key(agent)}.json",
        )
        owner = self._files.get(path)
        if owner and owner.good and _key(owner.good) != _key(agent):
            raise AgentError(path.name, "id", f"the file holds agent {owner.good.id!r}; rename it first")
        for at, number in enumerate(agent.phone_numbers):
            other = self._by_number.get(number)
            if other and _key(other) != _key(agent):
                raise AgentError(path.name, f"phone_numbers[{at}]", _taken(number, other))
        _write_atomically(path, text)
        self._reload()
        return agent

    # --- reading -------------------------------------------------------------------------------------

    def _scan(self) -> dict[Path, _Signature | None]:
        """The files that lie there. Raises OSError when the folder cannot be listed."""
        found: dict[Path, _Signature | None] = {}
        names = sorted(name for name in os.listdir(self.dir) if fnmatch(name, self._pattern))  # noqa: PTH208 - raises
        for path in (self.dir / name for name in names):
            if path.name.endswith(".schema.json") or path.name.startswith("."):
                continue
            try:
                stat = path.stat()
            except FileNotFoundError:  # gone since it was listed
                continue
            except OSError:  # it is there, and cannot be looked at: reading it tells why
                found[path] = None
                continue
            found[path] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return found

    def _read(self, path: Path, signature: _Signature | None, known: _File | None) -> _File:
        last = known or _File(None)
        if signature is not None and signature[1] > _MAX_BYTES:
            return _unreadable(path, f"larger than {_MAX_BYTES} bytes", replace(last, signature=signature))
        if _would_wait(path):
            return _unreadable(path, "it is no file", replace(last, signature=signature))
        try:
            text = self._read_bytes(path)
        except OSError as error:  # it may pass without a change of the file: the next look reads it again
            return _unreadable(path, error.strerror or str(error), replace(last, signature=None))
        inspection = inspect_agent(text, file=path.name)
        return replace(
            last,
            signature=signature,
            good=inspection.agent or last.good,
            errors=inspection.errors,
            warnings=inspection.warnings,
        )

    # --- serving -------------------------------------------------------------------------------------

    def _index(self) -> None:
        """Decide anew which version of which file is in use.

        In a conflict the file that is in use unchanged wins, then the first by name.
        """
        told = {str(problem) for problem in self.problems}
        by_id: dict[str, Agent] = {}
        by_number: dict[str, Agent] = {}
        problems: list[AgentError] = []
        changed = {
            path: file.served is None or file.served is not file.good for path, file in self._files.items()
        }
        for path in sorted(self._files, key=lambda path: (changed[path], path)):
            file = self._files[path]
            conflict = tuple(_conflicts(path, file.good, by_id, by_number)) if file.good else ()
            problems += [*file.errors, *conflict]
            served = file.served if conflict else file.good
            if served and any(_conflicts(path, served, by_id, by_number)):
                served = None
            if served:
                by_id[_key(served)] = served
                by_number |= dict.fromkeys(served.phone_numbers, served)
            self._files[path] = replace(file, served=served)
            self._tell(path, file, served, conflict, told)
        self._by_id, self._by_number, self.problems = by_id, by_number, problems
        self._serving = tuple(file.served for _, file in sorted(self._files.items()) if file.served)
        self.warnings = [warning for path in sorted(self._files) for warning in self._files[path].warnings]

    def _tell(
        self,
        path: Path,
        file: _File,
        served: Agent | None,
        conflict: tuple[AgentError, ...],
        told: set[str],
    ) -> None:
        new = [problem for problem in (*file.errors, *conflict) if str(problem) not in told]
        for problem in new:
            _log.error("%s", problem)
        if new:
            kept = "its last good version stays in use" if served else "it is not in use"
            _log.error("agent file %s is broken; %s", path.name, kept)
        elif served and served is not file.served:
            _log.info("agent %s (%s) is in use from %s", served.name, served.id, path.name)
            for warning in file.warnings:
                _log.warning("%s", warning)


def _would_wait(path: Path) -> bool:
    """Whether reading it may wait for ever for somebody who writes: a pipe, a device."""
    return path.exists() and not (path.is_file() or path.is_dir())


def _unreadable(path: Path, why: str, last: _File) -> _File:
    """The same again where that is known already: an error is equal to nothing but itself."""
    error = AgentError(path.name, "", f"cannot be read: {why}")
    if [str(known) for known in last.errors] == [str(error)]:
        return last
    return replace(last, errors=(error,), warnings=())


def _conflicts(
    path: Path, agent: Agent, by_id: Mapping[str, Agent], by_number: Mapping[str, Agent]
) -> Iterator[AgentError]:
    other = by_id.get(_key(agent))
    if other:
        yield AgentError(path.name, "id", f"{agent.id!r} is already the id of {other.name!r}")
    for at, number in enumerate(agent.phone_numbers):
        other = by_number.get(number)
        if other:
            yield AgentError(path.name, f"phone_numbers[{at}]", _taken(number, other))


def _key(agent: Agent) -> str:
    return agent.id.lower()


def _taken(number: str, other: Agent) -> str:
    return f"{number} already belongs to agent {other.name!r}; a number has one agent"


def _as_text(agent_json: str | bytes | Mapping[str, Any]) -> str:
    if isinstance(agent_json, Mapping):
        return json.dumps(agent_json, ensure_ascii=False, indent=2) + "\n"
    try:
        return agent_json.decode("utf-8") if isinstance(agent_json, bytes) else agent_json
    except UnicodeDecodeError as error:
        raise AgentError("agent", "", f"not UTF-8 text: {error.reason} at byte {error.start}") from error


def _write_atomically(path: Path, text: str) -> None:
    """Write beside the file and rename over it: a reader sees the old text or the new, never half."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise AgentError(path.name, "", f"cannot be written: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp's 0600 would hide the file from an editor of another user
        Path(temporary).replace(path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise AgentError(path.name, "", f"cannot be written: {error.strerror or error}") from error


def schema_text() -> str:
    """The JSON Schema of agent files, as published beside them."""
    schema = Agent.model_json_schema(by_alias=True, mode="validation")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Call agent"}
    return json.dumps(head | {key: value for key, value in schema.items() if key != "title"}, indent=2) + "\n"


def write_schema(dir: Path) -> Path:
    """Write `agent.schema.json` into the folder; returns its path."""
    path = dir / SCHEMA_NAME
    _write_atomically(path, schema_text())
    return path


if __name__ == "__main__":
    print(write_schema(Path(sys.argv[1] if len(sys.argv) > 1 else "agents")))
