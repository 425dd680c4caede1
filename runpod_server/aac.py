"""AAC in ADTS frames through PyAV, each sent as it is made. Blocking, as `encodings`."""

from __future__ import annotations

import io

import numpy as np

from runpod_server.errors import BadRequest

_MOST_BITS_PER_S = 64_000
_MOST_BITS_PER_SAMPLE = 3  # more is wasted on low rates
# The encoder wants 2048 samples before its first frame leaves, and an engine's first frame has 1920: with so
# much silence (5 ms) before them, the first byte leaves with the first sound.
_AHEAD_SAMPLES = 128


class AacEncoder:
    """`push` PCM, send what it returns; `finish` once. Raises BadRequest where PyAV is not installed."""

    def __init__(self, rate_hz: int) -> None:
        try:
            import av
        except ImportError as error:
            raise BadRequest(
                "this server cannot make aac: PyAV is missing; ask for mp3, opus, flac, wav or pcm, "
                "or have whoever runs the server install its extra `aac`",
                field="response_format",
            ) from error
        self._av, self._rate_hz = av, rate_hz
        self._sink = _Sink()
        # Each packet goes into the sink at once; by default 32 KiB are gathered first.
        self._container = av.open(self._sink, "w", format="adts", options={"flush_packets": "1"})
        self._stream = self._container.add_stream("aac", rate=rate_hz, layout="mono")
        self._stream.bit_rate = min(_MOST_BITS_PER_S, _MOST_BITS_PER_SAMPLE * rate_hz)
        self._encode(np.zeros(_AHEAD_SAMPLES, "<i2").tobytes())

    def push(self, pcm16: bytes) -> bytes:
        """Encode int16 samples; returns the frames that are ready, possibly none."""
        if pcm16:
            self._encode(pcm16)
        return self._sink.take()

    def finish(self) -> bytes:
        """The last frames."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._sink.take()

    def _encode(self, pcm16: bytes) -> None:
        samples = np.frombuffer(pcm16, "<i2").reshape(1, -1)
        frame = self._av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = self._rate_hz
        self._container.mux(self._stream.encode(frame))


class _Sink(io.RawIOBase):
    """A file that forgets what was taken."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = bytearray()

    def take(self) -> bytes:
        """Everything written since the last call."""
        ready = bytes(self._kept)
        self._kept.clear()
        return ready

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._kept += data
        return len(data)
