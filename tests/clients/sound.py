"""What a client wrote to disk, as sound: its form, its length, its words."""

from __future__ import annotations

import io
import json
from base64 import b64decode
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from backend.stt.local import LocalTranscriber

_PCM_HZ = 24_000
_EAR_HZ = 8_000
_CONTAINERS = {"mp3": "MP3", "opus": "OGG", "flac": "FLAC", "wav": "WAV"}


def from_events(data: bytes) -> tuple[bytes, dict[str, int]]:
    """The sound and the usage in a body of server-sent events."""
    lines = [line for line in data.split(b"\n") if line.startswith(b"data: ")]
    events = [json.loads(line.removeprefix(b"data: ")) for line in lines]
    *deltas, done = events
    assert done["type"] == "speech.audio.done", done
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    return b"".join(b64decode(event["audio"]) for event in deltas), done["usage"]


def samples(data: bytes, form: str) -> tuple[NDArray[np.float32], int]:
    """Mono samples of sound that must be in this form, and their rate."""
    if form == "pcm":  # has no header by which to know it: its length and its words have to do
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768, _PCM_HZ
    if form == "aac":
        return _samples_of_aac(data)
    with soundfile.SoundFile(io.BytesIO(_with_lengths(data) if form == "wav" else data)) as file:
        assert (file.format, file.channels) == (_CONTAINERS[form], 1)
        return file.read(dtype="float32"), file.samplerate


def _samples_of_aac(data: bytes) -> tuple[NDArray[np.float32], int]:
    assert data[:2] in (b"\xff\xf1", b"\xff\xf9"), "no frame of ADTS"
    with av.open(io.BytesIO(data), format="aac") as container:
        stream = container.streams.audio[0]
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(stream)]), stream.rate


def _with_lengths(wav: bytes) -> bytes:
    """A streamed WAV says "until the end" for its lengths; libsndfile wants them."""
    body = wav.index(b"data") + 8
    whole, sound = ((len(wav) - start).to_bytes(4, "little") for start in (8, body))
    return wav[:4] + whole + wav[8 : body - 4] + sound + wav[body:]


def duration_s(data: bytes) -> float:
    """Of PCM."""
    return len(data) / 2 / _PCM_HZ


async def words(ears: LocalTranscriber, data: bytes, form: str) -> str:
    """What is said in it, by ear."""
    read, rate_hz = samples(data, form)
    at_ear = soxr.resample(read, rate_hz, _EAR_HZ)
    return await ears.transcribe((np.clip(at_ear, -1, 1) * 32767).astype("<i2").tobytes())


def of(answer: dict[str, str]) -> bytes:
    """The bytes of an answer that must be sound."""
    assert "sound" in answer, answer
    return Path(answer["sound"]).read_bytes()
