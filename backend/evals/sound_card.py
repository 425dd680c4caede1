"""The loudspeaker of this machine, where there is one and `sounddevice` is installed."""

from __future__ import annotations

from typing import Any, Self

from backend.simulator.line import Line


class SoundCard:
    """Plays what is heard on a line, as it is heard. `close` it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._played_ms = 0.0

    @classmethod
    def open(cls, rate_hz: int) -> tuple[Self | None, str]:
        """The card; or None and why there is none, with what to do."""
        try:
            import sounddevice
        except ImportError:
            return None, "to hear it, pip install sounddevice"
        except OSError:
            return None, "to hear it, install PortAudio (Debian: apt install libportaudio2)"
        try:
            stream = sounddevice.RawOutputStream(samplerate=rate_hz, channels=1, dtype="int16")
            stream.start()
        except sounddevice.PortAudioError as error:
            return None, f"the sound card cannot be used: {error}"
        return cls(stream), ""

    def play(self, line: Line) -> None:
        """Play what was heard since the last time, as much as the card takes without waiting."""
        pcm16 = line.heard_from(self._played_ms)
        room = 2 * int(self._stream.write_available)
        if pcm16 and room:
            self._stream.write(pcm16[:room])
            self._played_ms += len(pcm16[:room]) / 16

    def close(self) -> None:
        """Fall silent."""
        self._stream.abort()
        self._stream.close()
