from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import soundfile

from runpod_server.encodings import StreamEncoder, compressor
from runpod_server.errors import BadRequest
from runpod_server.rates import SAMPLE_RATES_HZ
from tests.runpod_server.decoding import decoded, main_hz

SECONDS = 2
TONE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(24_000 * SECONDS) / 24_000) * 32767).astype("<i2")


FORMS = ["aac", "flac", "mp3", "opus"]


@pytest.mark.parametrize("form", FORMS)
def test_streamed_bytes_are_a_playable_file(form: str) -> None:
    encoder = compressor(form)
    ready = [encoder.push(TONE[at : at + 4800].tobytes()) for at in range(0, len(TONE), 4800)]
    encoded = b"".join(ready) + encoder.finish()
    samples, rate_hz = decoded(encoded, form)
    assert abs(len(samples) / rate_hz - SECONDS) < 0.15
    middle = samples[rate_hz // 2 : rate_hz // 2 + rate_hz]
    assert abs(np.argmax(np.abs(np.fft.rfft(middle))) - 440) <= 1
    assert form == "flac" or sum(map(len, ready)) > len(encoded) / 4, "nothing came before the end"


def test_flac_keeps_every_sample() -> None:
    encoder = StreamEncoder("flac")
    encoded = encoder.push(TONE.tobytes()) + encoder.finish()
    with soundfile.SoundFile(io.BytesIO(encoded)) as read:
        assert np.array_equal(read.read(len(TONE), dtype="int16"), TONE)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rate_hz", SAMPLE_RATES_HZ)
def test_every_form_has_every_rate_or_says_which(form: str, rate_hz: int) -> None:
    if form == "opus" and rate_hz in (22_050, 44_100):
        with pytest.raises(
            BadRequest, match=f"opus has no sample_rate of {rate_hz}: ask for 8000, "
        ) as refused:
            compressor(form, rate_hz)
        assert refused.value.field == "sample_rate"
        return
    encoder = compressor(form, rate_hz)
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz) * 32767).astype("<i2").tobytes()
    samples, read_hz = decoded(encoder.push(tone) + encoder.finish(), form)
    assert read_hz == rate_hz
    assert len(samples) / rate_hz == pytest.approx(1, abs=0.35)  # at 8 kHz a frame of AAC has 128 ms
    assert main_hz(samples[rate_hz // 4 : rate_hz * 3 // 4], rate_hz) == pytest.approx(440, abs=1)


def test_aac_is_frames_of_adts_each_whole_when_it_leaves() -> None:
    encoder = compressor("aac")
    ready = [encoder.push(TONE[at : at + 1920].tobytes()) for at in range(0, len(TONE), 1920)]
    for piece in [*ready, encoder.finish()]:
        while piece:
            assert piece[:2] in (b"\xff\xf1", b"\xff\xf9")
            frame_bytes = (piece[3] & 3) << 11 | piece[4] << 3 | piece[5] >> 5
            assert len(piece) >= frame_bytes
            piece = piece[frame_bytes:]


def test_aac_keeps_up_with_the_sound_but_for_two_of_its_frames() -> None:
    """That is 85 ms, of which its decoder has one to itself."""
    encoder = compressor("aac")
    encoded = b""
    for pushed in range(1920, len(TONE), 1920):
        encoded += encoder.push(TONE[pushed - 1920 : pushed].tobytes())
        samples, _ = decoded(encoded, "aac")
        of_silence = 128 + 1024
        assert len(samples) - of_silence > pushed - 2 * 1024 - of_silence
        if pushed > 3840:
            assert np.abs(samples[of_silence:]).max() > 0.25


def test_without_pyav_aac_is_refused_and_the_extra_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(BadRequest, match="PyAV is missing; ask for mp3.* install its extra `aac`") as refused:
        compressor("aac")
    assert refused.value.field == "response_format"


@pytest.mark.parametrize("form", ["aac", "mp3", "opus"])
def test_the_sound_leaves_while_it_comes(form: str) -> None:
    encoder = compressor(form)
    frame_samples = 1920
    sizes = [
        len(encoder.push(TONE[at : at + frame_samples].tobytes()))
        for at in range(0, frame_samples * 12, frame_samples)
    ]
    # The first bytes are the headers; sound follows with the next frame, the encoder's own look-ahead behind.
    assert all(size > 0 for size in sizes), sizes
