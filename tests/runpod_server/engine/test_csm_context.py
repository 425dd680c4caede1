"""ENGINE=csm: voices and conversations as context, against transformers' generate, and on the server."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[csm]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[csm]'")

from runpod_server.audio import pcm16_from_float, wav  # noqa: E402
from runpod_server.engine.csm import CsmEngine, chunked_engine, csm_engine  # noqa: E402
from runpod_server.engine.csm_source import CsmSource  # noqa: E402
from runpod_server.engine.csm_worker import Rules  # noqa: E402
from runpod_server.engine.request import HeardTurn  # noqa: E402
from runpod_server.errors import BadRequest, Busy, GenerationFailed, NotReady  # noqa: E402
from runpod_server.model.prompt import Turn, build_prompt, encode_recording  # noqa: E402
from runpod_server.voices.shipped import open_voices  # noqa: E402
from runpod_server.voices.store import VoiceStore  # noqa: E402
from tests.runpod_server.engine.speaking import REFERENCE, TOLERANCE, asked, ready, spoken  # noqa: E402

FRAMES = 24
RULES = Rules(frame_limit=lambda text: FRAMES)
CALLER = (0.3 * np.sin(np.arange(30_000, dtype=np.float32) ** 1.1 / 50)).astype(np.float32)


def streaming(source: CsmSource, *, slots: int = 4, store: VoiceStore | None = None) -> CsmEngine:
    references = store or VoiceStore()
    return csm_engine(source, max_streams=slots, max_queue=20, references=references, rules=RULES)


def same(ours: Any, theirs: Any) -> bool:
    """Equal to rounding, as far as theirs goes: ours keeps a last frame that only almost is the end."""
    ours, theirs = ours[: len(theirs)], np.clip(theirs, -1, 1)
    return len(ours) == len(theirs) and bool(np.abs(ours - theirs).max(initial=0.0) < TOLERANCE)


def after_sounds(loaded: Any, turns: list[Turn], sounds: list[Any]) -> Any:
    """The samples of greedy generate after turns given as sound."""
    prompt = build_prompt(turns, loaded.tokenizer, loaded.shapes)
    ids = prompt.ids[None]
    made = loaded.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        input_values=torch.cat(sounds).view(1, 1, -1),
        input_values_cutoffs=torch.tensor([[len(sound) for sound in sounds]]).cumsum(1),
        do_sample=False,
        depth_decoder_do_sample=False,
        max_new_tokens=FRAMES,
        output_audio=True,
    )
    return made[0].detach().numpy()


async def first_that_ends(engine: CsmEngine, **fields: Any) -> tuple[str, Any]:
    """A text, spoken in a conversation of its name, and its sound: only what ends by itself is context."""
    for index in range(20):
        text = f"Hello number {index}."
        sound, reason = await spoken(engine, asked(text, temperature=0.0, context_id=text, **fields))
        if reason == "eos" and len(sound):
            return text, sound
    raise AssertionError("no text ends by itself")


def as_said(loaded: Any, text: str, sound: Any) -> Turn:
    """The turn that transformers makes of a text."""
    prompt = build_prompt([Turn(0, text)], loaded.tokenizer, loaded.shapes)
    codes = loaded.model.generate(input_ids=prompt.ids[None], do_sample=False, max_new_tokens=FRAMES)
    return Turn(0, text, codes[0, : len(sound) // 1920])


def after_turns(loaded: Any, turns: list[Turn]) -> Any:
    """The samples of greedy generate after turns given as codes, which it takes as embeddings only."""
    context = build_prompt(turns, loaded.tokenizer, loaded.shapes)
    codes = torch.cat([turn.codes for turn in turns if turn.codes is not None])
    cutoffs = torch.tensor([[turn.codes.shape[0] for turn in turns if turn.codes is not None]]).cumsum(1)
    embeds = loaded.model._merge_input_ids_with_input_values(
        context.ids[None], torch.zeros(1, 1, len(codes) * 1920), cutoffs * 1920
    )["inputs_embeds"]
    at = (context.ids == loaded.shapes.audio_id).nonzero()[:, 0]
    embeds[0, at] = loaded.model.backbone_model.embed_tokens(codes[None])[0]
    made = loaded.model.generate(inputs_embeds=embeds, do_sample=False, max_new_tokens=FRAMES)[0]
    ended = (made == 0).all(dim=-1).nonzero()
    length = int(ended[0, 0]) if len(ended) else len(made)
    return loaded.model.codec_model.decode(made[:length].T[None]).audio_values[0, 0].detach().numpy()


async def test_what_the_caller_said_is_context_as_transformers_would_have_it(
    source: CsmSource, loaded: Any, voices: VoiceStore
) -> None:
    """After a voice's recording, both given to generate as sound."""
    voice = voices.all()[0]
    sounds = [torch.from_numpy(voice.samples()), torch.from_numpy(CALLER)]
    codes = [encode_recording(loaded.model.codec_model, sound) for sound in sounds]
    turns = [Turn(3, voice.transcript, codes[0]), Turn(9, "Can you hear me?", codes[1]), Turn(3, "I can.")]
    theirs = after_sounds(loaded, turns, sounds)
    async with ready(streaming(source, store=voices)) as engine:
        assert await engine.hear(HeardTurn("call", "Can you hear me?", 9, CALLER)) is True
        answer, _ = await spoken(engine, asked("I can.", speaker_id=3, temperature=0.0, context_id="call"))
        assert same(answer, theirs)
        elsewhere, _ = await spoken(engine, asked("I can.", speaker_id=3, temperature=0.0, context_id="x"))
        assert not same(answer, elsewhere)


