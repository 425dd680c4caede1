"""A speaker is a voice: the CSM engines as a server starts them, with the voices that come with it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[csm]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[csm]'")

from runpod_server.app import choose_engine  # noqa: E402
from runpod_server.model.prompt import Turn, build_prompt, encode_recording  # noqa: E402
from runpod_server.settings import Settings  # noqa: E402
from tests.runpod_server.engine.speaking import TOLERANCE  # noqa: E402

NAMES = "juniper rowan linden alder aspen oak laurel elm holly maple".split()  # of speakers 0 to 9
TEXT = "Hello."
SHORT_MS = 400


@pytest.fixture
def csm(start: Any, settings: Callable[..., Settings], tiny_folder: Path) -> Callable[..., Any]:
    """A server that is warm, with settings as they are unless given."""

    async def make(**given: Any) -> Any:
        here = {"engine": "csm", "csm_model": str(tiny_folder), "device": "cpu", "max_streams": 2}
        server = start(choose_engine(settings(**here | given)))
        await server.until_health(lambda health: health["status"] == "healthy")
        return server

    return make


async def says(server: Any, heard: Any, **fields: Any) -> Any:
    """Samples of the likeliest sound, on a connection of its own, as another call would have it."""
    async with server.connect() as socket:
        ask = {"text": TEXT, "temperature": 0, "max_audio_length_ms": SHORT_MS, **fields}
        await socket.send(json.dumps(ask))
        got = await heard(socket)
    assert got.frames, got.reply
    return np.frombuffer(got.pcm16, "<i2") / 32767


def as_transformers_speak(loaded: Any, voice: Any) -> Any:
    """The same text after the voice's recording and transcript, by transformers' own generate."""
    sound = torch.from_numpy(voice.samples())
    codes = encode_recording(loaded.model.codec_model, sound)
    speaker = voice.speaker_id
    prompt = build_prompt(
        [Turn(speaker, voice.transcript, codes), Turn(speaker, TEXT)], loaded.tokenizer, loaded.shapes
    )
    ids = prompt.ids[None]
    made = loaded.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        input_values=sound.view(1, 1, -1),
        input_values_cutoffs=torch.tensor([[sound.shape[-1]]]),
        do_sample=False,
        depth_decoder_do_sample=False,
        max_new_tokens=SHORT_MS // 80,
        output_audio=True,
    )
    return made[0].view(-1).numpy()


def alike(one: Any, other: Any) -> bool:
    length = min(len(one), len(other))
    return bool(length and np.abs(one[:length] - other[:length]).max() < TOLERANCE)


@pytest.mark.parametrize("engine", ["csm", "csm-chunked"])
async def test_ten_speakers_are_ten_voices_on_every_call(
    engine: str, csm: Callable[..., Any], heard: Any, loaded: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="runpod_server.app")
    server = await csm(engine=engine)
    bare = await csm(engine=engine, voices_dir="none")
    health = await server.health()
    assert health["speakers"] == {str(speaker): name for speaker, name in enumerate(NAMES)}
    assert health["unbound_speakers"] == [] and "notice" not in health
    assert "speakers: 0 juniper, 1 rowan, 2 linden," in caplog.text
    for speaker, voice in ((each, server.engine.references.by_speaker(each)) for each in range(10)):
        first = await says(server, heard, speaker_id=speaker)
        again = await says(server, heard, speaker_id=speaker)
        named = await says(server, heard, voice=NAMES[speaker])
        assert np.array_equal(first, again) and np.array_equal(first, named)
        assert alike(first, as_transformers_speak(loaded, voice)), NAMES[speaker]
        assert not alike(first, await says(bare, heard, speaker_id=speaker)), NAMES[speaker]


async def test_bare_prompts_are_said_at_the_start_and_in_health(
    csm: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    server = await csm(voices_dir="None")
    health = await server.health()
    assert health["speakers"] == {} and health["unbound_speakers"] == list(range(10))
    assert "every answer sounds like a different person" in health["notice"]
    assert [each.levelname for each in caplog.records if "No speaker has a voice" in each.message] == [
        "WARNING"
    ]


async def test_one_speaker_without_a_voice_is_named(
    csm: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A user's voice that hides a shipped one by its name, and has no speaker."""
    laurel = Path(__file__).parents[3] / "runpod_server" / "voices" / "shipped" / "laurel.wav"
    (tmp_path / "laurel.wav").write_bytes(laurel.read_bytes())
    (tmp_path / "laurel.json").write_text(json.dumps({"transcript": "Mine.", "speaker_id": None}))
    server = await csm(voices_dir=tmp_path)
    health = await server.health()
    assert health["unbound_speakers"] == [6] and "6" not in health["speakers"]
    for said in (health["notice"], caplog.text):
        assert "No voice is bound to speaker 6:" in said


def test_the_setting(settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    for written, read in (("", None), ("none", "none"), ("NONE", "none"), ("./none", Path("none"))):
        monkeypatch.setenv("VOICES_DIR", written)
        assert settings().voices_dir == read
