"""Regular expressions of agent files: searched within a time limit, so that none can hold up a call.

Most expressions take microseconds; one with a repeat within a repeat, such as (a+)+$, may try for hours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import regex

LIMIT_S = 0.1  # for one search in a call
_PROBE_S = 0.25
_PROBE_CHARS = 1000
_MOST_PROBES = 12


def named_groups(pattern: str, text: str) -> dict[str, str] | None:
    """The named groups that hold something where the pattern is found in the text, whatever the case; None
    where it is not found, or not within the limit."""
    try:
        found = regex.compile(pattern, regex.IGNORECASE).search(text, timeout=LIMIT_S)
    except TimeoutError:
        return None
    return None if found is None else {name: value for name, value in found.groupdict().items() if value}


def pattern_problem(pattern: str) -> str | None:
    """What is wrong with the expression, as a sentence; None when nothing is."""
    try:
        re.compile(pattern, re.IGNORECASE)
        compiled = regex.compile(pattern, regex.IGNORECASE)
    except (re.error, regex.error) as error:
        return f"is not a regular expression: {error}"
    except (RecursionError, OverflowError):
        return "is not a regular expression that can be used: too large"
    for probe in _probes(pattern):
        # Twice: a machine that was busy is no reason to refuse an expression.
        if _is_slow(compiled, probe) and _is_slow(compiled, probe):
            return (
                f"takes too long on words such as {probe[:6] + '…'!r}: a repeat within a repeat, such as "
                "(a+)+ or (.*a){9}, tries every way to part them; write it without the inner or outer repeat"
            )
    return None


def _is_slow(compiled: regex.Pattern[str], text: str) -> bool:
    try:
        compiled.search(text, timeout=_PROBE_S)
    except TimeoutError:
        return True
    return False


def _probes(pattern: str) -> Iterator[str]:
    """Texts that repeats of this pattern may stumble over: its own characters over and over, then another."""
    own = re.findall(r"[^\W_]", re.sub(r"\\.|\(\?P<\w+>", " ", pattern))
    units = [*dict.fromkeys(["a", "1", " ", "a ", *own])][:_MOST_PROBES]
    for unit in units:
        yield unit * (_PROBE_CHARS // len(unit)) + "!"