@pytest.mark.parametrize("stolen", [False, True])
async def test_a_turn_heard_between_two_spoken_is_context(
    source: CsmSource, loaded: Any, stolen: bool
) -> None:
    """Read into the conversation's slot when it was heard, or anew when a stranger took that slot."""
    async with ready(streaming(source, slots=1)) as engine:
        text, first = await first_that_ends(engine)
        if stolen:
            await spoken(engine, asked("A stranger."))
        assert await engine.hear(HeardTurn(text, "What?", 9, CALLER)) is True
        held = any(key[0] == text for key in engine.worker._slots.held())
        assert held is not stolen
        answer, _ = await spoken(engine, asked("And then?", temperature=0.0, context_id=text))
        heard = Turn(9, "What?", encode_recording(loaded.model.codec_model, torch.from_numpy(CALLER)))
        said = as_said(loaded, text, first)
        assert same(answer, after_turns(loaded, [said, heard, Turn(0, "And then?")]))
        assert not same(answer, after_turns(loaded, [said, Turn(0, "And then?")]))


async def test_a_long_conversation_drops_its_oldest_turns_and_goes_on(source: CsmSource) -> None:
    """As many turns as fill the model's positions several times."""
    async with ready(streaming(source, slots=1)) as engine:
        for turn in range(12):
            assert await engine.hear(HeardTurn("call", f"Turn number {turn}.", 9, CALLER)) is True
            sound, _ = await spoken(engine, asked(f"Hello number {turn}.", seed=turn, context_id="call"))
            assert len(sound)
        kept, _ = engine.worker._conversations.turns("call", time.monotonic())
        assert 0 < len(kept) < 12
        assert kept[-1].text in ("Turn number 11.", "Hello number 11.")
        with pytest.raises(BadRequest, match="256 are kept"):
            await engine.hear(HeardTurn("call", "word " * 60, 9, CALLER))
        assert engine.worker._conversations.turns("call", time.monotonic())[0] == kept
        engine.forget("call")
        await spoken(engine, asked("One more."))
        assert len(engine.worker._conversations) == 0


