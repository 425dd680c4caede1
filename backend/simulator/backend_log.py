"""What a backend warned of, from the lines of its log. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

_LINE = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ (?:WARNING|ERROR|CRITICAL)\s+(.*\S)")
_CALL = re.compile(r"^call \S+: ")


def warnings_in(log: str) -> list[str]:
    """The warnings and errors, each once, without times and without the call they came up in."""
    found = (match.group(1) for line in log.splitlines() if (match := _LINE.match(line)))
    return once(found)


def once(messages: Iterable[str]) -> list[str]:
    """Each message once, whichever call it came up in."""
    return list(dict.fromkeys(_CALL.sub("", message) for message in messages))


def about(messages: Iterable[str], agent_ids: Collection[str], all_ids: Collection[str]) -> list[str]:
    """Those that are not of other agents alone."""
    others = [f"agent {one}" for one in all_ids if one not in agent_ids]
    return [message for message in messages if not any(other in message for other in others)]
