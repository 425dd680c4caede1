from __future__ import annotations

import builtins
import io

import numpy as np
import pytest

from backend.core.g711 import Codec
from backend.recorded import APOLOGY, recorded_apology
from backend.simulator.wordcount import word_errors


def test_there_is_an_apology_in_english_and_none_in_a_language_nobody_recorded() -> None:
    english = recorded_apology("en-US")
    assert english and english is recorded_apology("en") is recorded_apology("EN-gb")
    assert recorded_apology("de-DE") is None and recorded_apology("eng") is None


def test_it_needs_no_file_once_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_disk(*args: object, **kwargs: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(builtins, "open", no_disk)
    monkeypatch.setattr(io, "open", no_disk)
    assert recorded_apology("en-US")


def test_its_sound_begins_soon_is_loud_enough_and_ends_in_silence() -> None:
    apology = recorded_apology("en")
    assert apology is not None and 4000 < len(apology) / 8 < 8000
    samples = np.abs(np.frombuffer(Codec.PCMU.decode(apology), "<i2").astype(int))
    assert 12_000 < samples.max() < 20_000
    loud = np.flatnonzero(samples > 300)
    assert loud[0] < 8 * 120, "within 120 ms"
    assert loud[-1] < len(apology) - 8 * 200, "a Goodbye that is not cut off"


async def test_it_says_what_it_should() -> None:
    pytest.importorskip("moonshine_voice")
    from backend.stt.local import LocalTranscriber

    apology = recorded_apology("en")
    assert apology is not None
    ears = LocalTranscriber()
    try:
        heard = await ears.transcribe(Codec.PCMU.decode(apology))
    finally:
        ears.close()
    assert word_errors(APOLOGY, heard).errors == 0, heard


def test_the_recording_is_what_its_maker_makes() -> None:
    pytest.importorskip("hibari")
    from backend.recorded.__main__ import TEXTS, spoken

    assert " ".join(TEXTS["en"]) == APOLOGY
    made = np.frombuffer(Codec.PCMU.decode(spoken(TEXTS["en"])), "<i2").astype(float)
    kept = np.frombuffer(Codec.PCMU.decode(recorded_apology("en") or b""), "<i2").astype(float)
    assert abs(len(made) - len(kept)) <= 8 * 40  # other processors round otherwise
