"""Does the caller only ask whether somebody is there, or say that they are? "Hello?" is no answer. Pure.

Knows English, and how telephones are answered in some other languages.
"""

from __future__ import annotations

import re

_CALLS = (
    r"(?:(?:hello|hullo|hallo|hi|hey)(?: there)?|allo|allô|hola|bueno|pronto|moshi"
    r"|good (?:morning|afternoon|evening|day))"
)
_THERE = r"(?:there|here|on the line|on the phone|with me|listening)"
_ASKS = (
    rf"(?:(?:is )?(?:anybody|anyone|someone|somebody) (?:still )?{_THERE}|(?:are )?you (?:still )?{_THERE}|"
    r"(?:can|do|could) you (?:still )?hear me|is this (?:thing )?on|are we (?:still )?connected)"
)
_BEFORE = r"(?:um|uh|er|oh|sorry|excuse me|okay|ok|well|yes|yeah)"
_HELLO = re.compile(rf"(?:{_BEFORE} )*(?:{_CALLS}(?: {_CALLS})*(?: {_ASKS})*|{_ASKS})(?: {_CALLS}| {_ASKS})*")
_HERE = re.compile(
    rf"(?:{_BEFORE} |{_CALLS} )*(?:(?:i'm|i am|we're|we are) )?(?:still )?(?:right )?here(?: now)?"
    rf"(?: {_CALLS})*"
)
_MOST = 120  # characters; what is longer says more
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def is_hello(text: str) -> bool:
    """Whether these words only ask for a sign of life: "Hello? Are you there?"."""
    return _HELLO.fullmatch(_plain(text)) is not None


def is_here(text: str) -> bool:
    """Whether these words only say that the caller is there: "Yes, I'm still here."."""
    return _HERE.fullmatch(_plain(text)) is not None


def _plain(text: str) -> str:
    if len(text) > _MOST:
        return ""
    return " ".join(_WORD.findall(text.replace("’", "'").casefold()))
