"""A prepared prompt as a file: a WAV of 8 kHz μ-law that any player plays, with what it says and a checksum.

Bytes in, bytes out: knows nothing of folders.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_RATE_HZ = 8_000
_MULAW = 7  # WAVE_FORMAT_MULAW
_FORMAT = struct.pack("<HHIIHHH", _MULAW, 1, _RATE_HZ, _RATE_HZ, 1, 8, 0)
_HEADER = struct.Struct("<4sI")


@dataclass(frozen=True, slots=True)
class Prompt:
    """Sound that was made beforehand: what it says, in which voice, and what made it ("" when unknown)."""

    ulaw: bytes  # 8 kHz
    text: str
    voice: str
    maker: str = ""

    @property
    def duration_ms(self) -> float:
        """How long it plays."""
        return len(self.ulaw) * 1000 / _RATE_HZ


def pack(prompt: Prompt) -> bytes:
    """The file's bytes."""
    info = b"INFO" + b"".join(
        _chunk(name, text.encode() + b"\0")
        for name, text in ((b"ICMT", prompt.text), (b"IART", prompt.voice), (b"ISFT", prompt.maker))
    )
    chunks = (
        _chunk(b"fmt ", _FORMAT),
        _chunk(b"fact", struct.pack("<I", len(prompt.ulaw))),
        _chunk(b"LIST", info),
        _chunk(b"data", prompt.ulaw),
    )
    body = b"WAVE" + b"".join(chunks)
    return _chunk(b"RIFF", body + _chunk(b"sha2", hashlib.sha256(body).digest()))


def unpack(file: bytes) -> Prompt:
    """The prompt in a file that `pack` made. Raises ValueError for any other, and for every damaged one."""
    [(name, riff)] = _chunks(file)
    if name != b"RIFF" or riff[:4] != b"WAVE":
        raise ValueError("not a WAV file")
    parts = dict(_chunks(riff[4:]))
    if parts.get(b"fmt ") != _FORMAT or b"data" not in parts or b"sha2" not in parts:
        raise ValueError("not a prepared prompt")
    if hashlib.sha256(riff[: -len(_chunk(b"sha2", parts[b"sha2"]))]).digest() != parts[b"sha2"]:
        raise ValueError("damaged: its checksum is another")
    info = {name: text.rstrip(b"\0").decode() for name, text in _chunks(parts.get(b"LIST", b"")[4:])}
    return Prompt(parts[b"data"], info.get(b"ICMT", ""), info.get(b"IART", ""), info.get(b"ISFT", ""))


def _chunk(name: bytes, data: bytes) -> bytes:
    return _HEADER.pack(name, len(data)) + data + b"\0" * (len(data) & 1)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        if len(data) - at < _HEADER.size:
            raise ValueError("cut off")
        name, size = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        if size > len(data) - at:
            raise ValueError("cut off")
        yield name, data[at : at + size]
        at += size + (size & 1)
