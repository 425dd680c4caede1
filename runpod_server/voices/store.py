"""The named voices of one folder: `NAME.wav`, and `NAME.json` beside it, which makes it a voice.

The voices that come with this program may lie beneath them: those of the folder win. Blocking, and safe to
use from several threads. Knows nothing of models or of who asks.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from runpod_server.audio import SAMPLE_RATE_HZ, pcm16_from_float, wav
from runpod_server.errors import (
    BadRequest,
    EngineUnavailable,
    GenerationFailed,
    VoiceConflict,
    VoiceNotFound,
    VoicesUnavailable,
)
from runpod_server.voices.recording import Samples, read_recording

log = logging.getLogger(__name__)

SPEAKERS = range(10)
MAX_VOICES = 200
MAX_RECORDING_BYTES = 24 * 1024 * 1024  # 30 s at 96 kHz, stereo, float
MAX_TRANSCRIPT_CHARS = 1000  # 30 s of quick speech are some 600
_MAX_DESCRIPTION_CHARS = 200
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class ReferenceVoice:
    """A voice: what was said in its recording, and the speaker id bound to it, if any."""

    name: str
    transcript: str
    speaker_id: int | None
    description: str
    duration_ms: int
    digest: str  # changes with recording, transcript and speaker: what is made from them can be kept by it
    path: Path
    shipped: bool = False  # it comes with this program, and lies in no folder of its user's

    @property
    def prompt_speaker(self) -> int:
        """The digit that its recording and all it says are prompted with: always the same."""
        return 0 if self.speaker_id is None else self.speaker_id

    def samples(self) -> Samples:
        """The recording, 24 kHz. Raises GenerationFailed when its file is gone or damaged."""
        try:
            return read_recording(self.path.read_bytes())
        except (OSError, BadRequest) as error:
            raise GenerationFailed(f"voice {self.name!r} cannot be read any more: {error}") from error


class VoiceStore:
    """The voices of `folder` (None: of none), and those `shipped` beneath them.

    A shipped voice whose name is taken in the folder is hidden; one whose speaker is taken keeps its name.
    Without either, every speaker is prompted bare.
    """

    def __init__(self, folder: Path | None = None, shipped: Iterable[ReferenceVoice] = ()) -> None:
        self.folder = folder
        self._shipped = tuple(replace(voice, shipped=True) for voice in shipped)
        self.problems: tuple[str, ...] = ()  # files that are no usable voice, and why
        self._lock = threading.Lock()
        self._voices: dict[str, ReferenceVoice] = {}  # of the folder
        self._known = laid_over({}, self._shipped)
        self._when_deleted: list[Callable[[ReferenceVoice], None]] = []

    @classmethod
    def open(cls, folder: Path | None, shipped: Iterable[ReferenceVoice] = ()) -> VoiceStore:
        """Read every voice of `folder`, making it if need be. A broken voice is left out, and said so.

        Raises EngineUnavailable when the folder cannot be made or read.
        """
        store = cls(folder, shipped)
        if folder is None:
            return store
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptions = sorted(folder.glob("*.json"))
        except OSError as error:
            raise EngineUnavailable(
                f"VOICES_DIR={folder} cannot be used ({error}): name a folder this server may read and write"
            ) from error
        problems = []
        for path in descriptions[:MAX_VOICES]:
            try:
                store._add(_read_voice(path))
            except (OSError, BadRequest, VoiceConflict) as error:
                problems.append(f"{path.name}: {error}")
        if len(descriptions) > MAX_VOICES:
            problems.append(f"{len(descriptions) - MAX_VOICES} voices beyond the {MAX_VOICES} there may be")
        for problem in problems:
            log.warning("a voice is left out: %s", problem)
        store.problems = tuple(problems)
        store._known = laid_over(store._voices, store._shipped)
        return store

    def all(self) -> tuple[ReferenceVoice, ...]:
        """Every voice, by name."""
        with self._lock:
            return tuple(self._known[name] for name in sorted(self._known))

    def by_name(self, name: str) -> ReferenceVoice | None:
        """The voice of that name."""
        with self._lock:
            return self._known.get(name)

    def by_speaker(self, speaker_id: int) -> ReferenceVoice | None:
        """The voice bound to that speaker; None: the speaker is prompted bare."""
        with self._lock:
            return next((each for each in self._known.values() if each.speaker_id == speaker_id), None)

    def asked_for(self, voice: str | None, speaker_id: int) -> ReferenceVoice | None:
        """The voice a request asks for: by name, else the speaker's own; None: none is bound to the speaker.

        Raises BadRequest for a name that is not known.
        """
        if voice is None:
            return self.by_speaker(speaker_id)
        found = self.by_name(voice)
        if found is None:
            known = ", ".join(each.name for each in self.all()) or "none; POST /voices makes one"
            raise BadRequest(f"voice {voice!r} is not known here; the voices are: {known}", field="voice")
        return found

    def when_deleted(self, told: Callable[[ReferenceVoice], None]) -> None:
        """`told` is called after a voice was deleted or hidden, in that thread: what was made of it goes."""
        self._when_deleted.append(told)

    def put(
        self, name: str, wav_bytes: bytes, transcript: str, *, speaker_id: int | None, description: str = ""
    ) -> ReferenceVoice:
        """Keep a new voice: after this returns it is there whole, and before not at all.

        Raises BadRequest, VoiceConflict (name or speaker taken), VoicesUnavailable (no folder, full disk).
        """
        folder = self._writable()
        description = description.strip()
        _check_fields(name, transcript, speaker_id, description)
        recording = wav(pcm16_from_float(read_recording(wav_bytes)))
        voice = _voice(folder / f"{name}.wav", recording, transcript.strip(), speaker_id, description)
        fields = {
            "transcript": voice.transcript,
            "speaker_id": voice.speaker_id,
            "description": voice.description,
        }
        with self._lock:
            self._check_free(voice)
            try:
                _write(voice.path, recording)
                _write(voice.path.with_suffix(".json"), orjson.dumps(fields, option=orjson.OPT_INDENT_2))
            except OSError as error:
                raise VoicesUnavailable(
                    f"voice {name!r} cannot be written to VOICES_DIR={folder}: {error}"
                ) from error
            self._voices[name] = voice
            hidden = self._changed()
        self._tell(hidden)
        return voice

    def delete(self, name: str) -> None:
        """Forget a voice of the folder and remove its files; a shipped one that it hid is there again.

        Raises VoiceNotFound, VoiceConflict (it is shipped), VoicesUnavailable.
        """
        with self._lock:
            voice = self._voices.get(name)
            if voice is None and name in self._known:
                raise VoiceConflict(
                    f"voice {name!r} comes with this program and is not removed: bind its speaker to a "
                    "voice of your own, which wins; VOICES_DIR=none leaves out all that come with it"
                )
            folder = self._writable()
            if voice is None:
                raise VoiceNotFound(f"there is no voice {name!r}; GET /voices lists them")
            try:
                voice.path.with_suffix(".json").unlink(missing_ok=True)  # without it, the WAV is no voice
                del self._voices[name]
                voice.path.unlink(missing_ok=True)
            except OSError as error:
                raise VoicesUnavailable(
                    f"voice {name!r} cannot be removed from VOICES_DIR={folder}: {error}"
                ) from error
            gone = self._changed()
        self._tell(gone)

    def _changed(self) -> list[ReferenceVoice]:
        """Lay the voices over each other anew, under the lock: those that nobody can ask for any more."""
        before, self._known = self._known, laid_over(self._voices, self._shipped)
        left = {voice.digest for voice in self._known.values()}
        return [voice for voice in before.values() if voice.digest not in left]

    def _tell(self, gone: Iterable[ReferenceVoice]) -> None:
        for voice in gone:
            for told in self._when_deleted:
                told(voice)

    def _add(self, voice: ReferenceVoice) -> None:
        with self._lock:
            self._check_free(voice)
            self._voices[voice.name] = voice

    def _check_free(self, voice: ReferenceVoice) -> None:
        if voice.name in self._voices:
            raise VoiceConflict(f"there is a voice {voice.name!r} already: DELETE /voices/{voice.name} first")
        if len(self._voices) >= MAX_VOICES:
            raise VoiceConflict(f"there are {MAX_VOICES} voices already: delete one first")
        for other in self._voices.values():
            if voice.speaker_id is not None and other.speaker_id == voice.speaker_id:
                raise VoiceConflict(
                    f"speaker {voice.speaker_id} is bound to voice {other.name!r} already: "
                    "choose another of 0 to 9, or none"
                )

    def _writable(self) -> Path:
        if self.folder is None:
            raise VoicesUnavailable(
                "this server keeps no voices of yours: set VOICES_DIR to a folder that it may write, and "
                "restart it"
            )
        return self.folder


def laid_over(
    own: Mapping[str, ReferenceVoice], shipped: Iterable[ReferenceVoice]
) -> dict[str, ReferenceVoice]:
    """`own` and the shipped voices beneath: one name, and one speaker, is one voice's, and `own` win."""
    taken = {voice.speaker_id for voice in own.values()}
    beneath = (_unbound(voice) if voice.speaker_id in taken else voice for voice in shipped)
    return {voice.name: voice for voice in beneath} | dict(own)


