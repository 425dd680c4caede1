from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from runpod_server.audio import pcm16_from_float, wav
from runpod_server.errors import (
    BadRequest,
    EngineUnavailable,
    GenerationFailed,
    VoiceConflict,
    VoiceNotFound,
    VoicesUnavailable,
)
from runpod_server.voices.store import VoiceStore

SPEECH = wav(pcm16_from_float(0.3 * np.sin(np.arange(80_000, dtype=np.float32) / 20)))
OTHER = wav(pcm16_from_float(0.3 * np.sin(np.arange(90_000, dtype=np.float32) / 10)))


@pytest.fixture
def store(tmp_path: Path) -> VoiceStore:
    return VoiceStore.open(tmp_path / "voices")


def test_a_voice_is_kept_over_a_restart(store: VoiceStore) -> None:
    kept = store.put("mara", SPEECH, " Good morning. ", speaker_id=3, description="a test")
    assert (kept.transcript, kept.duration_ms, kept.prompt_speaker) == ("Good morning.", 3333, 3)
    again = VoiceStore.open(store.folder)
    assert again.all() == store.all() == (kept,)
    assert len(again.all()[0].samples()) == 80_000
    assert store.folder is not None
    assert sorted(path.name for path in store.folder.iterdir()) == ["mara.json", "mara.wav"]


def test_voices_are_found_by_name_and_by_speaker(store: VoiceStore) -> None:
    mara = store.put("mara", SPEECH, "Hello.", speaker_id=3)
    ole = store.put("ole", OTHER, "Hello.", speaker_id=None)
    assert store.asked_for(None, 3) == mara
    assert store.asked_for(None, 0) is None
    assert store.asked_for("ole", 3) == ole
    assert ole.prompt_speaker == 0
    with pytest.raises(BadRequest, match="'nobody' .* mara, ole") as refused:
        store.asked_for("nobody", 3)
    assert refused.value.field == "voice"


def test_the_digest_is_of_all_that_a_prompt_is_made_of(store: VoiceStore) -> None:
    seen = set()
    for recording, transcript, speaker in [
        (SPEECH, "One.", 1),
        (OTHER, "One.", 1),
        (SPEECH, "Two.", 1),
        (SPEECH, "One.", 2),
        (SPEECH, "One.", None),
    ]:
        seen.add(store.put("mara", recording, transcript, speaker_id=speaker).digest)
        store.delete("mara")
    assert len(seen) == 5
    assert store.put("mara", SPEECH, "One.", speaker_id=1).digest in seen


def test_names_and_speakers_are_taken_once(store: VoiceStore) -> None:
    store.put("mara", SPEECH, "Hello.", speaker_id=3)
    with pytest.raises(VoiceConflict, match="DELETE /voices/mara first"):
        store.put("mara", OTHER, "Hello.", speaker_id=4)
    with pytest.raises(VoiceConflict, match="speaker 3 is bound to voice 'mara'"):
        store.put("ole", OTHER, "Hello.", speaker_id=3)
    assert [voice.name for voice in store.all()] == ["mara"]


def test_deleting(store: VoiceStore) -> None:
    told: list[str] = []
    store.when_deleted(lambda voice: told.append(voice.digest))
    kept = store.put("mara", SPEECH, "Hello.", speaker_id=3)
    store.delete("mara")
    assert told == [kept.digest]
    assert store.all() == ()
    assert store.folder is not None and list(store.folder.iterdir()) == []
    with pytest.raises(VoiceNotFound, match="'mara'"):
        store.delete("mara")


@pytest.mark.parametrize("name", ["", "Mara", "../mara", "a/b", "mara.wav", "-x", "x" * 64, "mara\n", "é"])
def test_a_name_is_a_plain_word(store: VoiceStore, name: str) -> None:
    with pytest.raises(BadRequest, match="cannot name a voice"):
        store.put(name, SPEECH, "Hello.", speaker_id=None)
    assert store.folder is not None and list(store.folder.iterdir()) == []


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"transcript": " \n"}, "transcript is empty"),
        ({"transcript": "x" * 1001}, "transcript has 1001"),
        ({"speaker_id": 10}, "0 to 9"),
        ({"speaker_id": True}, "0 to 9"),
        ({"description": "x" * 201}, "description is longer"),
        ({"wav_bytes": b"no"}, "not a WAV"),
    ],
)
def test_bad_fields_are_named(store: VoiceStore, fields: dict[str, object], says: str) -> None:
    given = {"wav_bytes": SPEECH, "transcript": "Hello.", "speaker_id": None, "description": ""} | fields
    with pytest.raises(BadRequest, match=says):
        store.put("mara", **given)  # type: ignore[arg-type]
    assert store.all() == ()


def test_without_a_folder_there_are_none_and_none_can_be_kept() -> None:
    store = VoiceStore.open(None)
    assert store.all() == ()
    assert store.asked_for(None, 4) is None
    for refused in (lambda: store.put("mara", SPEECH, "Hi.", speaker_id=1), lambda: store.delete("mara")):
        with pytest.raises(VoicesUnavailable, match="VOICES_DIR"):
            refused()


def test_a_folder_that_cannot_be_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineUnavailable, match="VOICES_DIR=.*file/voices"):
        VoiceStore.open(tmp_path / "file" / "voices")


def test_broken_voices_are_left_out_and_named(tmp_path: Path) -> None:
    for name, description in {
        "good": {"transcript": "Hello.", "speaker_id": 1},
        "late": {"transcript": "Hello.", "speaker_id": 1},
        "mute": {"transcript": "Hello."},
        "wordless": {"speaker_id": 2},
        "UPPER": {"transcript": "Hello."},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(description))
        if name != "mute":
            (tmp_path / f"{name}.wav").write_bytes(SPEECH)
    (tmp_path / "torn.json").write_text('{"transcript"')
    (tmp_path / "orphan.wav").write_bytes(SPEECH)
    store = VoiceStore.open(tmp_path)
    assert [voice.name for voice in store.all()] == ["good"]
    said = "\n".join(store.problems)
    for expected in ("late.json: speaker 1", "mute.json", "wordless.json", "UPPER.json", "torn.json"):
        assert expected in said
    assert len(store.problems) == 5


def test_a_write_that_fails_leaves_nothing(store: VoiceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VoicesUnavailable, match="No space left"):
        store.put("mara", SPEECH, "Hello.", speaker_id=None)
    assert store.all() == ()
    assert store.folder is not None and list(store.folder.iterdir()) == []


def test_a_recording_that_is_gone_is_said(store: VoiceStore) -> None:
    voice = store.put("mara", SPEECH, "Hello.", speaker_id=None)
    voice.path.unlink()
    with pytest.raises(GenerationFailed, match="'mara' cannot be read"):
        voice.samples()


def test_one_of_many_threads_wins_a_name(store: VoiceStore) -> None:
    outcomes: list[str] = []

    def put() -> None:
        try:
            store.put("mara", SPEECH, "Hello.", speaker_id=3)
            outcomes.append("kept")
        except VoiceConflict:
            outcomes.append("refused")

    threads = [threading.Thread(target=put) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["kept"] + ["refused"] * 5
