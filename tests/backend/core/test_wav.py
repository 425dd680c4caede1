"""WAV in pieces: every kind of sample, any cuts, and what is no WAV."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.wav import WavError, WavReader


def wav(
    samples: bytes,
    *,
    kind: int = 1,
    bits: int = 16,
    channels: int = 1,
    rate_hz: int = 24_000,
    size: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    frame = channels * bits // 8
    fmt = struct.pack("<HHIIHH", kind, channels, rate_hz, rate_hz * frame, frame, bits)
    length = len(samples) if size is None else size
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(fmt)) + fmt + before
    return b"RIFF\xff\xff\xff\xff" + body + b"data" + struct.pack("<I", length) + samples + after


def read(data: bytes, *, cut: int = 10_000) -> tuple[bytes, int | None]:
    reader = WavReader()
    pcm16 = b"".join(reader.push(data[at : at + cut]) for at in range(0, len(data), cut))
    reader.finish()
    return pcm16, reader.rate_hz


PCM = np.arange(-500, 500, dtype="<i2")


@given(cut=st.integers(1, 300))
def test_the_cuts_do_not_matter(cut: int) -> None:
    note = b"LIST" + struct.pack("<I", 5) + b"hello\0"
    assert read(wav(PCM.tobytes(), before=note, after=note), cut=cut) == (PCM.tobytes(), 24_000)


@pytest.mark.parametrize("size", [0, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_a_stream_that_does_not_know_its_length(size: int) -> None:
    assert read(wav(PCM.tobytes(), size=size))[0] == PCM.tobytes()


@pytest.mark.parametrize(
    ("kind", "bits", "samples"),
    [
        (1, 8, np.array([128, 192, 0], np.uint8)),
        (1, 32, np.array([0, 2**30, -(2**31)], "<i4")),
        (3, 32, np.array([0, 0.5, -1], "<f4")),
        (3, 64, np.array([0, 0.5, -1], "<f8")),
    ],
)
def test_every_kind_of_sample(kind: int, bits: int, samples: np.ndarray) -> None:
    pcm16, rate_hz = read(wav(samples.tobytes(), kind=kind, bits=bits, rate_hz=8_000), cut=3)
    assert np.frombuffer(pcm16, "<i2").tolist() == [0, 16_384, -32_768]
    assert rate_hz == 8_000


def test_three_bytes_a_sample() -> None:
    samples = b"".join(value.to_bytes(3, "little", signed=True) for value in (0, 2**22, -(2**23)))
    assert np.frombuffer(read(wav(samples, bits=24))[0], "<i2").tolist() == [0, 16_384, -32_768]


def test_two_channels_become_one() -> None:
    both = np.array([[100, 300], [-100, -300]], "<i2")
    assert np.frombuffer(read(wav(both.tobytes(), channels=2), cut=3)[0], "<i2").tolist() == [200, -200]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"<html>", "RIFF"),
        (b"RIFF\0\0\0\0AVI ", "WAVE"),
        (wav(PCM.tobytes())[:30], "header"),
        (wav(PCM.tobytes())[:-2], "before its header says"),
        (wav(PCM.tobytes()[:-1], size=0), "middle of a sample"),
        (wav(PCM.tobytes(), kind=85), "not known"),
        (wav(PCM.tobytes(), channels=6), "6 channels"),
        (wav(PCM.tobytes(), rate_hz=1), "1 Hz"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "before their format"),
        (b"RIFF\0\0\0\0WAVELIST\xff\xff\xff\x7f", "too long"),
    ],
)
def test_what_is_no_wav_says_why(data: bytes, why: str) -> None:
    with pytest.raises(WavError, match=why):
        read(data)