def _unbound(voice: ReferenceVoice) -> ReferenceVoice:
    """The same voice, to be had by its name only. It is prompted with another digit: another digest."""
    digest = hashlib.sha256(f"{voice.digest} unbound".encode()).hexdigest()
    return replace(voice, speaker_id=None, digest=digest)


def _read_voice(path: Path) -> ReferenceVoice:
    """Raises BadRequest, OSError."""
    try:
        fields = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"it is not JSON ({error})") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("transcript"), str):
        raise BadRequest('it needs {"transcript": "...", "speaker_id": 0 to 9 or null}')
    speaker_id, description = fields.get("speaker_id"), str(fields.get("description") or "")
    _check_fields(path.stem, fields["transcript"], speaker_id, description)
    recording = path.with_suffix(".wav")
    return _voice(recording, recording.read_bytes(), fields["transcript"].strip(), speaker_id, description)


def _voice(
    path: Path, recording: bytes, transcript: str, speaker_id: int | None, description: str
) -> ReferenceVoice:
    samples = read_recording(recording)
    known_by = b"\0".join((recording, transcript.encode(), str(speaker_id).encode()))
    return ReferenceVoice(
        name=path.stem,
        transcript=transcript,
        speaker_id=speaker_id,
        description=description,
        duration_ms=round(len(samples) * 1000 / SAMPLE_RATE_HZ),
        digest=hashlib.sha256(known_by).hexdigest(),
        path=path,
    )


def _check_fields(name: str, transcript: str, speaker_id: object, description: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadRequest(
            f"{name[:80]!r} cannot name a voice: use 1 to 63 of a-z, 0-9, - and _, a letter or digit first",
            field="name",
        )
    if not transcript.strip():
        raise BadRequest(
            "transcript is empty: write what is said in the recording, word by word", field="transcript"
        )
    if len(transcript) > MAX_TRANSCRIPT_CHARS:
        raise BadRequest(
            f"transcript has {len(transcript)} characters; 30 s hold no more than {MAX_TRANSCRIPT_CHARS}",
            field="transcript",
        )
    is_number = isinstance(speaker_id, int) and not isinstance(speaker_id, bool)
    if speaker_id is not None and (not is_number or speaker_id not in SPEAKERS):
        raise BadRequest(f"speaker_id must be 0 to 9 or absent, not {speaker_id!r}", field="speaker_id")
    if len(description) > _MAX_DESCRIPTION_CHARS:
        raise BadRequest(
            f"description is longer than {_MAX_DESCRIPTION_CHARS} characters", field="description"
        )


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and onto the disk."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    unfinished = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
