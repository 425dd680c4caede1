"""Speech from any usual WAV: checked, mono, 24 kHz: a voice's recording, or a turn of a call. No files."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from runpod_server.audio import SAMPLE_BYTES, SAMPLE_RATE_HZ, wav
from runpod_server.errors import BadRequest

Samples = NDArray[np.float32]

MIN_S, MAX_S = 3.0, 30.0
MIN_TURN_S, MAX_TURN_S = 0.2, 30.0
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


class _UnfitError(Exception):
    """What is wrong with it, to follow "the recording"."""


def read_recording(wav_bytes: bytes) -> Samples:
    """The samples of a WAV (PCM of 8 to 32 bits or float, any rate, channels averaged), -1 … 1 at 24 kHz.

    Raises BadRequest for what is no such WAV, is silent, or is shorter than 3 s or longer than 30 s.
    """
    try:
        return _mono_24k(wav_bytes, MIN_S, MAX_S)
    except _UnfitError as why:
        raise BadRequest(f"the recording {why}", field="recording") from None


def read_turn(audio: bytes) -> Samples:
    """What somebody said in a call: such a WAV, or bare int16 little-endian samples, mono at 24 kHz.

    Raises BadRequest for what is neither, is silent, or is shorter than 0.2 s or longer than 30 s.
    """
    is_wav = audio[:4] == b"RIFF"
    try:
        if not is_wav and len(audio) % SAMPLE_BYTES:
            raise _UnfitError("is neither a WAV file nor whole samples of 16 bits")
        return _mono_24k(audio if is_wav else wav(audio), MIN_TURN_S, MAX_TURN_S)
    except _UnfitError as why:
        raise BadRequest(f"the sound that was heard {why}", field="heard.audio") from None


def _mono_24k(wav_bytes: bytes, shortest_s: float, longest_s: float) -> Samples:
    """Raises _UnfitError."""
    form, data = _chunks(wav_bytes)
    _check(form)
    channels = _samples(form, data).reshape(-1, form.channels)
    seconds = channels.shape[0] / form.rate_hz
    if not shortest_s <= seconds <= longest_s:
        raise _UnfitError(f"is {seconds:.2f} s long: send {shortest_s:g} to {longest_s:g} s of clear speech")
    mono: Samples = channels.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise _UnfitError("holds samples that are no numbers: export it again as 16-bit PCM")
    if np.abs(mono).max() < _SILENT_PEAK:
        raise _UnfitError("is silent: record speech, at a level that can be heard")
    if form.rate_hz == SAMPLE_RATE_HZ:
        return mono
    resampled: Samples = soxr.resample(mono, form.rate_hz, SAMPLE_RATE_HZ)
    return resampled


def _chunks(wav_bytes: bytes) -> tuple[_Format, bytes]:
    """The format and the samples of a RIFF file. A data chunk may claim more than there is."""
    if wav_bytes[:4] != b"RIFF" or wav_bytes[8:12] != b"WAVE":
        raise _UnfitError("is not a WAV file: export it as WAV, 16-bit PCM")
    form: _Format | None = None
    at = 12
    while at + 8 <= len(wav_bytes):
        name, size = struct.unpack_from("<4sI", wav_bytes, at)
        body = wav_bytes[at + 8 : at + 8 + size]
        if name == b"fmt " and len(body) >= 16:
            tag, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", body)
            if tag == _EXTENSIBLE and len(body) >= 26:
                (tag,) = struct.unpack_from("<H", body, 24)  # the sub-format begins with the plain tag
            form = _Format(tag, channels, rate_hz, bits)
        if name == b"data" and form is not None:
            return form, body
        at += 8 + size + size % 2
    raise _UnfitError("is a WAV file without sound in it: export it again as WAV, 16-bit PCM")


def _check(form: _Format) -> None:
    if (form.tag, form.bits) not in _DECODERS:
        kind = {_PCM: "PCM", _FLOAT: "float"}.get(form.tag, f"compressed (format {form.tag})")
        raise _UnfitError(f"is a WAV of {form.bits}-bit {kind} samples: export it as WAV, 16-bit PCM")
    if not form.channels:
        raise _UnfitError("is a WAV file that says it has no channels: export it again")
    if not _MIN_RATE_HZ <= form.rate_hz <= _MAX_RATE_HZ:
        raise _UnfitError(
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
