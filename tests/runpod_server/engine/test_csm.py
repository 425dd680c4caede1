"""ENGINE=csm and ENGINE=csm-chunked, whole, on the real server, against transformers' own generate."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[csm]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[csm]'")

from runpod_server.engine.csm import CsmEngine, chunked_engine, csm_engine  # noqa: E402
from runpod_server.engine.csm_source import CsmSource  # noqa: E402
from runpod_server.engine.csm_stage import Stage  # noqa: E402
from runpod_server.engine.csm_worker import Rules, Worker  # noqa: E402
from runpod_server.engine.pace import PaceRules  # noqa: E402
from runpod_server.errors import BadRequest, Busy, EngineUnavailable, NotReady  # noqa: E402
from runpod_server.model.prompt import Turn, build_prompt, encode_recording  # noqa: E402
from runpod_server.model.weights import load_csm  # noqa: E402
from runpod_server.voices.store import VoiceStore  # noqa: E402
from tests.runpod_server.engine.speaking import TOLERANCE, asked, ready, spoken  # noqa: E402

FRAMES = 40
RULES = Rules(frame_limit=lambda text: FRAMES)


@pytest.fixture(scope="module")
def greedy(loaded: Any) -> dict[tuple[str, int], Any]:
    """What transformers makes of each, and whether it ends with a blip."""
    return {
        (f"Hello number {index}.", index): by_transformers(loaded, [Turn(index, f"Hello number {index}.")])
        for index in range(8)
    }


def streaming(source: CsmSource, *, slots: int = 4, queue: int = 64, store: Any = None) -> CsmEngine:
    return csm_engine(
        source, max_streams=slots, max_queue=queue, references=store or VoiceStore(), rules=RULES
    )


def one_by_one(source: CsmSource) -> CsmEngine:
    return chunked_engine(source, max_queue=20, references=VoiceStore())


@pytest.mark.parametrize("make", [streaming, one_by_one])
async def test_speed(source: CsmSource, make: Callable[[CsmSource], CsmEngine]) -> None:
    async with ready(make(source)) as engine:
        usual, _ = await spoken(engine, asked("Hello number 1.", temperature=0.0))
        for speed in (0.25, 0.5, 2.0, 4.0):
            made, reason = await spoken(engine, asked("Hello number 1.", temperature=0.0, speed=speed))
            assert len(made) == round(len(usual) / speed)
            assert reason in ("eos", "max_length")
            assert np.sqrt(np.mean(made**2)) > 0.3 * np.sqrt(np.mean(usual**2))


@pytest.mark.parametrize("speed", [0.25, 1.0, 4.0])
async def test_the_longest_sound_is_counted_as_it_is_heard(source: CsmSource, speed: float) -> None:
    async with ready(streaming(source)) as engine:
        made, reason = await spoken(
            engine, asked("Hello number 1.", speed=speed, max_audio_ms=80, temperature=0.0)
        )
    assert (len(made), reason) == (1920, "max_length")


def by_transformers(loaded: Any, turns: list[Turn], **more: Any) -> tuple[Any, bool]:
    """The samples of greedy generate, and whether only the last code of its last frame is not the end."""
    prompt = build_prompt(turns, loaded.tokenizer, loaded.shapes)
    config = {"do_sample": False, "max_new_tokens": FRAMES, "depth_decoder_do_sample": False}
    ids = prompt.ids[None]
    # Without a mask generate takes audio for padding: they share an id.
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **more}
    made = loaded.model.generate(**inputs, return_dict_in_generate=True, output_audio=True, **config)
    last = made.sequences[0, -1]
    return made.audio[0].detach().numpy(), bool((last[:-1] == 0).all() and last[-1] != 0)


def same(ours: Any, theirs: Any, *, prefix: bool = False) -> bool:
    """Equal to rounding; `prefix`: as far as theirs goes."""
    theirs = np.clip(theirs, -1, 1)
    if prefix:
        ours = ours[: len(theirs)]
    return len(ours) == len(theirs) and bool(np.abs(ours - theirs).max(initial=0.0) < TOLERANCE)


async def test_greedy_requests_through_the_server_are_transformers_own(
    start, heard, source: CsmSource, loaded: Any
) -> None:
    """Twelve at once on four slots, whoever comes and goes meanwhile."""
    server = start(streaming(source))
    await server.until_health(lambda health: health["status"] == "healthy")
    reasons = set()

    async def one(index: int) -> None:
        text, speaker = f"Hello number {index}.", index % 10
        async with server.connect() as socket:
            await socket.send(json.dumps({"text": text, "speaker_id": speaker, "temperature": 0}))
            got = await heard(socket)
        theirs, has_blip = by_transformers(loaded, [Turn(speaker, text)])
        assert same(np.frombuffer(got.pcm16, "<i2") / 32767, theirs, prefix=has_blip), text
        assert [len(frame) for frame in got.frames[:2]] == [3840, 9600]
        reasons.add(got.reply["reason"])

    async with asyncio.TaskGroup() as tasks:
        for index in range(12):
            tasks.create_task(one(index))
    assert reasons == {"eos", "max_length"}, "both ways to end must be among them"
    health = await server.until_health(lambda health: health["streams"]["active"] == 0)
    assert (health["engine"], health["device"], health["streams"]["capacity"]) == ("csm", "cpu", 4)


async def test_a_voice_is_context_as_transformers_would_have_it(
    source: CsmSource, loaded: Any, voices: VoiceStore
) -> None:
    voice = voices.all()[0]
    codes = encode_recording(loaded.model.codec_model, torch.from_numpy(voice.samples()))
    sound = torch.from_numpy(voice.samples()).view(1, 1, -1)
    turns = [Turn(3, voice.transcript, codes), Turn(3, "Hello there.")]
    theirs, has_blip = by_transformers(
        loaded, turns, input_values=sound, input_values_cutoffs=torch.tensor([[sound.shape[-1]]])
    )
    request = asked("Hello there.", speaker_id=3, temperature=0.0)
    async with ready(streaming(source, store=voices)) as engine:
        for _ in range(2):
            assert same((await spoken(engine, request))[0], theirs, prefix=has_blip)
        bare, _ = await spoken(engine, asked("Hello there.", speaker_id=4, temperature=0.0))
        assert not same(bare, theirs, prefix=has_blip)
        assert [(each.name, each.speaker_id) for each in engine.voices] == [("mara", 3)]
    async with ready(chunked_engine(source, max_queue=1, references=voices)) as engine:
        whole, _ = await spoken(engine, request)
        assert same(whole[: len(theirs)], theirs[: len(whole)])


async def test_a_frame_of_lag_changes_nothing(source: CsmSource) -> None:
    """As on a GPU, where a frame is collected while the next is made."""

    def engine(lag: int) -> CsmEngine:
        return CsmEngine(
            "csm",
            lambda hub: Worker(lambda: Stage(source.load(), slots=3, lag=lag), hub, rules=RULES),
            model="tiny",
            device="cpu",
            max_streams=3,
            max_queue=64,
            references=VoiceStore(),
            part_chars=20,
        )

    texts = [f"Hello number {index}. And one more sentence. And a third." for index in range(6)]
    sounds = []
    for lag in (0, 1):
        async with ready(engine(lag)) as each:
            got = await asyncio.gather(*(spoken(each, asked(text, seed=1)) for text in texts))
            sounds.append([samples for samples, _ in got])
            for text in texts[:2]:
                for turn in range(2):
                    said, _ = await spoken(each, asked(text[:15], seed=turn, context_id=text))
                    sounds[-1].append(said)
    for first, second in zip(*sounds, strict=True):
        assert same(first, second)


async def test_a_seed_gives_the_same_sound_whoever_else_speaks(source: CsmSource) -> None:
    request = asked("The same again, please.", seed=7)
    async with ready(streaming(source)) as engine:
        alone, _ = await spoken(engine, request)
        others = [spoken(engine, asked(f"Neighbour {index}.", speaker_id=index % 10)) for index in range(9)]
        among, *_ = await asyncio.gather(spoken(engine, request), *others)
        assert same(alone, among[0])
        different, _ = await spoken(engine, asked("The same again, please.", seed=8))
        assert not same(alone, different)


async def test_a_conversation_is_context(source: CsmSource, loaded: Any) -> None:
    """The second turn is as transformers makes it after the first, in the slot's cache or read anew."""
    async with ready(streaming(source, slots=1)) as engine:
        texts = [f"Hello number {index}." for index in range(12)]
        chosen = None
        for text in texts:  # one that ends by itself: only such are context
            first, reason = await spoken(engine, asked(text, temperature=0.0, context_id=text))
            if reason == "eos" and len(first):
                chosen = text
                break
        assert chosen is not None
        prompt = build_prompt([Turn(0, chosen)], loaded.tokenizer, loaded.shapes)
        codes = loaded.model.generate(input_ids=prompt.ids[None], do_sample=False, max_new_tokens=FRAMES)
        said = Turn(0, chosen, codes[0, : len(first) // 1920])
        turns = [said, Turn(0, "And then?")]
        context = build_prompt(turns, loaded.tokenizer, loaded.shapes)
        sound = torch.zeros(1, 1, (said.codes.shape[0]) * 1920)
        embeds = loaded.model._merge_input_ids_with_input_values(
            context.ids[None], sound, torch.tensor([[sound.shape[-1]]])
        )["inputs_embeds"]
        at = (context.ids == loaded.shapes.audio_id).nonzero()[:, 0]
        embeds[0, at] = loaded.model.backbone_model.embed_tokens(said.codes[None])[0]
        made = loaded.model.generate(inputs_embeds=embeds, do_sample=False, max_new_tokens=FRAMES)[0]
        kept, _ = await spoken(engine, asked("And then?", temperature=0.0, context_id=chosen))
        ended = (made == 0).all(dim=-1).nonzero()
        length = int(ended[0, 0]) if len(ended) else len(made)
        theirs = loaded.model.codec_model.decode(made[:length].T[None]).audio_values[0, 0].detach().numpy()
        assert same(kept, theirs, prefix=True)
        alone, _ = await spoken(engine, asked("And then?", temperature=0.0))
        assert not same(alone, kept)
        engine.forget(chosen)
        forgotten, _ = await spoken(engine, asked("And then?", temperature=0.0, context_id=chosen))
        assert same(forgotten, alone)


@pytest.mark.parametrize("chance", range(3))
async def test_greedy_is_transformers_own_whoever_comes_goes_stalls_or_is_cut_short(
    source: CsmSource, greedy: dict[tuple[str, int], Any], chance: int
) -> None:
    """Random arrivals, lengths, cancels and slow readers, on a number of slots that makes all buckets."""
    draw = random.Random(chance)
    rules = Rules(frame_limit=lambda text: FRAMES, pace=PaceRules(pause_ms=480, resume_ms=240))
    compared = 0

    async def one() -> None:
        nonlocal compared
        (text, speaker), (theirs, has_blip) = draw.choice(list(greedy.items()))
        fate = draw.choice(["whole", "whole", "limited", "cancelled", "slow"])
        max_audio_ms = draw.randint(80, 2500) if fate == "limited" else None
        leaves_after = draw.randint(0, 6) if fate == "cancelled" else 10_000
        got = b""
        await asyncio.sleep(draw.random() / 2)
        request = asked(text, speaker_id=speaker, temperature=0.0, max_audio_ms=max_audio_ms)
        with engine.open(request) as stream:
            if leaves_after == 0:
                return
            async for piece in stream:
                got += piece
                if fate == "slow":
                    await asyncio.sleep(draw.random() / 20)
                leaves_after -= 1
                if leaves_after == 0:
                    break
        ours = np.frombuffer(got, "<i2") / 32767
        length = len(theirs) - (1920 if has_blip else 0)  # there transformers stops a frame too early
        if fate in ("whole", "slow"):
            assert len(ours) == length or (has_blip and len(ours) > length)
        if max_audio_ms is not None:
            assert len(ours) == min(length, max_audio_ms * 24) or has_blip
        shared = min(len(ours), length)
        assert same(ours[:shared], theirs[:shared]), (text, fate)
        compared += shared

    engine = csm_engine(source, max_streams=5, max_queue=64, references=VoiceStore(), rules=rules)
    async with ready(engine):
        await asyncio.gather(*(one() for _ in range(30)))
        assert (engine.status().active, engine.status().waiting) == (0, 0)
    assert compared > 10 * FRAMES * 1920


async def test_who_comes_first_is_served_first_and_nobody_starves(source: CsmSource) -> None:
    async with ready(streaming(source, slots=1)) as engine:
        order: list[str] = []

        async def one(text: str) -> None:
            await spoken(engine, asked(text, temperature=0.0, max_audio_ms=240))
            order.append(text)

        texts = [f"Hello number {index}." for index in range(12)]
        async with asyncio.TaskGroup() as tasks:
            for text in texts:
                tasks.create_task(one(text))
        assert order == texts


async def test_cancelling_takes_effect_within_a_frame(source: CsmSource) -> None:
    async with ready(streaming(source, slots=1)) as engine:
        first = engine.open(asked("Hello number 1.", temperature=0.0))
        assert len(await anext(first)) == 3840
        stepped = engine.worker.frames_stepped
        second = engine.open(asked("Hello number 1.", temperature=0.0))
        first.cancel()
        assert (first.reason, engine.status().active, engine.status().waiting) == ("cancelled", 1, 0)
        assert len(await anext(second)) == 3840
        assert engine.worker.frames_stepped - stepped < FRAMES, "the first went on to its end"
        with pytest.raises(StopAsyncIteration):
            await anext(first)
        second.cancel()


async def test_a_client_who_does_not_read_is_paused_and_the_other_is_not(source: CsmSource) -> None:
    rules = Rules(frame_limit=lambda text: 60, pace=PaceRules(pause_ms=1600, resume_ms=800))
    async with ready(
        csm_engine(source, max_streams=2, max_queue=0, references=VoiceStore(), rules=rules)
    ) as engine:
        slow = engine.open(asked("Hello number 2.", speaker_id=2, temperature=0.0))
        await anext(slow)
        quick, _ = await spoken(engine, asked("Hello number 1.", speaker_id=1, temperature=0.0))
        assert len(quick) == 60 * 1920
        assert (slow.paused, slow.reason, engine.status().active) == (True, None, 1)
        assert sum(len(piece) for piece in slow._pieces) / 48 <= 1600 + 320
        rest = [piece async for piece in slow]
        assert slow.reason == "max_length"
        assert len(b"".join(rest)) == 59 * 3840


async def test_full_then_queued_then_busy(source: CsmSource) -> None:
    async with ready(streaming(source, slots=1, queue=1)) as engine:
        first, second = engine.open(asked("One.")), engine.open(asked("Two.", temperature=0.0))
        with pytest.raises(Busy):
            engine.open(asked("Three."))
        first.cancel()
        await second.admitted()
        assert [piece async for piece in second]


async def test_a_text_too_long_for_the_model_is_the_clients_mistake(source: CsmSource) -> None:
    engine = CsmEngine(
        "csm",
        lambda hub: Worker(lambda: source.open_stage(slots=1), hub, rules=RULES),
        model="tiny",
        device="cpu",
        max_streams=1,
        max_queue=1,
        references=VoiceStore(),
        part_chars=None,
    )
    async with ready(engine):
        with pytest.raises(BadRequest, match="512 positions"):
            await spoken(engine, asked("word " * 200))
        assert (engine.status().active, engine.status().state) == (0, "healthy")


async def test_chunked_is_generate_one_at_a_time(source: CsmSource, loaded: Any) -> None:
    engine = chunked_engine(source, max_queue=20, references=VoiceStore())
    with pytest.raises(NotReady):
        engine.open(asked("Hello."))
    async with ready(engine):
        assert (engine.name, engine.status().capacity) == ("csm-chunked", 1)
        got = await asyncio.gather(
            *(
                spoken(engine, asked(f"Hello number {index}.", speaker_id=index, temperature=0.0))
                for index in range(6)
            )
        )
        for index, (samples, _) in enumerate(got):
            theirs, has_blip = by_transformers(loaded, [Turn(index, f"Hello number {index}.")])
            if has_blip:
                theirs = theirs[:-1920]
            assert same(samples[: len(theirs)], theirs[: len(samples)])
        first, second = [
            (await spoken(engine, asked("Hello.", seed=4, max_audio_ms=1000)))[0] for _ in range(2)
        ]
        assert same(first, second)
        assert 0 < len(first) <= 24_000


async def test_chunked_stops_within_a_frame(source: CsmSource) -> None:
    async with ready(chunked_engine(source, max_queue=20, references=VoiceStore())) as engine:
        long = engine.open(asked("Hello number 4. " * 10, temperature=0.0))
        waits = asyncio.create_task(anext(long, None))
        await long.admitted()
        long.cancel()
        assert await waits is None
        assert engine.status().active == 0
        samples, _ = await spoken(engine, asked("Hello number 7.", speaker_id=7, temperature=0.0))
        assert len(samples) == 9 * 1920


@pytest.mark.parametrize("make", [streaming, one_by_one])
async def test_an_utterance_that_ends_before_its_first_frame_is_no_failure(
    tiny_folder: Path, tmp_path: Path, make: Callable[[CsmSource], CsmEngine]
) -> None:
    """Embeddings of text and weights of heads such that code 0 is always the likeliest."""
    folder = tmp_path / "mute"
    model = load_csm(tiny_folder, device="cpu", dtype=torch.float32).model
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.depth_decoder.codebooks_head.weight.zero_()  # all alike: the first is taken
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny_folder / name).read_bytes())
    async with ready(make(CsmSource(folder, device="cpu"))) as engine:
        for _ in range(2):
            samples, reason = await spoken(engine, asked("Hello.", temperature=0.0))
            assert (len(samples), reason) == (0, "eos")
        assert (engine.status().active, engine.status().state) == (0, "healthy")