async def test_the_same_speaker_sounds_the_same_on_every_call_whatever_becomes_of_the_voices(
    start, heard, source: CsmSource, tmp_path: Path
) -> None:
    """Voices come, go and change over REST while calls run."""
    store = open_voices(tmp_path / "voices")
    server = start(streaming(source, slots=3, store=store))
    engine = server.engine
    await server.until_health(lambda health: health["status"] == "healthy")

    async def says(text: str, **fields: Any) -> Any:
        """Samples, or the error."""
        async with server.connect() as socket:  # a call each
            await socket.send(json.dumps({"text": text, "temperature": 0, **fields}))
            got = await heard(socket)
        return np.frombuffer(got.pcm16, "<i2") / 32767 if got.frames else got.reply

    def form(name: str, sound: bytes, speaker: str) -> dict[str, Any]:
        data = {"name": name, "transcript": "What is said in it.", "speaker_id": speaker}
        return {"data": data, "files": {"recording": ("x.wav", sound, "audio/wav")}}

    talking: list[list[Any]] = [[], []]
    stop = asyncio.Event()

    async def caller(index: int) -> None:
        while not stop.is_set():
            talking[index].append(await says("How can I help?", speaker_id=index))

    async with asyncio.TaskGroup() as tasks, server.client() as http:
        for index in range(2):
            tasks.create_task(caller(index))
        juniper = await says("Hello.", speaker_id=0)
        assert same(await says("Hello.", speaker_id=0), juniper)
        assert same(await says("Hello.", speaker_id=5, voice="juniper"), juniper)
        assert not same(await says("Hello.", speaker_id=1), juniper)
        bare = await says("Hello.", speaker_id=7)
        assert (await http.post("/voices", **form("mara", REFERENCE, "7"))).status_code == 201
        mara = await says("Hello.", speaker_id=7)
        assert not same(mara, bare)
        assert same(await says("Hello.", voice="mara"), mara)
        for bad, status in (
            (form("mara", REFERENCE, ""), 409),
            (form("ole", REFERENCE, "7"), 409),
            (form("ole", REFERENCE[:40], ""), 400),
            (form("ole", b"no sound", ""), 400),
        ):
            answer = await http.post("/voices", **bad)
            assert answer.status_code == status and len(answer.json()["message"]) > 20
        digest = store.by_name("mara").digest  # type: ignore[union-attr]
        assert digest in engine.worker._stage._prefixes
        assert (await http.delete("/voices/mara")).status_code == 200
        gone = await says("Hello.", voice="mara")
        assert gone["error"] == "bad_request" and "'mara' is not known" in gone["message"]
        assert same(await says("Hello.", speaker_id=7), bare)
        assert digest not in engine.worker._stage._prefixes
        other = wav(pcm16_from_float(0.3 * np.sin(np.arange(90_000, dtype=np.float32) ** 1.3 / 900)))
        assert (await http.post("/voices", **form("mara", other, "7"))).status_code == 201
        assert not same(await says("Hello.", speaker_id=7), mara)
        assert same(await says("Hello.", speaker_id=0), juniper)
        stop.set()
    for sounds in talking:
        assert len(sounds) > 2 and all(same(sound, sounds[0]) for sound in sounds)
    assert not same(talking[0][0], talking[1][0])


async def test_a_voice_deleted_between_asking_and_reading_is_a_failure_of_that_request(
    source: CsmSource, voices: VoiceStore
) -> None:
    async with ready(streaming(source, slots=1, store=voices)) as engine:
        first = engine.open(asked("Hello.", speaker_id=3, seed=1))
        waiting = engine.open(asked("Hello.", speaker_id=3))
        voices.delete("mara")
        first.cancel()
        with pytest.raises(GenerationFailed, match="'mara' cannot be read"):
            await anext(waiting)
        assert len((await spoken(engine, asked("Hello.", speaker_id=3, seed=1)))[0])


async def test_turns_are_bounded_and_answered_whatever_happens(source: CsmSource) -> None:
    turn = HeardTurn("call", "What?", 9, CALLER)
    engine = streaming(source, slots=1)
    with pytest.raises(NotReady):
        await engine.hear(turn)
    async with ready(engine):
        answers = await asyncio.gather(*(engine.hear(turn) for _ in range(70)), return_exceptions=True)
        assert answers.count(True) == 64
        assert sum(isinstance(answer, Busy) for answer in answers) == 6
        hearing = asyncio.create_task(engine.hear(turn))
        vanished = asyncio.create_task(engine.hear(turn))
        await asyncio.sleep(0)
        vanished.cancel()
    assert await hearing in (True, False)
    assert not engine._hearing
    async with ready(chunked_engine(source, max_queue=1, references=VoiceStore())) as other:
        assert await other.hear(turn) is False
