from __future__ import annotations

import io
import struct
import wave
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_server.errors import BadRequest
from runpod_server.voices.recording import read_recording


def tone(seconds: float, rate_hz: int) -> Any:
    return 0.5 * np.sin(2 * np.pi * 220 * np.arange(round(seconds * rate_hz)) / rate_hz)


def riff(data: bytes, *, tag: int, channels: int, rate_hz: int, bits: int, before: bytes = b"") -> bytes:
    block = channels * bits // 8
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, channels, rate_hz, rate_hz * block, block, bits)
    body = fmt + before + struct.pack("<4sI", b"data", len(data)) + data
    return struct.pack("<4sI4s", b"RIFF", 4 + len(body), b"WAVE") + body


def encoded(samples: Any, tag: int, bits: int) -> bytes:
    if tag == 3:
        return samples.astype(f"<f{bits // 8}").tobytes()
    if bits == 8:
        return (samples * 127 + 128).astype(np.uint8).tobytes()
    if bits == 24:
        return b"".join(struct.pack("<i", int(each * 2**23))[:3] for each in samples)
    return (samples * (2 ** (bits - 1) - 1)).astype(f"<i{bits // 8}").tobytes()


@pytest.mark.parametrize("tag, bits", [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)])
@pytest.mark.parametrize("rate_hz", [8000, 24_000])
def test_every_usual_wav_becomes_24_khz_mono(tag: int, bits: int, rate_hz: int) -> None:
    stereo = np.repeat(tone(3.2, rate_hz), 2)
    wav = riff(encoded(stereo, tag, bits), tag=tag, channels=2, rate_hz=rate_hz, bits=bits)
    samples = read_recording(wav)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(3.2 * 24_000, abs=2)
    middle = slice(24_000, 48_000)
    assert samples[middle] == pytest.approx(tone(3.2, 24_000)[middle], abs=0.02)


def test_what_the_standard_library_writes() -> None:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(encoded(tone(4, 24_000), 1, 16))
    assert len(read_recording(out.getvalue())) == 96_000


def test_chunks_it_does_not_know_and_a_wrong_length_are_survived() -> None:
    data = encoded(tone(3, 24_000), 1, 16)
    odd = struct.pack("<4sI", b"LIST", 5) + b"x" * 6  # an odd size is padded
    wav = bytearray(riff(data, tag=1, channels=1, rate_hz=24_000, bits=16, before=odd))
    at = wav.index(b"data") + 4
    wav[at : at + 4] = b"\xff" * 4  # as written by whoever streams
    assert len(read_recording(bytes(wav))) == 72_000


@pytest.mark.parametrize(
    "wav, says",
    [
        (b"ID3\x04 an MP3", "not a WAV file"),
        (b"RIFF\0\0\0\0WAVE", "without sound"),
        (riff(b"\0" * 96_000, tag=7, channels=1, rate_hz=8000, bits=8), "compressed"),
        (riff(encoded(tone(2.9, 24_000), 1, 16), tag=1, channels=1, rate_hz=24_000, bits=16), "2.90 s long"),
        (riff(encoded(tone(30.5, 8000), 1, 16), tag=1, channels=1, rate_hz=8000, bits=16), "30.50 s long"),
        (riff(b"\0" * 192_000, tag=1, channels=1, rate_hz=24_000, bits=16), "silent"),
        (riff(b"\xff" * 480_000, tag=3, channels=1, rate_hz=24_000, bits=32), "no numbers"),
        (riff(b"\0" * 4000, tag=1, channels=1, rate_hz=100, bits=16), "100 samples a second"),
        (riff(b"\0" * 4000, tag=1, channels=0, rate_hz=24_000, bits=16), "no channels"),
    ],
)
def test_what_is_no_voice_is_refused_in_a_sentence(wav: bytes, says: str) -> None:
    with pytest.raises(BadRequest, match=says) as refused:
        read_recording(wav)
    assert refused.value.field == "recording"


WAV = riff(encoded(tone(3, 8000), 1, 16), tag=1, channels=1, rate_hz=8000, bits=16)


@given(st.integers(0, 60), st.binary(min_size=1, max_size=8), st.integers(0, 100))
def test_damage_is_refused_or_survived_but_never_raises_anything_else(
    at: int, noise: bytes, cut: int
) -> None:
    damaged = bytearray(WAV)
    damaged[at : at + len(noise)] = noise
    try:
        read_recording(bytes(damaged[: len(damaged) - cut]))
    except BadRequest:
        return
