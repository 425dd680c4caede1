"""The callers that are shipped, by name, and anybody's own by path."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from backend.simulator.script import ScriptError, load_script

_FOLDER = Path(__file__).parent / "scripts"


def sample_names() -> list[str]:
    """The shipped scripts, such as `book-appointment`."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def read_script(name_or_path: str) -> dict[str, Any]:
    """A script's JSON, checked, by a shipped name or by a file's path; a file wins.

    Raises ScriptError with a sentence: what is wrong with it, or which names there are.
    """
    path = Path(name_or_path)
    if not path.is_file():
        names = sample_names()
        if path.stem not in names or path.suffix not in ("", ".json") or path.parent != Path():
            near = get_close_matches(path.stem, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"shipped ones are {', '.join(names)}"
            raise ScriptError(f"there is no script {name_or_path}: {hint}")
        path = _FOLDER / f"{path.stem}.json"
    load_script(path)
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document
