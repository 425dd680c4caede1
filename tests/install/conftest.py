"""The wheel, really built, in environments that hold what it declares and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Installation:
    """An environment with the wheel, and a folder to work in that began empty."""

    bin: Path
    folder: Path
    wheel: Path

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ}
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        return {**kept, "PATH": path, "HOME": str(self.folder), **more}

    def run(self, *command: str, typed: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]], cwd=self.folder, env=self.environment(**more),
            input=typed, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def sentence(self, *command: str) -> str:
        """What a command that cannot be done says: one line, no traceback, exit status 1."""
        done = self.run(*command)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-w", str(out), str(ROOT)], check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    yield _install(wheel, tmp_path_factory.mktemp("core"), extras=())


@pytest.fixture(scope="session")
def local(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    yield _install(wheel, tmp_path_factory.mktemp("local"), extras=("local",))


def _install(wheel: Path, folder: Path, *, extras: tuple[str, ...]) -> Installation:
    """A virtual environment whose packages are links to the test suite's own, which needs no network."""
    home = folder / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    (site_packages,) = home.glob("lib/python*/site-packages")
    (info,) = site_packages.glob("sesame_telephony-*.dist-info")
    for distribution in _needed(metadata.Distribution.at(info), extras):
        _link(distribution, site_packages)
    work = folder / "work"
    work.mkdir()
    return Installation(python.parent, work, wheel)


def _needed(project: metadata.Distribution, extras: tuple[str, ...]) -> list[metadata.Distribution]:
    """What a project declares that it needs here, and what that needs in turn."""
    found: dict[tuple[str, tuple[str, ...]], metadata.Distribution] = {}
    waiting = [(project, extras)]
    while waiting:
        distribution, wanted = waiting.pop()
        for line in distribution.requires or ():
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                continue
            key = (requirement.name.lower(), tuple(sorted(requirement.extras)))
            if key not in found:
                found[key] = metadata.distribution(requirement.name)
                waiting.append((found[key], key[1]))
    return list(found.values())


def _link(distribution: metadata.Distribution, site_packages: Path) -> None:
    for top in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
        link = site_packages / top
        if top != "__pycache__" and not link.exists():
            link.symlink_to(Path(str(distribution.locate_file(top))).resolve())
