from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from runpod_server.audio import SAMPLE_RATE_HZ, pcm16_from_float, wav
from runpod_server.errors import EngineUnavailable, VoiceConflict, VoicesUnavailable
from runpod_server.preview.speakers import SPEAKERS
from runpod_server.voices.shipped import SHIPPED, install, open_voices
from runpod_server.voices.store import VoiceStore

SPEECH = wav(pcm16_from_float(0.3 * np.sin(np.arange(80_000, dtype=np.float32) / 20)))
NAMES = "juniper rowan linden alder aspen oak laurel elm holly maple".split()  # of speakers 0 to 9
FASTER = {  # the other voice's recording, so many times as fast
    "aspen": ("linden", 1.10),
    "oak": ("alder", 0.91),
    "laurel": ("juniper", 0.91),
    "elm": ("rowan", 0.91),
    "holly": ("juniper", 1.10),
    "maple": ("linden", 0.91),
}


def speakers(store: VoiceStore) -> list[str | None]:
    """The name of the voice of each speaker, 0 to 9."""
    voices = [store.by_speaker(speaker) for speaker in range(10)]
    return [voice and voice.name for voice in voices]


def test_the_shipped_recordings_are_fit_to_be_imitated() -> None:
    store = VoiceStore.open(SHIPPED)
    assert speakers(store) == NAMES and len(store.all()) == 10 and not store.problems
    licences = (SHIPPED / "LICENSES.md").read_text()
    for voice in store.all():
        assert 5_000 <= voice.duration_ms <= 12_500
        assert 1.2 < len(voice.transcript.split()) / voice.duration_ms * 1000 < 4.0, "words a second"
        samples = voice.samples()
        assert len(voice.path.read_bytes()) == 44 + 2 * len(samples), "24 kHz, mono, 16 bit"
        assert 0.5 < np.abs(samples).max() < 0.95, "loud, and not clipped"
        frames = samples[: len(samples) // 480 * 480].reshape(-1, 480)
        levels_db = 20 * np.log10(np.sqrt(np.square(frames).mean(axis=1)) + 1e-9)
        assert -20 < np.percentile(levels_db, 90) < -15, "all about as loud"
        assert np.percentile(levels_db, 5) < -50, "what is between the words is quiet"
        assert f"`{voice.name}`" in licences and voice.description
    assert len({voice.description for voice in store.all()}) == 10
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 5_000_000
    assert not {voice.name for voice in store.all()} & {speaker.name for speaker in SPEAKERS}


def test_six_of_them_are_the_other_four_played_slower_or_faster() -> None:
    """As LICENSES.md says, which is all that anybody can know of where they come from."""
    store = VoiceStore.open(SHIPPED)
    for name, (other, speed) in FASTER.items():
        made, origin = store.by_name(name), store.by_name(other)
        assert made and origin and made.transcript == origin.transcript
        assert made.duration_ms * speed == pytest.approx(origin.duration_ms, abs=2)


@pytest.mark.parametrize("folder", [None, "new", "empty"])
def test_by_default_each_of_the_ten_speakers_has_a_voice_of_its_own(
    folder: str | None, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    store = open_voices(folder and tmp_path / folder)
    assert speakers(store) == NAMES
    assert all(voice.shipped for voice in store.all()) and not store.problems
    assert folder is None or list((tmp_path / folder).iterdir()) == [], "what is shipped is not copied"


def test_none_means_bare_prompts() -> None:
    store = open_voices("none")
    assert store.all() == () and speakers(store) == [None] * 10
    with pytest.raises(VoicesUnavailable, match="VOICES_DIR"):
        store.put("mine", SPEECH, "Hello.", speaker_id=1)


def test_the_users_bindings_win_and_the_shipped_fill_in(tmp_path: Path) -> None:
    for name, speaker in (("mine", 1), ("alder", None)):
        (tmp_path / f"{name}.wav").write_bytes(SPEECH)
        (tmp_path / f"{name}.json").write_text(json.dumps({"transcript": "Hello.", "speaker_id": speaker}))
    store = open_voices(tmp_path)
    assert speakers(store) == ["juniper", "mine", "linden", None, *NAMES[4:]], "alder is the user's now"
    rowan = store.by_name("rowan")
    assert rowan and rowan.shipped and rowan.speaker_id is None, "it may still be asked for by its name"
    store.delete("alder")
    assert speakers(store)[3] == "alder", "the shipped one is there again"


def test_a_folder_that_has_the_first_four_is_filled_up(tmp_path: Path) -> None:
    """As an earlier version left it, which copied them there."""
    for name in NAMES[:4]:
        for end in (".wav", ".json"):
            (tmp_path / f"{name}{end}").write_bytes((SHIPPED / f"{name}{end}").read_bytes())
    store = open_voices(tmp_path)
    assert speakers(store) == NAMES and len(store.all()) == 10
    assert [voice.name for voice in store.all() if not voice.shipped] == sorted(NAMES[:4])


def test_a_speaker_is_bound_anew_and_what_was_made_of_the_hidden_voice_goes(tmp_path: Path) -> None:
    store = open_voices(tmp_path)
    gone: list[str] = []
    store.when_deleted(lambda voice: gone.append(voice.name))
    store.put("mine", SPEECH, "Hello.", speaker_id=6)
    assert speakers(store)[6] == "mine" and gone == ["laurel"]
    with pytest.raises(VoiceConflict, match="speaker 6 is bound to voice 'mine' already"):
        store.put("other", SPEECH, "Hello.", speaker_id=6)
    with pytest.raises(VoiceConflict, match="'laurel' comes with this program"):
        store.delete("laurel")
    store.delete("mine")
    assert speakers(store) == NAMES and gone == ["laurel", "laurel", "mine"]


def test_a_broken_voice_of_the_users_is_told_and_the_shipped_one_speaks(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps({"transcript": "Hello.", "speaker_id": 2}))
    store = open_voices(tmp_path)
    assert speakers(store) == NAMES
    assert len(store.problems) == 1 and store.problems[0].startswith("mine.json")


def test_a_folder_that_may_not_be_written_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "voices"
    folder.mkdir()
    folder.chmod(0o555)
    try:
        assert speakers(open_voices(folder)) == NAMES
    finally:
        folder.chmod(0o755)


def test_installing_leaves_what_is_there(tmp_path: Path) -> None:
    store = VoiceStore.open(tmp_path)
    store.put("mine", SPEECH, "Hello.", speaker_id=1)
    installed, (left_out,) = install(store)
    assert installed == sorted(set(NAMES) - {"rowan"})
    assert left_out.startswith("rowan: speaker 1 is bound to voice 'mine' already")
    samples = VoiceStore.open(SHIPPED).by_name("juniper").samples()  # type: ignore[union-attr]
    kept = store.by_name("juniper").samples()  # type: ignore[union-attr]
    assert len(kept) * 1000 // SAMPLE_RATE_HZ == 8865 and np.abs(kept - samples).max() < 1e-4


def test_servers_that_start_at_once_on_one_volume_all_have_them(tmp_path: Path) -> None:
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda: seen.append(len(open_voices(tmp_path / "voices").all())))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [10] * 6


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineUnavailable, match="VOICES_DIR=.*file/voices cannot be used"):
        open_voices(tmp_path / "file" / "voices")
