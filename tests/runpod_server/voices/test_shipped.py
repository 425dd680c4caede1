from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from runpod_server.audio import SAMPLE_RATE_HZ, pcm16_from_float, wav
from runpod_server.errors import EngineUnavailable
from runpod_server.preview.speakers import SPEAKERS
from runpod_server.voices.shipped import SHIPPED, install, open_voices
from runpod_server.voices.store import VoiceStore

SPEECH = wav(pcm16_from_float(0.3 * np.sin(np.arange(80_000, dtype=np.float32) / 20)))
NAMES = ["alder", "juniper", "linden", "rowan"]


def test_the_shipped_recordings_are_fit_to_be_imitated() -> None:
    store = VoiceStore.open(SHIPPED)
    assert [voice.name for voice in store.all()] == NAMES and not store.problems
    assert sorted(voice.speaker_id or 0 for voice in store.all()) == [0, 1, 2, 3]
    licences = (SHIPPED / "LICENSES.md").read_text()
    for voice in store.all():
        assert 5_000 <= voice.duration_ms <= 12_000
        assert 1.2 < len(voice.transcript.split()) / voice.duration_ms * 1000 < 4.0, "words a second"
        samples = voice.samples()
        assert len(voice.path.read_bytes()) == 44 + 2 * len(samples), "24 kHz, mono, 16 bit"
        assert 0.5 < np.abs(samples).max() < 0.95, "loud, and not clipped"
        frames = samples[: len(samples) // 480 * 480].reshape(-1, 480)
        levels_db = 20 * np.log10(np.sqrt(np.square(frames).mean(axis=1)) + 1e-9)
        assert -20 < np.percentile(levels_db, 90) < -15, "all about as loud"
        assert np.percentile(levels_db, 5) < -50, "what is between the words is quiet"
        assert f"`{voice.name}`" in licences and voice.description
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 3_000_000
    assert not {voice.name for voice in store.all()} & {speaker.name for speaker in SPEAKERS}


def test_a_new_folder_begins_with_them_and_then_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "volume" / "voices"
    store = open_voices(folder)
    assert [voice.name for voice in store.all()] == NAMES
    assert (folder / "LICENSES.md").read_bytes() == (SHIPPED / "LICENSES.md").read_bytes()
    assert [path.name for path in folder.parent.iterdir()] == ["voices"]
    store.delete("alder")
    assert [voice.name for voice in open_voices(folder).all()] == NAMES[1:]


def test_an_empty_folder_and_no_folder_stay_empty(tmp_path: Path) -> None:
    assert open_voices(tmp_path).all() == () and list(tmp_path.iterdir()) == []
    assert open_voices(None).all() == ()


def test_installing_leaves_what_is_there(tmp_path: Path) -> None:
    store = VoiceStore.open(tmp_path)
    store.put("mine", SPEECH, "Hello.", speaker_id=1)
    installed, (left_out,) = install(store)
    assert installed == ["alder", "juniper", "linden"]
    assert left_out.startswith("rowan: speaker 1 is bound to voice 'mine' already")
    samples = VoiceStore.open(SHIPPED).by_name("juniper").samples()  # type: ignore[union-attr]
    kept = store.by_name("juniper").samples()  # type: ignore[union-attr]
    assert len(kept) * 1000 // SAMPLE_RATE_HZ == 8865 and np.abs(kept - samples).max() < 1e-4


def test_servers_that_start_at_once_on_one_volume_all_get_them(tmp_path: Path) -> None:
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda: seen.append(len(open_voices(tmp_path / "voices").all())))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [4] * 6
    assert [path.name for path in tmp_path.iterdir()] == ["voices"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineUnavailable, match="VOICES_DIR=.*file/voices cannot be made"):
        open_voices(tmp_path / "file" / "voices")
