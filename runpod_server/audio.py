"""PCM and WAV in the server's own format: 24 kHz, mono, int16 little-endian. No files, no sockets."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 24_000
SAMPLE_BYTES = 2
FRAME_SAMPLES = 1920  # one frame of the Mimi codec, 80 ms: the least a CSM engine can emit
_SAMPLES_PER_MS = SAMPLE_RATE_HZ // 1000
_UNKNOWN_SIZE = 0xFFFFFFFF


def pcm16_from_float(samples: NDArray[np.float32]) -> bytes:
    """Samples in [-1, 1] (clipped beyond) → int16 little-endian."""
    pcm16: bytes = np.rint(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()
    return pcm16


def float_from_pcm16(pcm16: bytes) -> NDArray[np.float32]:
    """int16 little-endian → samples in [-1, 1], as `pcm16_from_float` takes them."""
    return np.frombuffer(pcm16, "<i2").astype(np.float32) / np.float32(32767.0)


def float32_from_pcm16(pcm16: bytes) -> bytes:
    """int16 little-endian → float32 little-endian in [-1, 1)."""
    return (np.frombuffer(pcm16, "<i2") / np.float32(32768.0)).astype("<f4").tobytes()


def samples_in(pcm16: bytes) -> int:
    """How many samples these bytes hold."""
    return len(pcm16) // SAMPLE_BYTES


def ms_of(samples: int) -> int:
    """Duration of that many samples, rounded to whole milliseconds."""
    return round(samples / _SAMPLES_PER_MS)


def samples_of(ms: int) -> int:
    """Samples in that many milliseconds."""
    return ms * _SAMPLES_PER_MS


def wav_header(data_bytes: int | None = None, *, rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """The 44 bytes before the samples of a WAV file; None: length unknown yet, as for a stream."""
    data_size = _UNKNOWN_SIZE if data_bytes is None else data_bytes
    riff_size = _UNKNOWN_SIZE if data_bytes is None else data_bytes + 36
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", riff_size, b"WAVE", b"fmt ", 16, 1, 1,
        rate_hz, rate_hz * SAMPLE_BYTES, SAMPLE_BYTES, 8 * SAMPLE_BYTES,
        b"data", data_size,
    )  # fmt: skip


def wav(pcm16: bytes) -> bytes:
    """A whole WAV file."""
    return wav_header(len(pcm16)) + pcm16


class Chunker:
    """Cuts PCM of any piece sizes into frames: the first when one model frame exists, then `chunk_samples`.

    The last frame is as long as it is; nothing is ever padded. Frames joined equal the pieces joined.
    """

    def __init__(self, chunk_samples: int) -> None:
        self._rest_bytes = chunk_samples * SAMPLE_BYTES
        self._want_bytes = min(FRAME_SAMPLES, chunk_samples) * SAMPLE_BYTES
        self._held = bytearray()

    def push(self, pcm16: bytes) -> list[bytes]:
        """Frames complete with this piece."""
        self._held += pcm16
        frames, start = [], 0
        while len(self._held) - start >= self._want_bytes:
            frames.append(bytes(self._held[start : start + self._want_bytes]))
            start += self._want_bytes
            self._want_bytes = self._rest_bytes
        del self._held[:start]
        return frames

    def flush(self) -> list[bytes]:
        """The last, shorter frame, if any sound is left."""
        tail = bytes(self._held)
        self._held.clear()
        return [tail] if tail else []
