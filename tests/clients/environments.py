"""An environment for each client, made when it is first asked for and kept in .cache/clients.

`make clean` removes them; the next run then fetches whatever is newest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[2] / ".cache" / "clients"
PYTHON_SETTING = "CLIENTS_PYTHON"
_COMPLETE = "complete"
_NEWER_PYTHONS = ("python3.14", "python3.13", "python3.12", "python3")


def python_environment(name: str, *packages: str, at_least: tuple[int, int] = (3, 11)) -> Path:
    """The interpreter of a virtual environment that holds these packages. Skips where no Python will do."""
    folder = CACHE / name
    interpreter = folder / "bin" / "python"
    if not (folder / _COMPLETE).exists():
        base = _python(at_least)
        _anew(folder)
        _run([base, "-m", "venv", str(folder)])
        _run([str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
        (folder / _COMPLETE).touch()
    return interpreter


def node_environment(name: str, *packages: str) -> Path:
    """A folder whose node_modules holds these packages. Skips where there is no Node."""
    folder = CACHE / name
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node and npm are not on the PATH: install Node 20 or newer")
    if not (folder / _COMPLETE).exists():
        _anew(folder)
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *packages])
        (folder / _COMPLETE).touch()
    return folder


def _python(at_least: tuple[int, int]) -> str:
    for candidate in _candidates():
        if _is_at_least(candidate, at_least):
            return candidate
    wanted = ".".join(map(str, at_least))
    pytest.skip(
        f"this client needs Python {wanted} or newer: put one on the PATH, or name it in {PYTHON_SETTING}"
    )


def _candidates() -> Iterator[str]:
    if named := os.environ.get(PYTHON_SETTING):
        yield named
    yield sys.executable
    yield from filter(None, map(shutil.which, _NEWER_PYTHONS))


def _is_at_least(python: str, version: tuple[int, int]) -> bool:
    """Ask it: a name on the PATH may be a shim that runs nothing."""
    question = f"import sys; sys.exit(sys.version_info < {version})"
    try:
        return subprocess.run([python, "-c", question], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _anew(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
