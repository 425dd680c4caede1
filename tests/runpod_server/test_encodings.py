from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from runpod_server.encodings import StreamEncoder

SECONDS = 2
TONE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(24_000 * SECONDS) / 24_000) * 32767).astype("<i2")


@pytest.mark.parametrize("form", ["flac", "mp3", "opus"])
def test_streamed_bytes_are_a_playable_file(form: str) -> None:
    encoder = StreamEncoder(form)
    ready = [encoder.push(TONE[at : at + 4800].tobytes()) for at in range(0, len(TONE), 4800)]
    encoded = b"".join(ready) + encoder.finish()
    samples, rate_hz = soundfile.read(io.BytesIO(encoded), dtype="float32")
    assert abs(len(samples) / rate_hz - SECONDS) < 0.15
    middle = samples[rate_hz // 2 : rate_hz // 2 + rate_hz]
    assert abs(np.argmax(np.abs(np.fft.rfft(middle))) - 440) <= 1
    assert form == "flac" or sum(map(len, ready)) > len(encoded) / 4, "nothing came before the end"


def test_flac_keeps_every_sample() -> None:
    encoder = StreamEncoder("flac")
    encoded = encoder.push(TONE.tobytes()) + encoder.finish()
    with soundfile.SoundFile(io.BytesIO(encoded)) as read:
        assert np.array_equal(read.read(len(TONE), dtype="int16"), TONE)


@pytest.mark.parametrize("form", ["mp3", "opus"])
def test_the_sound_leaves_while_it_comes(form: str) -> None:
    encoder = StreamEncoder(form)
    frame_samples = 1920
    sizes = [
        len(encoder.push(TONE[at : at + frame_samples].tobytes()))
        for at in range(0, frame_samples * 12, frame_samples)
    ]
    # The first bytes are the headers; sound follows with the next frame, the encoder's own look-ahead behind.
    assert all(size > 0 for size in sizes), sizes
