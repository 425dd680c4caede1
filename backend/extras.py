"""What is installed beside the core, and the command that installs what is missing for this very copy.

`runpod_server/extras.py` is its twin: the two programs share no code.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from backend.errors import ConfigError

DISTRIBUTION = "sesame-telephony"
# What an extra brings that whole commands cannot do without, by the modules that are imported.
_MODULES = {
    "local": ("hibari", "matplotlib", "moonshine_voice", "soundfile"),
}


@dataclass(frozen=True, slots=True)
class Copy:
    """How the running copy came here. `direct_url`: what pip noted (PEP 610); None: it came from an index."""

    checkout: Path | None = None
    direct_url: dict[str, Any] | None = None
    requirements: Sequence[str] = field(default=())


def is_installed(extra: str) -> bool:
    """Whether everything that an extra brings can be imported."""
    return all(find_spec(name) is not None for name in _MODULES[extra])


def need(extra: str, what: str) -> None:
    """Raises ConfigError, with the command that helps, when `what` cannot be done for want of an extra."""
    if not is_installed(extra):
        raise ConfigError(
            f"{what} needs the extra {extra!r}, which is not installed: {install_command(extra)}"
        )


def install_command(extra: str) -> str:
    """The shell command that adds an extra to the running copy, whatever folder it is typed in."""
    has_pip = find_spec("pip") is not None
    here = Path.cwd()
    python = Path(sys.executable)
    shown = str(python.relative_to(here) if python.is_relative_to(here) else python)
    install = installer(shown, pip_is_first=_is_beside(python, shutil.which("pip")), has_pip=has_pip)
    return command_for(extra, running_copy(), install=install, here=here)


def command_for(extra: str, copy: Copy, *, install: str, here: Path) -> str:
    """The same for any copy, typed in the folder `here`."""
    if copy.checkout is not None:
        folder = "." if copy.checkout == here else str(copy.checkout)
        return f"{install} -e {_quoted(f'{folder}[{extra}]')}"
    if (address := _address(copy.direct_url or {})) is not None:
        return f"{install} {_quoted(f'{DISTRIBUTION}[{extra}] @ {address}')}"
    # No index is known to have this project, but what the extra brings is on the public one.
    wanted = [_bare(line) for line in copy.requirements if _is_of(extra, line)]
    return " ".join([install, *map(_quoted, wanted or [f"{DISTRIBUTION}[{extra}]"])])


def running_copy() -> Copy:
    """Raises nothing: what cannot be found out is left empty."""
    above = Path(__file__).parents[1]
    if (above / "pyproject.toml").is_file():
        return Copy(checkout=above)
    try:
        found = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return Copy()
    noted = found.read_text("direct_url.json")
    return Copy(direct_url=json.loads(noted) if noted else None, requirements=found.requires or ())


def installer(python: str, *, pip_is_first: bool, has_pip: bool) -> str:
    """What to type so that it is installed for this interpreter. `pip_is_first`: `pip` is this one's."""
    if not has_pip:
        return f"uv pip install --python {shlex.quote(python)}"
    return "pip install" if pip_is_first else f"{shlex.quote(python)} -m pip install"


def _is_beside(python: Path, pip: str | None) -> bool:
    return pip is not None and Path(pip).parent == python.parent


def _address(direct_url: dict[str, Any]) -> str | None:
    """What pip can install from again; None when it is gone, or never was an address."""
    url = direct_url.get("url")
    if not isinstance(url, str):
        return None
    if vcs := direct_url.get("vcs_info"):
        return f"{vcs['vcs']}+{url}@{vcs.get('requested_revision') or vcs['commit_id']}"
    split = urlsplit(url)
    return None if split.scheme == "file" and not Path(unquote(split.path)).exists() else url


def _is_of(extra: str, requirement: str) -> bool:
    _, _, condition = requirement.partition(";")
    return f'extra=="{extra}"' in condition.replace(" ", "").replace("'", '"')


def _bare(requirement: str) -> str:
    return requirement.partition(";")[0].strip()


def _quoted(argument: str) -> str:
    """In single quotes always: an extra's brackets are a pattern to some shells."""
    return f"'{argument}'" if "'" not in argument else shlex.quote(argument)
