"""Compressed forms of speech, encoded as it comes: MP3, Ogg Opus and FLAC through libsndfile, AAC by `aac`.

Blocking; callers run it in a thread. Works without libsndfile as long as nobody asks for these forms.
"""

from __future__ import annotations

import io
import logging
from typing import Any, Protocol

import numpy as np

from runpod_server.aac import AacEncoder
from runpod_server.audio import SAMPLE_RATE_HZ
from runpod_server.errors import BadRequest

log = logging.getLogger(__name__)

# Constant bit rate: players reckon the length of a streamed MP3 from it. 80 kbit/s is plain for speech.
_MP3_OPTIONS = {"bitrate_mode": "CONSTANT", "compression_level": 0.5}
# libsndfile gathers 1 s of Opus into a page of Ogg by default, and nothing leaves before: half a frame, then.
_SET_OGG_PAGE_LATENCY_MS = 0x1302  # SFC_SET_OGG_PAGE_LATENCY_MS of sndfile.h
_OGG_PAGE_LATENCY_MS = 40.0
_CONTAINERS = {"flac": ("FLAC", "PCM_16"), "mp3": ("MP3", "MPEG_LAYER_III"), "opus": ("OGG", "OPUS")}
_OPUS_RATES_HZ = (8000, 12_000, 16_000, 24_000, 48_000)


class Compressor(Protocol):
    """`push` PCM, send what it returns; `finish` once. The bytes joined are a playable file."""

    def push(self, pcm16: bytes) -> bytes:
        """Encode int16 samples; returns the bytes that are ready, possibly none."""

    def finish(self) -> bytes:
        """The last bytes."""


def compressor(form: str, rate_hz: int = SAMPLE_RATE_HZ) -> Compressor:
    """For `mp3`, `opus`, `flac` or `aac`. Raises BadRequest when this machine cannot make it."""
    return AacEncoder(rate_hz) if form == "aac" else StreamEncoder(form, rate_hz)


class StreamEncoder:
    """MP3, Opus or FLAC; see Compressor.

    Raises BadRequest when the form has no such rate, or this machine cannot make it.
    """

    def __init__(self, form: str, rate_hz: int = SAMPLE_RATE_HZ) -> None:
        if form == "opus" and rate_hz not in _OPUS_RATES_HZ:
            raise BadRequest(
                f"opus has no sample_rate of {rate_hz}: ask for 8000, 16000, 24000 or 48000, "
                "or for another response_format",
                field="sample_rate",
            )
        container, subtype = _CONTAINERS[form]
        try:
            import soundfile
        except (ImportError, OSError) as error:  # OSError: the package without its C library
            raise BadRequest(
                f"this server cannot make {form}: libsndfile is missing; ask for wav or pcm, "
                "or have whoever runs the server install its extra `local`",
                field="response_format",
            ) from error
        if not soundfile.check_format(container, subtype):
            raise BadRequest(
                f"this server's libsndfile cannot make {form}: ask for wav, pcm or flac",
                field="response_format",
            )
        self._sink = _ForwardSink()
        self._file = soundfile.SoundFile(
            self._sink,
            "w",
            samplerate=rate_hz,
            channels=1,
            format=container,
            subtype=subtype,
            **(_MP3_OPTIONS if form == "mp3" else {}),
        )
        if form == "opus":
            _send_pages_soon(soundfile, self._file)
        # A FLAC without its length in the header is one that many readers refuse: it is sent when complete.
        self._hold = form == "flac"

    def push(self, pcm16: bytes) -> bytes:
        """Encode int16 samples; returns the bytes that are ready, possibly none."""
        self._file.write(np.frombuffer(pcm16, "<i2"))
        return b"" if self._hold else self._sink.take()

    def finish(self) -> bytes:
        """The last bytes."""
        self._file.close()
        return self._sink.take()


def _send_pages_soon(soundfile: Any, file: Any) -> None:
    """Have every frame leave in a page of its own.

    The package has no public way to this command. Where its inner names change, Opus still works, 1 s later.
    """
    try:
        latency = soundfile._ffi.new("double*", _OGG_PAGE_LATENCY_MS)
        size = soundfile._ffi.sizeof("double")
        soundfile._snd.sf_command(file._file, _SET_OGG_PAGE_LATENCY_MS, latency, size)
    except (AttributeError, TypeError):
        log.warning("this version of soundfile cannot send Opus at once: its sound leaves a second late")


class _ForwardSink(io.RawIOBase):
    """A file that forgets what was taken.

    The encoders go back at the end to fill in lengths in their headers; where those bytes were sent already
    the change is dropped, and players take the length from the stream.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept = bytearray()
        self._taken = 0  # position of the first kept byte
        self._at = 0

    def take(self) -> bytes:
        """Everything written since the last call."""
        ready = bytes(self._kept)
        self._taken += len(ready)
        self._kept.clear()
        return ready

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        piece = bytes(data)
        start = self._at - self._taken
        self._at += len(piece)
        if start >= 0:
            self._kept[start : start + len(piece)] = piece
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._taken + len(self._kept)}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at
