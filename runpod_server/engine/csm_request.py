"""A speech request as the CSM engines understand it: voice, parts, sampling. Pure; refuses what cannot be."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass

from runpod_server.audio import samples_of
from runpod_server.engine.request import SpeechRequest
from runpod_server.engine.speech_plan import is_speakable, parts_of
from runpod_server.errors import BadRequest
from runpod_server.voices.store import ReferenceVoice, VoiceStore

TEMPERATURE, TOP_K = 0.9, 50  # Sesame's own
COLDEST = 0.01  # below it the likeliest code is certain, and dividing by it soon overflows: greedy
MAX_TOP_K = 128  # the static width of the engine's top-k
CODE_VOCABULARY = 2051  # so many and more are no limit at all
_SEED_BITS = 63


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be spoken, by whom and how."""

    request_id: str
    parts: tuple[str, ...]
    speaker_id: int  # the digit of the prompt
    voice: ReferenceVoice | None  # None: prompted bare
    temperature: float
    top_k: int  # 0: no limit
    seed: int
    max_samples: int | None  # as the model makes them; the listener hears them at `speed`
    context_id: str | None
    speed: float = 1.0


def understood(request: SpeechRequest, references: VoiceStore, *, most_chars: int | None = None) -> Asked:
    """Raises BadRequest: nothing to say, an unknown voice, a top_k this engine has not.

    `most_chars`: of a part; None: the text is spoken as one.
    """
    if not is_speakable(request.text):
        raise BadRequest("there is nothing in this text that a voice can say: send words", field="text")
    voice = references.asked_for(request.voice, request.speaker_id)
    whole = len(request.text)
    return Asked(
        request_id=request.request_id,
        parts=tuple(parts_of(request.text, most_chars=most_chars or whole)),
        speaker_id=request.speaker_id if voice is None else voice.prompt_speaker,
        voice=voice,
        temperature=_temperature(request.temperature),
        top_k=_top_k(request.top_k),
        seed=secrets.randbits(_SEED_BITS) if request.seed is None else request.seed,
        max_samples=_max_samples(request),
        context_id=request.context_id,
        speed=request.speed,
    )


def _max_samples(request: SpeechRequest) -> int | None:
    if request.max_audio_ms is None:
        return None
    return math.floor(samples_of(request.max_audio_ms) * request.speed)


def _temperature(asked: float | None) -> float:
    if asked is None:
        return TEMPERATURE
    return asked if asked >= COLDEST else 0.0


def _top_k(asked: int | None) -> int:
    if asked is None:
        return TOP_K
    if asked >= CODE_VOCABULARY:
        return 0
    if asked > MAX_TOP_K:
        raise BadRequest(
            f"top_k must be 1 to {MAX_TOP_K}, or {CODE_VOCABULARY} for no limit, not {asked}", field="top_k"
        )
    return asked
