"""Keys as people press them: which key ends an entry, and which entry a late one belongs to. Pure.

Refuses to know what the keys mean to a call flow.
"""

from __future__ import annotations

KEY_GAP_MS = 2_500.0
"""No further key for so long after one: those were all."""
_POUND, _STAR = "#", "*"


def without_end(keys: str) -> str:
    """The keys without the `#` that ends them; a `#` alone stays."""
    return keys[:-1] if keys.endswith(_POUND) and len(keys) > 1 else keys


class KeyEntry:
    """The keys that were acted upon last, for as long as a late `#` or `*` may still belong to them.

    An entry may be complete with its last figure, while the caller goes on to press the key that ends it.
    """

    def __init__(self) -> None:
        self._last_ms = float("-inf")
        self._endable = self._ended = False

    def acted_upon(self, keys: str) -> None:
        """These keys led somewhere, if only to the question again."""
        self._endable = bool(keys.strip(_POUND + _STAR))
        self._ended = without_end(keys) != keys

    def is_ended_by(self, key: str, at_ms: float, *, asked_for: bool) -> bool:
        """Whether the key only ends what was acted upon. Ask once for each key, in order.

        `asked_for`: the call flow waits for this key now. A `#` ends the entry all the same, once: the caller
        pressed it before they could hear what it would mean next. A `*` then does not: few press
        it to end a number.
        """
        in_time = at_ms - self._last_ms <= KEY_GAP_MS
        self._last_ms = at_ms
        ends = key == _POUND or (key == _STAR and not asked_for)
        if not (in_time and self._endable and ends) or (asked_for and self._ended):
            self._endable = False
            return False
        self._ended = True
        return True
