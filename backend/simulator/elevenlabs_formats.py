"""The stand-in's output formats: μ-law, A-law, PCM and MP3 of 24 kHz speech. Blocking; knows no sockets."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from backend.core.g711 import Codec
from backend.simulator.elevenlabs_voice import RATE_HZ

_PCM_RATES_HZ = (8_000, 16_000, 22_050, 24_000, 44_100, 48_000)
_MP3 = ("22050_32", "24000_48", "44100_32", "44100_64", "44100_96", "44100_128", "44100_192")
FORMATS = (
    "ulaw_8000",
    "alaw_8000",
    *(f"pcm_{rate_hz}" for rate_hz in _PCM_RATES_HZ),
    *(f"mp3_{rate_hz_and_kbit}" for rate_hz_and_kbit in _MP3),
)
_CONTENT_TYPES = {
    "ulaw": "audio/basic",
    "alaw": "audio/x-alaw-basic",
    "pcm": "audio/pcm",
    "mp3": "audio/mpeg",
}
_MPEG1_FROM_HZ = 32_000
_MPEG1_KBIT, _MPEG2_KBIT = (32, 320), (8, 160)  # the least and most of a constant bit rate
# Of a frame of layer III without checksum, by whether it is MPEG-1: ISO/IEC 11172-3 and 13818-3, 2.4.2.3.
_SYNC = {True: b"\xff\xfb", False: b"\xff\xf3"}
_KBIT = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_LEAST_LEVEL = 0.999  # libsndfile refuses 1.0 for MP3


def content_type(output_format: str) -> str:
    """Of one of FORMATS."""
    return _CONTENT_TYPES[output_format.partition("_")[0]]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of encoded sound, from when to when it plays."""

    data: bytes
    from_ms: float
    until_ms: float  # infinite for the last


def pieces(pcm16_24k: bytes, output_format: str, *, each_ms: float) -> Iterator[Piece]:
    """Speech in one of FORMATS, in pieces of about `each_ms`; joined they are one playable file."""
    data = encoded(pcm16_24k, output_format)
    if not data:
        return
    # An MP3 is a little longer than its sound: the times are reckoned by the sound's length.
    bytes_per_ms = len(data) / (len(pcm16_24k) / (2 * RATE_HZ / 1000))
    size = max(2, round(each_ms * bytes_per_ms) // 2 * 2)
    for at in range(0, len(data), size):
        ends = at + size >= len(data)
        until_ms = float("inf") if ends else (at + size) / bytes_per_ms
        yield Piece(data[at : at + size], at / bytes_per_ms, until_ms)


def encoded(pcm16_24k: bytes, output_format: str) -> bytes:
    """24 kHz int16 in one of FORMATS."""
    kind, rate_hz, *kbit = output_format.split("_")
    samples = np.frombuffer(pcm16_24k, "<i2").astype(np.float32) / 32768
    resampled = soxr.resample(samples, RATE_HZ, int(rate_hz))
    pcm16 = np.rint(np.clip(resampled, -1, 1) * 32767).astype("<i2")
    if kind == "mp3":
        return _mp3(pcm16, int(rate_hz), int(kbit[0]))
    if kind == "pcm":
        return bytes(pcm16.tobytes())
    return (Codec.PCMU if kind == "ulaw" else Codec.PCMA).encode(pcm16.tobytes())


def _mp3(pcm16: NDArray[np.int16], rate_hz: int, kbit: int) -> bytes:
    if not len(pcm16):
        return b""
    import soundfile

    least, most = _MPEG1_KBIT if rate_hz >= _MPEG1_FROM_HZ else _MPEG2_KBIT
    sink = io.BytesIO()
    with soundfile.SoundFile(
        sink,
        "w",
        samplerate=rate_hz,
        channels=1,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT",
        compression_level=min(_LEAST_LEVEL, (most - kbit) / (most - least)),
    ) as file:
        file.write(pcm16)
    return _without_length(sink.getvalue(), rate_hz)


def _without_length(mp3: bytes, rate_hz: int) -> bytes:
    """Without the first frame, which tells how long the file is (the "Info" tag of LAME).

    Sentences that a socket speaks one after another are joined by clients: a player that believes the first
    one's length would play that one only.
    """
    if mp3[:2] != _SYNC[rate_hz >= _MPEG1_FROM_HZ] or b"Info" not in mp3[:64]:
        return mp3
    kbit = _KBIT[rate_hz >= _MPEG1_FROM_HZ][mp3[2] >> 4]
    samples = 1152 if rate_hz >= _MPEG1_FROM_HZ else 576
    padding = (mp3[2] >> 1) & 1
    return mp3[samples // 8 * kbit * 1000 // rate_hz + padding :]
