"""Makes the shipped recordings anew: `python -m backend.recorded`. Needs the embedded voice (`[local]`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hibari import Hibari
from numpy.typing import NDArray

from backend.core.g711 import RATE_HZ, Codec
from backend.core.resample import Resampler

TEXTS = {
    "en": (
        "I'm sorry, we are having a technical problem.",
        "Please call again later.",
        "Goodbye.",
    )
}
_VOICE_HZ = 24_000
_SPEED = 0.95  # a little slower than it speaks by itself: nobody can ask it to say that again
_PAUSE_MS = 350
_MARGIN_MS = 60
_AUDIBLE = 0.005
_PEAK = 0.5


def spoken(sentences: tuple[str, ...]) -> bytes:
    """The sentences with pauses between them, μ-law at 8 kHz. The same bytes every time."""
    voice = Hibari()
    pause = np.zeros(_VOICE_HZ * _PAUSE_MS // 1000, np.float32)
    parts = [part for text in sentences for part in (_trimmed(voice(text, speed=_SPEED, seed=1)), pause)]
    sound = np.concatenate(parts)
    pcm16 = np.rint(sound * (_PEAK / np.abs(sound).max()) * 32767).astype("<i2").tobytes()
    resampler = Resampler(_VOICE_HZ, RATE_HZ)
    return Codec.PCMU.encode(resampler.push(pcm16) + resampler.flush())


def _trimmed(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without the silence before and after, which the voice makes long."""
    audible = np.flatnonzero(np.abs(sound) > _AUDIBLE)
    margin = _VOICE_HZ * _MARGIN_MS // 1000
    return sound[max(0, audible[0] - margin) : audible[-1] + margin]


if __name__ == "__main__":
    for language, sentences in TEXTS.items():
        path = Path(__file__).with_name(f"apology.{language}.ulaw")
        path.write_bytes(spoken(sentences))
        print(path, f"{path.stat().st_size / RATE_HZ:.1f} s")
