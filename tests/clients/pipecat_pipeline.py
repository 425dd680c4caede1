"""Pipecat's OpenAITTSService in a pipeline.

Run by the environment that has it: a task as JSON on stdin, answers on stdout.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from client_script import kept, run
from pipecat.frames.frames import (
    EndFrame,
    ErrorFrame,
    Frame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.workers.runner import WorkerRunner


class Collector(FrameProcessor):
    """Keeps the sound that flows down, and the errors that flow up, and hands all on."""

    def __init__(self) -> None:
        super().__init__()
        self.pcm16 = b""
        self.rates_hz: set[int] = set()
        self.errors: list[str] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self.pcm16 += frame.audio
            self.rates_hz.add(frame.sample_rate)
        if isinstance(frame, ErrorFrame):
            self.errors.append(frame.error)
        await self.push_frame(frame, direction)


def spoken(case: dict[str, Any]) -> list[Frame]:
    """A text at once, or token by token as a language model writes it."""
    if "tokens" not in case:
        return [TTSSpeakFrame(case["text"])]
    tokens = [LLMTextFrame(token) for token in case["tokens"]]
    return [LLMFullResponseStartFrame(), *tokens, LLMFullResponseEndFrame()]


async def answer(task: dict[str, Any], case: dict[str, Any], sound: Path) -> dict[str, Any]:
    settings = OpenAITTSService.Settings(**case["options"])
    tts = OpenAITTSService(base_url=task["base_url"], api_key=task["api_key"], settings=settings)
    above, below = Collector(), Collector()
    rates = PipelineParams(audio_out_sample_rate=24000)
    worker = PipelineWorker(
        Pipeline([above, tts, below]), cancel_on_idle_timeout=False, enable_rtvi=False, params=rates
    )
    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def _on_pipeline_started(*_: object) -> None:
        started.set()

    async def feed() -> None:
        await started.wait()
        for frame in [*spoken(case), EndFrame()]:
            await worker.queue_frame(frame)

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), feed())
    if above.errors:
        return {"message": above.errors[0]}
    if below.rates_hz != {24000}:
        return {"message": f"rates of {sorted(below.rates_hz)}"}
    return kept(sound, below.pcm16)


run("pipecat-ai", answer)
