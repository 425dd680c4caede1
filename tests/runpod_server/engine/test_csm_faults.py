"""ENGINE=csm when things go wrong or go on for long, on the real stage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[csm]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install -e '.[csm]'")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from runpod_server.engine.csm import CsmEngine  # noqa: E402
from runpod_server.engine.csm_source import CsmSource  # noqa: E402
from runpod_server.engine.csm_stage import Stage  # noqa: E402
from runpod_server.engine.csm_worker import Rules, Worker  # noqa: E402
from runpod_server.engine.request import SpeechRequest  # noqa: E402
from runpod_server.errors import GenerationFailed, OutOfMemory, SpeechError  # noqa: E402
from runpod_server.voices.store import VoiceStore  # noqa: E402

SLOTS = 3
FRAMES = 30


@asynccontextmanager
async def engine_on(stage: Callable[[], Stage]) -> AsyncIterator[CsmEngine]:
    engine = CsmEngine(
        "csm",
        lambda hub: Worker(stage, hub, rules=Rules(frame_limit=lambda text: FRAMES)),
        model="tiny",
        device="cpu",
        max_streams=SLOTS,
        max_queue=20,
        references=VoiceStore(),
        part_chars=240,
    )
    await engine.load()
    try:
        yield engine
    finally:
        await engine.close()


async def say(engine: CsmEngine, text: str, **fields: Any) -> bytes:
    request = SpeechRequest(text=text, request_id=text, **{"temperature": 0.0, **fields})
    with engine.open(request) as stream:
        return b"".join([piece async for piece in stream])


async def ends(engine: CsmEngine, text: str) -> bytes | SpeechError:
    try:
        return await say(engine, text)
    except SpeechError as error:
        return error


def alike(one: Any, other: bytes) -> bool:
    """But for rounding, which differs a little with the size of the batch."""
    samples = [np.frombuffer(pcm16, "<i2").astype(int) for pcm16 in (one, other)]
    return len(one) == len(other) and bool(np.abs(samples[0] - samples[1]).max(initial=0) <= 3)


@pytest.mark.parametrize("lag", [0, 1])
async def test_a_step_that_fails_midway_fails_those_in_it_and_leaves_no_trace(
    source: CsmSource, lag: int
) -> None:
    """Those who waited for a slot, and all who come later, are spoken as if nothing had been."""

    class Breaking(Stage):
        breaks_at: tuple[int, ...] = ()
        steps = 0

        def step(self, slots: Any) -> Any:
            self.steps += 1
            pending = super().step(slots)  # the model has moved on when it fails
            if self.steps in self.breaks_at:
                raise RuntimeError("a kernel was lost")
            return pending

    stages: list[Breaking] = []

    def stage() -> Stage:
        stages.append(Breaking(source.load(), slots=SLOTS, lag=lag))
        return stages[0]

    texts = [f"Hello number {index}." for index in range(6)]
    async with engine_on(stage) as engine:
        alone = [await say(engine, text) for text in texts]
        stages[0].breaks_at = (stages[0].steps + 6,)
        heard = await asyncio.gather(*(ends(engine, text) for text in texts))
        failed = [each for each in heard if isinstance(each, GenerationFailed)]
        assert 1 <= len(failed) <= SLOTS
        assert all(each in failed or alike(each, whole) for each, whole in zip(heard, alone, strict=True))
        again = await asyncio.gather(*(say(engine, text) for text in texts))
        assert all(alike(each, whole) for each, whole in zip(again, alone, strict=True))
        assert (engine.status().active, engine.status().waiting, engine.status().state) == (0, 0, "healthy")


async def test_a_model_that_always_fails_is_degraded_until_it_speaks_again(
    source: CsmSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine_on(lambda: source.open_stage(slots=SLOTS)) as engine:

        def no_memory(self: Stage, slots: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

        with monkeypatch.context() as broken:
            broken.setattr("runpod_server.model.csm.CsmRunner.step", no_memory)
            for _ in range(3):
                assert engine.status().state == "healthy"
                with pytest.raises(OutOfMemory, match="MAX_STREAMS"):
                    await say(engine, "Hello.")
        assert engine.status().state == "degraded"
        assert await say(engine, "Hello number 1.")
        assert (engine.status().state, engine.status().active) == ("healthy", 0)


async def test_no_tensor_is_touched_on_the_event_loop(source: CsmSource) -> None:
    class Forbidden(TorchDispatchMode):  # of this thread alone
        def __torch_dispatch__(self, function: Any, *_: Any) -> Any:
            raise AssertionError(f"{function} on the event loop")

    async with engine_on(lambda: source.open_stage(slots=SLOTS)) as engine:
        with Forbidden():
            with pytest.raises(AssertionError, match="on the event loop"):
                torch.zeros(1)
            texts = [f"Hello number {index}. " * 20 for index in range(5)]
            sounds = await asyncio.gather(*(say(engine, text, context_id=text[:20]) for text in texts))
            cut = engine.open(SpeechRequest(text="Cut short.", request_id="x"))
            await anext(cut)
            cut.cancel()
            engine.forget(texts[0][:20])
        assert all(sounds)


async def test_a_conversation_of_thirty_turns_stays_within_the_model_and_its_wait_within_bounds(
    source: CsmSource,
) -> None:
    class Counting(Stage):
        read_now = 0
        most = 0

        def _append(self, slot: int, prompt: Any) -> None:
            super()._append(slot, prompt)
            self.read_now += prompt.positions

        def step(self, slots: Any) -> Any:
            pending = super().step(slots)
            self.most = max(self.most, *(self._runner.positions(slot) for slot in slots))
            return pending

    stages: list[Counting] = []

    def stage() -> Stage:
        stages.append(Counting(source.load(), slots=1))
        return stages[0]

    async with engine_on(stage) as engine:
        read, spoken_frames = [], 0
        for turn in range(30):
            stages[0].read_now = 0
            sound = await say(engine, f"Hello number {turn % 12}.", context_id="call", speaker_id=turn % 2)
            read.append(stages[0].read_now)
            spoken_frames += len(sound) // 3840
    assert spoken_frames + 30 * 20 > 512, "more was said than the model can hold"
    assert stages[0].most <= 512
    assert max(read) > 60, "what was said is read again, "
    assert max(read) <= 256 + 40, "but never more than half of the model's positions"
    assert max(read[-10:]) <= max(read[:20]) + 20