async def test_a_long_text_is_one_stream_of_sound_without_a_seam(source: CsmSource, loaded: Any) -> None:
    """Its samples are those of one whole decode of all the codes of all its parts."""
    frames: list[Any] = []

    class Recording(Stage):
        def collect(self, pending: Any) -> Any:
            made = super().collect(pending)
            frames.extend(frame.codes for frame in made if not frame.is_eos)
            return made

    engine = CsmEngine(
        "csm",
        lambda hub: Worker(lambda: Recording(source.load(), slots=1), hub, rules=RULES),
        model="tiny",
        device="cpu",
        max_streams=1,
        max_queue=0,
        references=VoiceStore(),
        part_chars=30,
    )
    async with ready(engine):
        text = "Hello number 7. Hello number 8. Hello number 1. " * 3
        samples, _ = await spoken(engine, asked(text, speaker_id=7, seed=3))
    assert len(samples) == len(frames) * 1920 > 3 * FRAMES * 1920
    codes = torch.from_numpy(np.stack(frames)).T[None]
    with torch.no_grad():
        whole = loaded.model.codec_model.decode(codes).audio_values[0, 0].numpy()
    assert same(samples, whole)


async def test_loading_fails_in_a_sentence(tmp_path: Path) -> None:
    for model, says in ((tmp_path / "nothing", "nothing"), (tmp_path, "cannot be loaded")):
        engine = streaming(CsmSource(model, device="cpu"))
        with pytest.raises(EngineUnavailable, match=says):
            await engine.load()
        assert engine.status().state == "loading"
        await engine.close()


@pytest.mark.parametrize(
    "fields, says", [({"device": "tpu9"}, "DEVICE=tpu9"), ({"dtype": "int3"}, "DTYPE=int3")]
)
async def test_settings_that_are_none_are_named(tiny_folder: Path, fields: dict[str, str], says: str) -> None:
    engine = streaming(CsmSource(tiny_folder, **({"device": "cpu"} | fields)))  # type: ignore[arg-type]
    with pytest.raises(EngineUnavailable, match=says):
        await engine.load()
    await engine.close()
