"""G.711: 16-bit linear PCM to and from μ-law (PCMU) and A-law (PCMA), 8 kHz, one byte a sample.

Refuses to know about frames, sockets or sample rates other than the wire's.
"""

from __future__ import annotations

import audioop
from enum import Enum

RATE_HZ = 8_000
FRAME_MS = 20
FRAME_BYTES = RATE_HZ * FRAME_MS // 1000
BYTES_PER_MS = RATE_HZ // 1000


class Codec(Enum):
    """A telephone leg's codec, by the name Telnyx gives it in `media_format.encoding`."""

    PCMU = "PCMU"
    PCMA = "PCMA"

    def encode(self, pcm16: bytes) -> bytes:
        """Little-endian int16 samples → one G.711 byte each (ITU-T G.711)."""
        return audioop.lin2ulaw(pcm16, 2) if self is Codec.PCMU else audioop.lin2alaw(pcm16, 2)

    def decode(self, g711: bytes) -> bytes:
        """G.711 bytes → little-endian int16 samples."""
        return audioop.ulaw2lin(g711, 2) if self is Codec.PCMU else audioop.alaw2lin(g711, 2)

    @property
    def silence(self) -> bytes:
        """The byte of a zero sample."""
        return b"\xff" if self is Codec.PCMU else b"\xd5"
