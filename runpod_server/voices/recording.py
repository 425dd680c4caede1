"""A reference recording from any usual WAV: checked, mono, 24 kHz. Bytes in, samples out; no files."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from runpod_server.audio import SAMPLE_RATE_HZ
from runpod_server.errors import BadRequest

Samples = NDArray[np.float32]

MIN_S, MAX_S = 3.0, 30.0
_MIN_RATE_HZ, _MAX_RATE_HZ = 8_000, 192_000
_SILENT_PEAK = 0.01  # -40 dBFS
_HALF_8, _HALF_16, _HALF_32 = (np.float32(2 ** (bits - 1)) for bits in (8, 16, 32))
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


@dataclass(frozen=True, slots=True)
class _Format:
    tag: int
    channels: int
    rate_hz: int
    bits: int


def read_recording(wav: bytes) -> Samples:
    """The samples of a WAV (PCM of 8 to 32 bits or float, any rate, channels averaged), -1 … 1 at 24 kHz.

    Raises BadRequest for what is no such WAV, is silent, or is shorter than 3 s or longer than 30 s.
    """
    form, data = _chunks(wav)
    _check(form)
    channels = _samples(form, data).reshape(-1, form.channels)
    seconds = channels.shape[0] / form.rate_hz
    if not MIN_S <= seconds <= MAX_S:
        raise _refused(
            f"is {seconds:.1f} s long, and a voice needs {MIN_S:.0f} to {MAX_S:.0f} s of clear speech"
        )
    mono: Samples = channels.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise _refused("holds samples that are no numbers: export it again as 16-bit PCM")
    if np.abs(mono).max() < _SILENT_PEAK:
        raise _refused("is silent: record speech, at a level that can be heard")
    if form.rate_hz == SAMPLE_RATE_HZ:
        return mono
    resampled: Samples = soxr.resample(mono, form.rate_hz, SAMPLE_RATE_HZ)
    return resampled


def _chunks(wav: bytes) -> tuple[_Format, bytes]:
    """The format and the samples of a RIFF file. A data chunk may claim more than there is."""
    if wav[:4] != b"RIFF" or wav[8:12] != b"WAVE":
        raise _refused("is not a WAV file: export it as WAV, 16-bit PCM")
    form: _Format | None = None
    at = 12
    while at + 8 <= len(wav):
        name, size = struct.unpack_from("<4sI", wav, at)
        body = wav[at + 8 : at + 8 + size]
        if name == b"fmt " and len(body) >= 16:
            tag, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", body)
            if tag == _EXTENSIBLE and len(body) >= 26:
                (tag,) = struct.unpack_from("<H", body, 24)  # the sub-format begins with the plain tag
            form = _Format(tag, channels, rate_hz, bits)
        if name == b"data" and form is not None:
            return form, body
        at += 8 + size + size % 2
    raise _refused("is a WAV file without sound in it: export it again as WAV, 16-bit PCM")


def _check(form: _Format) -> None:
    if (form.tag, form.bits) not in _DECODERS:
        kind = {_PCM: "PCM", _FLOAT: "float"}.get(form.tag, f"compressed (format {form.tag})")
        raise _refused(f"is a WAV of {form.bits}-bit {kind} samples: export it as WAV, 16-bit PCM")
    if not form.channels:
        raise _refused("is a WAV file that says it has no channels: export it again")
    if not _MIN_RATE_HZ <= form.rate_hz <= _MAX_RATE_HZ:
        raise _refused(
            f"has {form.rate_hz} samples a second: {_MIN_RATE_HZ} to {_MAX_RATE_HZ} will do, 24000 is best"
        )


def _samples(form: _Format, data: bytes) -> Samples:
    frame_bytes = form.channels * form.bits // 8
    return _DECODERS[form.tag, form.bits](data[: len(data) // frame_bytes * frame_bytes])


def _of_24_bits(data: bytes) -> Samples:
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return wide.view("<i4")[:, 0].astype(np.float32) / _HALF_32


_DECODERS: dict[tuple[int, int], Callable[[bytes], Samples]] = {
    (_PCM, 8): lambda data: (np.frombuffer(data, np.uint8).astype(np.float32) - _HALF_8) / _HALF_8,
    (_PCM, 16): lambda data: np.frombuffer(data, "<i2").astype(np.float32) / _HALF_16,
    (_PCM, 24): _of_24_bits,
    (_PCM, 32): lambda data: np.frombuffer(data, "<i4").astype(np.float32) / _HALF_32,
    (_FLOAT, 32): lambda data: np.frombuffer(data, "<f4").astype(np.float32),
    (_FLOAT, 64): lambda data: np.frombuffer(data, "<f8").astype(np.float32),
}


def _refused(why: str) -> BadRequest:
    return BadRequest(f"the recording {why}", field="recording")
