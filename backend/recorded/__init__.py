"""Recordings that ship with the backend, in memory from the start: they need no network, no voice, no disk.

How they were made: `python -m backend.recorded`.
"""

from __future__ import annotations

from importlib.resources import files

APOLOGY = "I'm sorry, we are having a technical problem. Please call again later. Goodbye."
"""What the English recording says."""

_APOLOGIES = {"en": files(__package__).joinpath("apology.en.ulaw").read_bytes()}


def recorded_apology(language: str) -> bytes | None:
    """An apology in that language ("en-GB", "en"), μ-law at 8 kHz; None when there is none."""
    return _APOLOGIES.get(language.partition("-")[0].lower())
