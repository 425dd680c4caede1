"""Names in `.env` that look like settings of ours and are none. Pure, but for reading the file's names.

Silent about what may be anybody's: an agent's secret, another program's variable.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from pathlib import Path

from dotenv import dotenv_values

_PREFIXES = ("TELNYX_", "SESAME_", "ELEVENLABS_", "OPENAI_", "AGENTS_", "PROMPTS_")
# Of deploy/runpod's start script.
_OTHERS = frozenset(f"SESAME_{name}" for name in "HOME INSTALL PYTHON REPOSITORY USER VENV VOLUME".split())
_ALIKE, _ALIKE_SHORT, _SHORT = 0.85, 0.9, 5


def unknown_settings(names: Iterable[str], known: Collection[str], secrets: Collection[str]) -> list[str]:
    """A sentence for each name that is near a known one, or begins as ours do. `secrets`: names that agents
    may use."""
    ours = {name.upper() for name in known}
    suspects = {name for name in names if name.upper() not in ours and name not in _OTHERS}
    found = [(name, _nearest(name.upper(), ours)) for name in sorted(suspects.difference(secrets))]
    return [
        f".env: {name} is no setting and has no effect"
        + (f"; did you mean {near}?" if near else "; docs/reference/settings.md has them all.")
        for name, near in found
        if near or name.upper().startswith(_PREFIXES)
    ]


def names_in(env_file: Path) -> list[str]:
    """The names that the file sets; none when there is no such file or it cannot be read."""
    try:
        return list(dotenv_values(env_file, encoding="utf-8"))
    except (OSError, ValueError):
        return []


def _nearest(name: str, known: Iterable[str]) -> str | None:
    bare = {one.replace("_", ""): one for one in sorted(known)}
    wanted = name.replace("_", "")
    alike = _ALIKE_SHORT if len(wanted) <= _SHORT else _ALIKE
    near = get_close_matches(wanted, bare, n=1, cutoff=alike)
    return bare[near[0]] if near else None
