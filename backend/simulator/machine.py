"""Answering machines: the tone after their greeting, and how the carrier finds them out.

Knows no call: what has happened is asked, what is found is told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from backend.simulator.hearing import RATE_HZ
from backend.simulator.line import Utterance

MachineDetection = Literal["premium", "detect", "detect_beep", "detect_words", "greeting_end", "disabled"]
_BEEP_HZ, _BEEP_S, _BEFORE_BEEP_S = 1_000.0, 0.5, 0.4
_LISTENS_S = 2.0  # people say "hello?" and wait; who speaks longer is a machine
_SILENCE_S = 1.5  # which ends a greeting without a tone
_LONGEST_GREETING_S = 120.0

Tell = Callable[[str, str], None]
"""An event's type and its result."""


def with_beep(utterance: Utterance) -> Utterance:
    """The same words, a short pause, and the tone."""
    time_s = np.arange(int(_BEEP_S * RATE_HZ)) / RATE_HZ
    tone = np.rint(9_000 * np.sin(2 * np.pi * _BEEP_HZ * time_s)).astype("<i2").tobytes()
    pcm16 = utterance.pcm16 + bytes(2 * int(_BEFORE_BEEP_S * RATE_HZ)) + tone
    return replace(utterance, pcm16=pcm16, speech_end=len(pcm16) // 2)


async def find_out(
    how: MachineDetection,
    *,
    is_machine: bool,
    beeps: bool,
    spoke: asyncio.Event,
    happens: Callable[[asyncio.Event, float], Awaitable[bool]],
    over: Callable[[], bool],
    tell: Tell,
) -> None:
    """Listen from the beginning of the line: tell who answered, and when a machine's greeting ends.

    `spoke`: the first words of whoever answered are over, their tone included. `happens`: whether it did in
    so many seconds, sooner when the call is `over`.
    """
    kind = "call.machine.premium" if how == "premium" else "call.machine"
    await happens(spoke, _LISTENS_S)
    if over():
        return
    if not is_machine:
        tell(f"{kind}.detection.ended", "human_residence" if how == "premium" else "human")
        return
    tell(f"{kind}.detection.ended", "machine")
    if how == "detect" or not await happens(spoke, _LONGEST_GREETING_S):
        return
    if beeps:
        tell(f"{kind}.greeting.ended", "beep_detected")
    elif how in ("greeting_end", "detect_words"):
        await happens(asyncio.Event(), _SILENCE_S)
        if not over():
            tell(f"{kind}.greeting.ended", "ended")
