"""WAV as it comes, in pieces of any size → mono int16. Knows no sockets and no files."""

from __future__ import annotations

import struct

import numpy as np

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_MAX_HEADER_BYTES = 1 << 16
_UNKNOWN_SIZE = 0x7FFF_0000  # streams that cannot know their length say 0, 0x7FFFFFFF or 0xFFFFFFFF
_RATES_HZ = range(4_000, 192_001)


class WavError(ValueError):
    """What came is no WAV that can be played; the message says why."""


class WavReader:
    """One WAV stream. `push` what comes, then `finish`; `rate_hz` is known with the first samples."""

    def __init__(self) -> None:
        self.rate_hz: int | None = None
        self._held = bytearray()
        self._format, self._bits, self._channels = 0, 0, 0
        self._left: int | None = None  # bytes of samples still to come; None: not told

    def push(self, data: bytes) -> bytes:
        """The samples that are whole now, little-endian int16, channels mixed to one. Raises WavError."""
        self._held += data
        if self.rate_hz is None and not self._read_header():
            return b""
        frame = self._channels * self._bits // 8
        usable = len(self._held) if self._left is None else min(len(self._held), self._left)
        usable -= usable % frame
        samples = bytes(self._held[:usable])
        del self._held[:usable]
        if self._left is not None:
            self._left -= usable
            if self._left < frame:
                self._held.clear()  # what follows the samples is not for the ear
                self._left = 0
        return self._mono16(samples)

    def finish(self) -> None:
        """Nothing more comes. Raises WavError when the header or a sample was cut off, or samples miss."""
        if self.rate_hz is None:
            raise WavError("it ends within its header" if self._held else "it is empty")
        if self._left:
            raise WavError(f"it ends {self._left} bytes before its header says")
        if self._held:
            raise WavError("it ends in the middle of a sample")

    def _read_header(self) -> bool:
        held = self._held
        if len(held) < 12:
            if not b"RIFF".startswith(bytes(held[:4])):
                raise WavError("it does not begin with RIFF")
            return False
        if held[:4] != b"RIFF" or held[8:12] != b"WAVE":
            raise WavError("it does not begin with RIFF … WAVE")
        at, known = 12, False
        while len(held) >= at + 8:
            name, size = bytes(held[at : at + 4]), int.from_bytes(held[at + 4 : at + 8], "little")
            if name == b"data":
                if not known:
                    raise WavError("it has samples before their format")
                self._left = None if size == 0 or size >= _UNKNOWN_SIZE else size
                del held[: at + 8]
                return True
            if size > _MAX_HEADER_BYTES:
                raise WavError("its header is far too long")
            if len(held) < at + 8 + size:
                break
            if name == b"fmt ":
                self._read_format(bytes(held[at + 8 : at + 8 + size]))
                known = True
            at += 8 + size + size % 2
        if at > _MAX_HEADER_BYTES:
            raise WavError("its header is far too long")
        self.rate_hz = None  # not before the samples
        return False

    def _read_format(self, fmt: bytes) -> None:
        if len(fmt) < 16:
            raise WavError("its format is cut short")
        kind, channels, rate_hz, _, _, bits = struct.unpack("<HHIIHH", fmt[:16])
        if kind == _EXTENSIBLE and len(fmt) >= 26:
            kind = int.from_bytes(fmt[24:26], "little")
        supported = (kind == _PCM and bits in (8, 16, 24, 32)) or (kind == _FLOAT and bits in (32, 64))
        if not supported:
            raise WavError(f"its samples (format {kind}, {bits} bits) are of a kind not known here")
        if channels not in (1, 2) or rate_hz not in _RATES_HZ:
            raise WavError(f"{channels} channels at {rate_hz} Hz cannot be played")
        self._format, self._bits, self._channels, self.rate_hz = kind, bits, channels, rate_hz

    def _mono16(self, samples: bytes) -> bytes:
        if self._format == _PCM and self._bits == 16 and self._channels == 1:
            return samples
        values = self._floats(samples)
        if self._channels == 2:
            values = values.reshape(-1, 2).mean(axis=1)
        pcm16: bytes = np.clip(np.rint(values * 32768.0), -32768, 32767).astype("<i2").tobytes()
        return pcm16

    def _floats(self, samples: bytes) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """In [-1, 1)."""
        if self._format == _FLOAT:
            return np.nan_to_num(np.frombuffer(samples, f"<f{self._bits // 8}").astype(np.float64))
        if self._bits == 8:
            return (np.frombuffer(samples, np.uint8).astype(np.float64) - 128) / 128
        if self._bits == 24:
            octets = np.frombuffer(samples, np.uint8).reshape(-1, 3)
            padded = np.zeros((len(octets), 4), np.uint8)
            padded[:, 1:] = octets
            return padded.reshape(-1).view("<i4").astype(np.float64) / 2**31
        return np.frombuffer(samples, f"<i{self._bits // 8}").astype(np.float64) / 2.0 ** (self._bits - 1)
