"""Prompts made ahead, by key: the hot ones in memory, all of them on disk, both bounded.

`get` answers from memory alone, so that it may be asked on the event loop; everything else does file work
and belongs in a thread. The disk is a convenience: nothing that happens to it is an error for a call.
Refuses to know how prompts are made and what their keys stand for.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from backend.errors import StorageError
from backend.storage.prompt_file import Prompt, pack, unpack

log = logging.getLogger(__name__)

MEMORY_BYTES = 64 << 20  # over two hours of speech
_MAX_FILE_BYTES = 16 << 20
_KEY = re.compile(r"[0-9a-f]{64}")
_SUFFIX, _UNFINISHED = ".wav", ".unfinished"
_STALE_S = 3600.0  # a file somebody is still writing is younger
_LOOK_EVERY = 64  # files written between two looks at what other processes wrote
_LOW_WATER = 0.9  # of the bound: what is left when files have to go, so that not every one makes others go


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    size: int
    used_ns: int


class PromptStore:
    """Prompts by key: 64 hexadecimal digits that stand for voice and text.

    Several processes may share the folder. The prompt used longest ago goes first, in memory and on disk.
    """

    def __init__(self, dir: Path | None, *, max_bytes: int, memory_bytes: int = MEMORY_BYTES) -> None:
        """`dir` None, or `max_bytes` 0: in memory only, for as long as this process runs.

        Raises StorageError when the folder cannot be made or written.
        """
        self.dir = dir if max_bytes > 0 else None
        self._max_bytes, self._memory_bytes = max_bytes, memory_bytes
        self._memory: OrderedDict[str, Prompt] = OrderedDict()
        self._only_here: set[str] = set()  # of these, what was never written: the disk was full
        self._held_bytes = 0
        self._lock = threading.Lock()  # of the memory; never held while a file is touched
        self._files_lock = threading.Lock()
        self._on_disk_bytes = 0
        self._unseen = 0
        self._full_told = False
        if self.dir is not None:
            _check_writable(self.dir)
            with self._files_lock:
                self._tidy()

    @classmethod
    def open(cls, dir: Path, *, max_bytes: int) -> PromptStore:
        """A store in `dir`; when that cannot be used, a warning says so and prompts are kept in memory."""
        try:
            return cls(dir, max_bytes=max_bytes)
        except StorageError as error:
            log.warning("%s Until then prompts are made anew at every start.", error)
            return cls(None, max_bytes=max_bytes)

    def get(self, key: str) -> bytes | None:
        """The prompt's μ-law if it is in memory. Never waits for a file."""
        prompt = self.prompt(key)
        return None if prompt is None else prompt.ulaw

    def prompt(self, key: str) -> Prompt | None:
        """The same, with what it says and what made it."""
        with self._lock:
            prompt = self._memory.get(key)
            if prompt is not None:
                self._memory.move_to_end(key)
            return prompt

    def prefetch(self, keys: Iterable[str]) -> set[str]:
        """Bring prompts into memory and count them as used; gives those of `keys` that there are.

        Reads files. One whose file was removed, as by an operator who changed the voice, is forgotten.
        """
        return {key for key in keys if self._fetch(key)}

    def put(self, key: str, prompt: Prompt) -> None:
        """Keep a prompt, in memory at once and then on disk. Writes a file.

        A full disk loses nothing but the file; the log says so once, until a file can be written again.
        """
        path = self._path(key)
        data = pack(prompt)
        # One of the size of the bound would push out all others.
        if path is None or len(data) > min(self._max_bytes, _MAX_FILE_BYTES):
            self._remember(key, prompt, on_disk=False)
            return
        self._remember(key, prompt, on_disk=False)
        with self._files_lock:
            try:
                _write(path, data)
            except OSError as error:
                self._not_kept(error)
                return
            self._remember(key, prompt, on_disk=True)
            self._full_told = False
            self._on_disk_bytes += len(data)
            self._unseen += 1
            if self._on_disk_bytes > self._max_bytes or self._unseen >= _LOOK_EVERY:
                self._tidy()

    def prompts(self) -> Iterator[tuple[str, Prompt]]:
        """Every sound prompt on disk with its key, in no order. Reads files."""
        for file in list(_files(self.dir)):
            key = file.path.stem
            if _KEY.fullmatch(key) and (prompt := _read(file.path)):
                yield key, prompt

    def drop(self, key: str) -> None:
        """Forget one prompt, in memory and on disk."""
        path = self._path(key)
        self._forget(key)
        if path is not None:
            _remove(path)

    # --- memory ----------------------------------------------------------------------------------------

    def _remember(self, key: str, prompt: Prompt, *, on_disk: bool) -> None:
        with self._lock:
            self._pop(key)
            self._memory[key] = prompt
            self._held_bytes += len(prompt.ulaw)
            if not on_disk:
                self._only_here.add(key)
            while self._held_bytes > self._memory_bytes:
                self._pop(next(iter(self._memory)))

    def _forget(self, key: str) -> None:
        with self._lock:
            self._pop(key)

    def _pop(self, key: str) -> None:
        if (prompt := self._memory.pop(key, None)) is not None:
            self._held_bytes -= len(prompt.ulaw)
        self._only_here.discard(key)

    def _fetch(self, key: str) -> bool:
        path = self._path(key)
        with self._lock:
            held, only_here = key in self._memory, key in self._only_here
        if path is None or only_here:
            return held
        if not held:
            prompt = _read(path)
            if prompt is None:
                return False
            self._remember(key, prompt, on_disk=True)
        try:
            os.utime(path)  # the order in which files go; access times are not kept everywhere
        except FileNotFoundError:
            self._forget(key)
            return False
        except OSError as error:
            log.debug("%s is not marked as used: %s", path, error)
        return True

    # --- disk ------------------------------------------------------------------------------------------

    def _path(self, key: str) -> Path | None:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key of a prompt")
        return None if self.dir is None else self.dir / key[:2] / f"{key}{_SUFFIX}"

    def _tidy(self) -> None:
        """Look at the whole folder, and let the oldest files go when it holds too much."""
        files = sorted(_files(self.dir), key=lambda file: file.used_ns)
        total = sum(file.size for file in files)
        if total > self._max_bytes:
            for file in files:
                if total <= self._max_bytes * _LOW_WATER:
                    break
                _remove(file.path)
                total -= file.size
        self._on_disk_bytes, self._unseen = total, 0

    def _not_kept(self, error: OSError) -> None:
        if not self._full_told:
            log.warning(
                "prepared prompts cannot be kept in %s (%s): make room there, or set PROMPTS_DIR. "
                "Calls go on; prompts are made anew at the next start.",
                self.dir,
                error.strerror or error,
            )
        self._full_told = True


