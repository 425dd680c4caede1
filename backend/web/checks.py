"""Checks of single values in requests; each raises ValueError with what is wrong and what it should be."""

from __future__ import annotations

import re

MAX_WORDS_CHARS = 4000
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_SIP = re.compile(r"sips?:[^\s@]+@[^\s@]+", re.IGNORECASE)
_DIGITS = re.compile(r"[0-9A-D*#wW]{1,64}")


def check_number(number: str) -> str:
    """A telephone number in E.164."""
    if not _E164.fullmatch(number):
        raise ValueError("must be a number in international form without blanks, such as +15551234567")
    return number


def check_destination(destination: str) -> str:
    """A telephone number in E.164, or a sip: address."""
    if not (_E164.fullmatch(destination) or (len(destination) <= 255 and _SIP.fullmatch(destination))):
        raise ValueError("must be a number such as +15551234567 or an address such as sip:desk@example.com")
    return destination


def check_digits(digits: str) -> str:
    """Keys a telephone has, and pauses."""
    if not _DIGITS.fullmatch(digits):
        raise ValueError("must be 1 to 64 of 0-9, A-D, *, #, and w or W for a pause")
    return digits


def check_words(text: str) -> str:
    """Something to say, of a length that can be said."""
    if not text.strip():
        raise ValueError("is empty; there is nothing to say")
    if len(text) > MAX_WORDS_CHARS:
        raise ValueError(f"has {len(text)} characters; at most {MAX_WORDS_CHARS} can be said at once")
    return text
