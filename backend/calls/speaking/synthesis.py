"""One piece of text through a speech route, whole: G.711 for the telephone, or an error if it is not speech.

For what is made before it is wanted; who speaks to a caller who waits is `voice`'s matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing

import numpy as np

from backend.calls.ports import SpeechRoute
from backend.core.g711 import BYTES_PER_MS, RATE_HZ, Codec
from backend.core.resample import Resampler
from backend.core.sound_check import SoundCheck
from backend.core.speech import Sound
from backend.errors import SpeechError, SpeechFailure

_TIMEOUT_S = 120.0
_CHECKED_BYTES = 200 * BYTES_PER_MS * 2  # at a time, as it would come in a call: noise in the middle is noise
_LEAST_MS_PER_CHARACTER, _FEW_CHARACTERS = 12.0, 30  # the quickest speakers take three times as long
_MOST_MS_PER_CHARACTER, _MOST_MORE_MS = 310.0, 10_000.0  # the slowest take a third
_MOST_MS = 300_000.0
_LEAD_MS, _TRAIL_MS = 200, 400  # silence a voice may begin and end with; speech is never cut
_SILENT_BELOW = 150  # of 32768: below the softest consonant
_MARGIN_MS = 30  # around what is louder: a sound fades in and out


async def synthesise(route: SpeechRoute, spoken: str, *, before: str = "") -> bytes:
    """What the route makes of `spoken`, as μ-law at 8 kHz. Raises SpeechError."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            sounds = await collect(route, spoken, before=before)
    except TimeoutError as error:
        raise _error(route, "timeout", f"not finished within {_TIMEOUT_S:g} s") from error
    pcm16_8k, ulaw = await for_the_line(route, sounds)
    first, end = _voiced(pcm16_8k)
    if first >= end:
        raise _error(route, "no_audio", "gave silence")
    # It would be played in every call from now on.
    lasts_ms = (end - first) / BYTES_PER_MS
    if len(spoken) >= _FEW_CHARACTERS and lasts_ms < _LEAST_MS_PER_CHARACTER * len(spoken):
        raise _error(route, "generation_failed", f"broke off: {lasts_ms:.0f} ms for {len(spoken)} characters")
    if lasts_ms > _MOST_MS_PER_CHARACTER * len(spoken) + _MOST_MORE_MS:
        raise _error(route, "generation_failed", f"babbled: {lasts_ms:.0f} ms for {len(spoken)} characters")
    return ulaw[max(0, first - _LEAD_MS * BYTES_PER_MS) : end + _TRAIL_MS * BYTES_PER_MS]


async def collect(
    route: SpeechRoute,
    spoken: str,
    *,
    before: str = "",
    heard: Callable[[Sound], None] = lambda sound: None,
) -> list[Sound]:
    """All its sound, of bounded length; `heard` is told of each chunk as it comes. Raises SpeechError."""
    sounds: list[Sound] = []
    lasts_ms = 0.0
    async with aclosing(route.speak(spoken, before=before)) as stream:
        async for sound in stream:
            if (problem := sound.problem()) is not None:
                raise _error(route, "protocol", problem)
            heard(sound)
            sounds.append(sound)
            lasts_ms += sound.duration_ms
            if lasts_ms > _MOST_MS:
                raise _error(route, "protocol", f"speaks for over {_MOST_MS / 1000:g} s")
    return sounds


async def for_the_line(route: SpeechRoute, sounds: Sequence[Sound]) -> tuple[bytes, bytes]:
    """A whole request's sound at 8 kHz, as PCM and as μ-law. Raises SpeechError when it is no speech."""
    # Minutes of sound take tens of milliseconds: not on the event loop.
    return await asyncio.to_thread(_for_the_line, route, sounds)


def _for_the_line(route: SpeechRoute, sounds: Sequence[Sound]) -> tuple[bytes, bytes]:
    pcm16_8k, ulaw = _converted(route, sounds)
    if not pcm16_8k:
        raise _error(route, "no_audio", "gave no sound")
    check = SoundCheck()
    for at in range(0, len(pcm16_8k), _CHECKED_BYTES):
        if (problem := check.push(pcm16_8k[at : at + _CHECKED_BYTES])) is not None:
            raise _error(route, "noise", f"gave no speech: {problem}")
    return pcm16_8k, ulaw


def _converted(route: SpeechRoute, sounds: Sequence[Sound]) -> tuple[bytes, bytes]:
    """What comes as μ-law stays as it is."""
    data = b"".join(sound.data for sound in sounds)
    if not data:
        return b"", b""
    if len({(sound.encoding, sound.rate_hz) for sound in sounds}) > 1:
        raise _error(route, "protocol", "changes its format in the middle")
    if sounds[0].encoding == "ulaw":
        return Codec.PCMU.decode(data), data
    resampler = Resampler(sounds[0].rate_hz, RATE_HZ)
    pcm16_8k = resampler.push(data) + resampler.flush()
    return pcm16_8k, Codec.PCMU.encode(pcm16_8k)


def _voiced(pcm16_8k: bytes) -> tuple[int, int]:
    """From which sample to which it is not silent; (0, 0) when it is silent throughout."""
    loud = np.flatnonzero(np.abs(np.frombuffer(pcm16_8k, "<i2").astype(np.int32)) >= _SILENT_BELOW)
    if not len(loud):
        return 0, 0
    margin = _MARGIN_MS * BYTES_PER_MS
    return max(0, int(loud[0]) - margin), int(loud[-1]) + 1 + margin


def _error(route: SpeechRoute, reason: SpeechFailure, what: str) -> SpeechError:
    return SpeechError(f"speech route {route.name} {what}", route=route.name, reason=reason)
