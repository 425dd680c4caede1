from __future__ import annotations

import io
import wave

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from runpod_server import audio


@given(st.lists(st.integers(0, 9000), max_size=8), st.integers(480, 24_000))
def test_chunks_joined_are_the_pieces_joined(piece_samples: list[int], chunk_samples: int) -> None:
    total = sum(piece_samples)
    sound = np.arange(total, dtype="<i2").tobytes()
    chunker, frames, at = audio.Chunker(chunk_samples), [], 0
    for samples in piece_samples:
        frames += chunker.push(sound[2 * at : 2 * (at + samples)])
        at += samples
    frames += chunker.flush()
    assert b"".join(frames) == sound
    assert all(frames)
    first = min(1920, chunk_samples)
    expected = [first] + [chunk_samples] * len(frames)
    assert [len(frame) // 2 for frame in frames[:-1]] == expected[: max(0, len(frames) - 1)]
    assert not frames or len(frames[-1]) // 2 <= expected[len(frames) - 1]


def test_the_first_frame_does_not_wait_for_a_chunk() -> None:
    chunker = audio.Chunker(4800)
    assert chunker.push(bytes(1919 * 2)) == []
    assert [len(frame) for frame in chunker.push(bytes(2))] == [1920 * 2]


def test_a_wav_is_a_wav() -> None:
    pcm16 = np.arange(-500, 500, dtype="<i2").tobytes()
    with wave.open(io.BytesIO(audio.wav(pcm16))) as read:
        assert (read.getframerate(), read.getnchannels(), read.getsampwidth()) == (24_000, 1, 2)
        assert read.readframes(2000) == pcm16


def test_a_streamed_wav_is_read_to_its_end() -> None:
    pcm16 = np.arange(-500, 500, dtype="<i2").tobytes()
    samples, rate_hz = soundfile.read(io.BytesIO(audio.wav_header() + pcm16), dtype="int16")
    assert rate_hz == 24_000
    assert samples.astype("<i2").tobytes() == pcm16


@given(st.lists(st.integers(-32768, 32767), max_size=50))
def test_float32_keeps_every_sample(values: list[int]) -> None:
    pcm16 = np.asarray(values, "<i2").tobytes()
    back = np.frombuffer(audio.float32_from_pcm16(pcm16), "<f4") * 32768
    assert back.tolist() == values


def test_floats_are_clipped_and_rounded() -> None:
    pcm16 = audio.pcm16_from_float(np.asarray([0.0, 1.0, -1.0, 2.0, -2.0, 0.5], np.float32))
    assert np.frombuffer(pcm16, "<i2").tolist() == [0, 32767, -32767, 32767, -32767, 16384]


@pytest.mark.parametrize("samples, ms", [(0, 0), (24, 1), (1920, 80), (1931, 80), (1932, 80), (1933, 81)])
def test_ms_of(samples: int, ms: int) -> None:
    assert audio.ms_of(samples) == ms