def _check_writable(dir: Path) -> None:
    try:
        dir.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=dir, suffix=_UNFINISHED):
            pass
    except OSError as error:
        raise StorageError(
            f"Prepared prompts cannot be kept in {dir} ({error.strerror or error}): "
            "set PROMPTS_DIR to a folder this program may write."
        ) from error


def _files(dir: Path | None) -> Iterator[_File]:
    """Prompts in the folder. What a killed process left half written is removed on the way."""
    for path in () if dir is None else dir.glob("[0-9a-f][0-9a-f]/*"):
        try:
            stat = path.stat()
        except OSError:
            continue  # gone since it was listed: another process keeps the same bound
        if path.suffix == _SUFFIX:
            yield _File(path, stat.st_size, stat.st_mtime_ns)
        elif path.suffix == _UNFINISHED and time.time() - stat.st_mtime > _STALE_S:
            _remove(path)


def _read(path: Path) -> Prompt | None:
    """The prompt of a file, None if there is none. A damaged file is removed: it is made anew then."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ValueError("too large")
        return unpack(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("prepared prompt %s cannot be read: %s", path, error.strerror or error)
    except ValueError as error:
        log.warning("prepared prompt %s is dropped and made anew: %s", path, error)
        _remove(path)
    return None


def _write(path: Path, data: bytes) -> None:
    """All or nothing: a reader, and a crash, find the whole file or none. No fsync: the checksum tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=_UNFINISHED)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o644)  # mkstemp's 0600 would hide it from a process of another user
        Path(temporary).replace(path)
    except OSError:
        _remove(Path(temporary))
        raise


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error.strerror or error)
