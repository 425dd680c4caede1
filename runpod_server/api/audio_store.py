"""Finished WAVs kept for `format: url`: in memory, bounded in time and bytes. Pure: time is passed in."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Kept:
    wav: bytes
    until_s: float


class AudioStore:
    """Ids to WAVs. When the space is full the oldest go first; one larger than all of it is kept alone."""

    def __init__(self, *, keep_s: float = 600.0, max_bytes: int = 64 * 1024 * 1024) -> None:
        self.keep_s = keep_s
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def put(self, audio_id: str, wav: bytes, now_s: float) -> None:
        """Keep a WAV for `keep_s` seconds at most."""
        self._drop_expired(now_s)
        self._kept[audio_id] = _Kept(wav, now_s + self.keep_s)
        self._bytes += len(wav)
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            self._drop_oldest()

    def get(self, audio_id: str, now_s: float) -> bytes | None:
        """The WAV, or None when it is unknown or no longer kept."""
        self._drop_expired(now_s)
        kept = self._kept.get(audio_id)
        return None if kept is None else kept.wav

    def _drop_expired(self, now_s: float) -> None:
        while self._kept and next(iter(self._kept.values())).until_s <= now_s:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, kept = self._kept.popitem(last=False)
        self._bytes -= len(kept.wav)
