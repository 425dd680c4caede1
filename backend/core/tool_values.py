"""What a tool's answer puts into a call's variables. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

MAX_VALUE = 1000
"""Characters of a tool's answer kept in a variable; of a longer value, the beginning is."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_BRACKET = re.compile(r"""\[\s*['"]?([^\]'"]*?)['"]?\s*\]""")
_MISSING = object()


def values_at(paths: Mapping[str, str], answer: str) -> dict[str, str]:
    """Variables and their values, from a JSON answer: `{"slot": "slots.0.time"}`.

    Left out is what the answer does not hold, what is null, and what is a list or an object; an answer that
    is no JSON holds nothing.
    """
    try:
        whole = json.loads(answer)
    except (ValueError, RecursionError):
        return {}
    found = ((name, _text(_at(whole, path))) for name, path in paths.items())
    return {name: value for name, value in found if value is not None}


def unfound_at(paths: Mapping[str, str], answer: str) -> dict[str, str]:
    """Variables whose path leads to nothing that can be kept, and why; never what the answer holds.

    A null is an answer, too: nothing is wrong with its path.
    """
    try:
        whole = json.loads(answer)
    except (ValueError, RecursionError):
        return dict.fromkeys(paths, "cannot be looked for, since the answer is no JSON")
    reasons = ((name, _unfound(_at(whole, path))) for name, path in paths.items())
    return {name: reason for name, reason in reasons if reason}


def _unfound(value: Any) -> str:
    if value is _MISSING:
        return "finds nothing in the answer"
    if isinstance(value, list | dict):
        kind = "a list" if isinstance(value, list) else "an object"
        return f"finds {kind} in the answer: go on to one value in it"
    return ""


def plain_path(path: str) -> str:
    """A path as `set` reads it, of one in JSONPath: `$.slots[0].time` → `slots.0.time`."""
    return _BRACKET.sub(r".\1", path.removeprefix("$")).strip(".")


def _at(value: Any, path: str) -> Any:
    for key in path.split("."):
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isascii() and key.isdigit() and _within(key, value):
            value = value[int(key)]
        else:
            return _MISSING
    return value


def _within(key: str, items: list[Any]) -> bool:
    return len(key) < 10 and int(key) < len(items)


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, str | int | float):
        return None
    # Half an emoji can be written in JSON, and kept nowhere.
    clean = _CONTROL.sub(" ", str(value)[: 2 * MAX_VALUE]).encode(errors="replace").decode()
    return clean[:MAX_VALUE].strip()


class ToolVariables(MutableMapping[str, str]):
    """A call's variables as its tools see them: what a tool sets goes to `keep`."""

    def __init__(self, variables: Mapping[str, str], keep: Callable[[str, str], None]) -> None:
        self._variables, self._keep = variables, keep

    def __getitem__(self, name: str) -> str:
        return self._variables[name]

    def __setitem__(self, name: str, value: str) -> None:
        self._keep(name, value)

    def __delitem__(self, name: str) -> None:
        raise TypeError("a tool takes no variable away")

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)
