"""The embedded voice (hibari-tts: 8 MB, CPU, English, 24 kHz): text in, float32 sentences out.

Blocking and thread-safe; callers run it in threads. Refuses to know who asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock

import numpy as np
import soxr
from numpy.typing import NDArray

from runpod_server.audio import SAMPLE_RATE_HZ
from runpod_server.errors import BadRequest, EngineUnavailable
from runpod_server.extras import install_command
from runpod_server.preview.speakers import Speaker
from runpod_server.stretch import TimeStretch

Samples = NDArray[np.float32]

# A piece is the unit of fairness and of cancelling: 150 phonemes are about 10 s of sound, 80 ms of one core.
_MAX_PIECE_PHONEMES = 150
_CUT = re.compile(r"(?<=[,;:—]) +| +")
_FRAME = SAMPLE_RATE_HZ // 200  # 5 ms
_AUDIBLE_RMS = 0.0008  # −62 dBFS: the voice's own silence is below −80, the faintest "th" above −60
_LEAD_SAMPLES = SAMPLE_RATE_HZ // 50  # what stays of the silence before the first sound: 20 ms
_SLOWEST = 0.5  # of what the network can do by itself


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Sound of about a sentence."""

    samples: Samples
    is_last: bool


class PreviewVoice:
    """One loaded model, used by several threads at once.

    Raises EngineUnavailable when the package is not installed.
    """

    model_name = "hibari-tts"

    def __init__(self) -> None:
        try:
            from hibari import Hibari, dsp
        except ImportError as error:
            raise EngineUnavailable(
                f"the preview engine needs hibari-tts ({error}): {install_command('local')}"
            ) from error
        self._tts = Hibari(threads=1)
        self._synth = dsp.synth
        self._text_lock = Lock()  # the text front end keeps caches; it takes a few ms a request

    def speak(
        self, text: str, speaker: Speaker, *, speed: float = 1.0, seed: int | None = None
    ) -> Iterator[Piece]:
        """Float32 pieces at 24 kHz, about a sentence each, made when asked for. Equal seeds, equal samples.

        The silence before the first sound is cut to 20 ms; pauses between sentences stay as spoken.
        Raises BadRequest when there is nothing in the text that this voice can say.
        """
        with self._text_lock:
            sentences: list[str] = self._tts.phonemize(text)
        sentences = [sentence for sentence in sentences if any(symbol.isalpha() for symbol in sentence)]
        if not sentences:
            raise BadRequest(
                "text has nothing this voice can say: it speaks English words and numbers", field="text"
            )
        rng = np.random.default_rng(seed)
        for number, sentence in enumerate(sentences, 1):
            parts = list(split_long(sentence))
            for index, part in enumerate(parts):
                samples = self._render(part, speaker, speed, rng)
                starts_inside, ends_inside = index > 0, index < len(parts) - 1
                cut = trimmed(samples, start=number == 1 or starts_inside, end=ends_inside)
                yield Piece(cut, is_last=number == len(sentences) and not ends_inside)

    def _render(self, phonemes: str, speaker: Speaker, speed: float, rng: np.random.Generator) -> Samples:
        """The network speaks slowly as people do, longest on the vowels, but keeps a pace only roughly, and a
        quick one not at all: stretching does the rest."""
        spoken = self._spoken(phonemes, speaker, min(max(speed, _SLOWEST), 1.0))
        samples = self._as_speaker(spoken, speaker, rng)
        if speed == 1.0:
            return samples
        usual = spoken if speed > 1.0 else self._spoken(phonemes, speaker, 1.0)
        return _stretched(samples, speed * len(spoken[-1]) / len(usual[-1]))

    def _spoken(self, phonemes: str, speaker: Speaker, speed: float) -> list[Samples]:
        ids = np.asarray([self._tts.ids(phonemes)], np.int64)
        pace = np.asarray([speaker.pace * speed / speaker.formant], np.float32)
        return [output[0] for output in self._tts.sess.run(None, {"ids": ids, "speed": pace})]

    def _as_speaker(self, spoken: list[Samples], speaker: Speaker, rng: np.random.Generator) -> Samples:
        """The network gives spectral envelope and pitch apart, so pitch is changed with the resonances kept;
        these are then moved by resampling, which pace and pitch are corrected for beforehand."""
        harmonic, phase, noise, residual, residual_phase, pitch_hz = spoken
        scaled_hz = pitch_hz * np.float32(speaker.pitch / speaker.formant)
        samples: Samples = self._synth(harmonic, phase, noise, residual, residual_phase, scaled_hz, rng)
        if speaker.formant != 1.0:
            samples = soxr.resample(samples, SAMPLE_RATE_HZ * speaker.formant, SAMPLE_RATE_HZ, quality="HQ")
        return (samples * np.float32(speaker.gain)).astype(np.float32, copy=False)


def _stretched(samples: Samples, speed: float) -> Samples:
    stretch = TimeStretch(speed)
    return np.concatenate([stretch.push(samples), stretch.finish()])


def split_long(phonemes: str, limit: int = _MAX_PIECE_PHONEMES) -> Iterator[str]:
    """Cut an overlong sentence at the last clause mark before `limit`, else at the last space."""
    while len(phonemes) > limit:
        cuts = [found for found in _CUT.finditer(phonemes, 0, limit + 1) if found.start() > 0]
        clauses = [found for found in cuts if phonemes[found.start() - 1] in ",;:—"]
        best = (clauses or cuts)[-1] if cuts else None
        at, resume = (best.start(), best.end()) if best else (limit, limit)
        yield phonemes[:at]
        phonemes = phonemes[resume:]
    if phonemes:
        yield phonemes


def trimmed(samples: Samples, *, start: bool, end: bool) -> Samples:
    """Without the silence before the first or after the last sound, but for 20 ms. Pure silence stays."""
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    audible = np.flatnonzero(np.sqrt(np.square(frames).mean(axis=1)) > _AUDIBLE_RMS)
    if not len(audible):
        return samples
    begin = max(0, int(audible[0]) * _FRAME - _LEAD_SAMPLES) if start else 0
    finish = min(len(samples), (int(audible[-1]) + 1) * _FRAME + _LEAD_SAMPLES) if end else len(samples)
    return samples[begin:finish]
