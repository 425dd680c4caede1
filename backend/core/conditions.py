"""Does what the caller said or pressed meet a transition? Pure; refuses to know where a call stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

from backend.core.call_flow import Transition
from backend.core.matching import KeyMatch, KeyPattern, has_keyword, search, spoken_keys, words

_OPEN_ENDED = (KeyMatch.PARTIAL, KeyMatch.FULL_SO_FAR)
_COMPLETE = (KeyMatch.FULL, KeyMatch.FULL_SO_FAR)


def caught(item: Transition, said: str) -> dict[str, str] | None:
    """What the transition catches of the words (maybe nothing) if they meet it; else None."""
    when = item.when
    if when.keywords:
        return {} if has_keyword(words(said), when.keywords) else None
    if when.regex:
        return search(when.regex, said)
    if when.digits:
        return {} if fitting_keys(item, said) else None
    return None


def fitting_keys(item: Transition, said: str) -> str:
    """The keys in what was said or pressed that the transition asks for (any, if it names none)."""
    together = "".join(spoken_keys(said))
    if not item.when.digits:
        return together
    pattern = KeyPattern.parse(item.when.digits)
    for keys in (*spoken_keys(said), together, said):
        if pattern.match(keys) in _COMPLETE:
            return keys
    return ""


def most_keys(transitions: Iterable[Transition]) -> int | None:
    """How many keys the transitions ask for at most; None: none of them asks for any."""
    patterns = (KeyPattern.parse(item.when.digits) for item in transitions if item.when.digits)
    return max((pattern.max_keys for pattern in patterns), default=None)


class Keys(Enum):
    """What pressed keys come to, where they do not lead on at once."""

    WAIT = "wait"  # further ones may follow
    ALL = "all"  # the caller said that these were all, by "#"
    SLIP = "slip"  # they lead nowhere


def weigh_keys(transitions: Sequence[Transition], keys: str, *, free: bool) -> Transition | Keys:
    """Where all the keys pressed so far lead. `free`: any figures are taken here, as many as there come.

    A "#" at the end that no pattern asks for says that these were all; so does a "*" after a complete entry.
    """
    matches = [(item, _key_match(item, keys)) for item in transitions]
    starred = keys.endswith("*") and settled_by(transitions, keys[:-1]) is not None
    ended = (keys.endswith("#") and keys != "#") or (starred and not free)
    if (free or any(match in _OPEN_ENDED for _, match in matches)) and not ended:
        return Keys.WAIT
    full = next((item for item, match in matches if match is KeyMatch.FULL), None)
    if full is not None:
        return full
    begun = any(_key_match(item, keys[:-1]) is not KeyMatch.NO for item in transitions)
    return Keys.ALL if ended and (free or begun) else Keys.SLIP


def ask_for(transitions: Iterable[Transition], key: str) -> bool:
    """Whether any of them begins with the key."""
    return any(_key_match(item, key) is not KeyMatch.NO for item in transitions)


def settled_by(transitions: Sequence[Transition], keys: str) -> Transition | None:
    """The first that these keys meet, when no further ones come."""
    return next((item for item in transitions if _key_match(item, keys) in _COMPLETE), None)


def _key_match(item: Transition, keys: str) -> KeyMatch:
    return KeyPattern.parse(item.when.digits).match(keys) if item.when.digits else KeyMatch.NO
