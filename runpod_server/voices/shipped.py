"""The voices that come with this program, and how they get into a folder of voices.

Recordings, transcripts and licences are in the folder `shipped`. Blocking; knows nothing of models.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from runpod_server.errors import EngineUnavailable, VoiceConflict
from runpod_server.voices.store import VoiceStore

SHIPPED = Path(__file__).parent / "shipped"


def open_voices(folder: Path | None) -> VoiceStore:
    """The voices of VOICES_DIR; a folder that is not there yet is made, with the shipped voices in it.

    One that is there is left as it is, also when it is empty: then every speaker is prompted bare.
    Raises EngineUnavailable when the folder cannot be made or read.
    """
    if folder is not None and not os.path.lexists(folder):
        _lay_out(folder)
    return VoiceStore.open(folder)


def install(store: VoiceStore) -> tuple[list[str], list[str]]:
    """Put the shipped voices beside those of `store`: the names put there, and why others were not.

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


def _lay_out(folder: Path) -> None:
    """Whole or not at all: a folder half filled would be taken for one that is as its owner wants it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as beside:
            filled = Path(beside) / folder.name
            filled.mkdir()
            for file in SHIPPED.iterdir():
                (filled / file.name).write_bytes(file.read_bytes())
            filled.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # else another server on the same volume was quicker
            raise EngineUnavailable(
                f"VOICES_DIR={folder} cannot be made ({error}): name a folder this server may make and write"
            ) from error
