from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runpod_server.audio import pcm16_from_float, wav
from runpod_server.engine.csm_request import understood
from runpod_server.engine.request import SpeechRequest
from runpod_server.errors import BadRequest
from runpod_server.voices.store import VoiceStore

SPEECH = wav(pcm16_from_float(0.3 * np.sin(np.arange(80_000, dtype=np.float32) / 20)))


def request(text: str = "Hello.", **fields: object) -> SpeechRequest:
    return SpeechRequest(text=text, request_id="r", **fields)  # type: ignore[arg-type]


def test_defaults_are_sesames_and_seeds_are_drawn() -> None:
    asked = [understood(request(speaker_id=4), VoiceStore()) for _ in range(2)]
    assert (asked[0].temperature, asked[0].top_k, asked[0].voice, asked[0].speaker_id) == (0.9, 50, None, 4)
    assert asked[0].seed != asked[1].seed
    assert all(0 <= each.seed < 2**63 for each in asked)


def test_zero_is_greedy_and_not_absent() -> None:
    asked = understood(request(temperature=0.0, seed=0, max_audio_ms=100), VoiceStore())
    assert (asked.temperature, asked.seed, asked.max_samples) == (0.0, 0, 2400)


@pytest.mark.parametrize("asked, becomes", [(1e-40, 0.0), (0.005, 0.0), (0.01, 0.01), (2.0, 2.0)])
def test_so_cold_that_dividing_by_it_overflows_is_greedy(asked: float, becomes: float) -> None:
    assert understood(request(temperature=asked), VoiceStore()).temperature == becomes


@pytest.mark.parametrize("top_k, becomes", [(1, 1), (128, 128), (2051, 0)])
def test_top_k(top_k: int, becomes: int) -> None:
    assert understood(request(top_k=top_k), VoiceStore()).top_k == becomes


@pytest.mark.parametrize(
    "fields, field", [({"top_k": 129}, "top_k"), ({"text": "?!"}, "text"), ({"voice": "no"}, "voice")]
)
def test_what_cannot_be_is_refused(fields: dict[str, object], field: str) -> None:
    with pytest.raises(BadRequest) as refused:
        understood(request(**fields), VoiceStore())
    assert refused.value.field == field


def test_a_voice_is_always_prompted_with_its_own_digit(tmp_path: Path) -> None:
    store = VoiceStore.open(tmp_path)
    mara = store.put("mara", SPEECH, "Hello.", speaker_id=3)
    store.put("ole", SPEECH, "Hello.", speaker_id=None)
    by_name, by_number = (
        understood(asked, store) for asked in (request(voice="mara", speaker_id=8), request(speaker_id=3))
    )
    assert by_name.voice == by_number.voice == mara
    assert by_name.speaker_id == by_number.speaker_id == 3
    assert understood(request(voice="ole", speaker_id=8), store).speaker_id == 0
    assert understood(request(speaker_id=8), store).voice is None


def test_a_long_text_comes_in_parts_unless_it_is_to_be_one() -> None:
    text = "This is a sentence. " * 40
    assert len(understood(request(text), VoiceStore(), most_chars=100).parts) > 5
    assert understood(request(text), VoiceStore()).parts == (text,)
