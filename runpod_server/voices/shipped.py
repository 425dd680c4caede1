"""The voices that come with this program, one for each of the ten speakers, and how a server comes by them.

Recordings, transcripts and licences are in the folder `shipped`. Blocking; knows nothing of models.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from runpod_server.errors import VoiceConflict
from runpod_server.voices.store import VoiceStore

SHIPPED = Path(__file__).parent / "shipped"


def open_voices(voices_dir: Path | Literal["none"] | None) -> VoiceStore:
    """The voices that VOICES_DIR asks for: those of the folder, if one is named, over the shipped ones.

    A folder that is not there yet is made; nothing is put into it. "none": no voice at all, and every speaker
    is prompted bare. Raises EngineUnavailable when the folder cannot be made or read.
    """
    if voices_dir == "none":
        return VoiceStore()
    shipped = VoiceStore.open(SHIPPED)
    store = VoiceStore.open(voices_dir, shipped.all())
    store.problems += shipped.problems
    return store


def install(store: VoiceStore) -> tuple[list[str], list[str]]:
    """Copy the shipped voices into the folder of `store`: the names put there, and why others were not.

    Raises VoicesUnavailable.
    """
    installed, left_out = [], []
    for voice in VoiceStore.open(SHIPPED).all():
        try:
            store.put(
                voice.name,
                voice.path.read_bytes(),
                voice.transcript,
                speaker_id=voice.speaker_id,
                description=voice.description,
            )
            installed.append(voice.name)
        except VoiceConflict as conflict:
            left_out.append(f"{voice.name}: {conflict}")
    return installed, left_out
