"""Who waits when many call: `python benchmarks/many_callers.py --callers 256 --long 24`.

CSM's engine with a model of random weights. First all callers ask at the same moment; then some listen to a
text of four parts, while callers come by chance, `--rate` a second. Told: waits for the first sound, and gaps
of listeners who play from the first chunk on. The last line is JSON. Callers who come by chance alone:
`sesame-server bench --arrivals poisson`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time

import torch

from runpod_server.audio import SAMPLE_RATE_HZ, samples_in
from runpod_server.bench.playout import Playout
from runpod_server.bench.script import poisson_gaps, text_lasting
from runpod_server.bench.sizes import random_model
from runpod_server.bench.subject import Subject, quiet_libraries
from runpod_server.engine.csm import CsmEngine
from runpod_server.engine.request import SpeechRequest
from runpod_server.voices.store import VoiceStore

PARTS = 4


def now_ms() -> float:
    return 1000 * time.monotonic()


async def listened(engine: CsmEngine, text: str, audio_ms: int | None) -> Playout:
    playout = Playout(now_ms())
    request = SpeechRequest(text=text, request_id="bench", max_audio_ms=audio_ms)
    with engine.open(request) as stream:
        async for piece in stream:
            playout.hear(1000 * samples_in(piece) / SAMPLE_RATE_HZ, now_ms())
    return playout


def figures(playouts: list[Playout]) -> dict[str, float]:
    waits = sorted(each.first_audio_ms or 0.0 for each in playouts)
    return {
        "listeners": len(playouts),
        "first_p50_ms": round(waits[len(waits) // 2]),
        "first_p95_ms": round(waits[len(waits) * 95 // 100]),
        "first_worst_ms": round(waits[-1]),
        "with_gaps": sum(each.underruns > 0 for each in playouts),
        "gaps": sum(each.underruns for each in playouts),
        "longest_gap_ms": round(max(each.longest_gap_ms for each in playouts)),
    }


async def at_once(engine: CsmEngine, callers: int, audio_ms: int) -> dict[str, float]:
    text = text_lasting(audio_ms, 4)
    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(listened(engine, text, audio_ms)) for _ in range(callers)]
    return figures([each.result() for each in made])


async def long_and_short(engine: CsmEngine, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    long_text = " ".join([text_lasting(230 * 70, 1).strip() + "."] * PARTS)
    short, audio_ms = text_lasting(options.audio_ms, 4), options.audio_ms
    newcomers: list[asyncio.Task[Playout]] = []
    async with asyncio.TaskGroup() as tasks:
        listeners = [tasks.create_task(listened(engine, long_text, None)) for _ in range(options.long)]
        gaps = poisson_gaps(options.rate)
        while not all(each.done() for each in listeners):
            await asyncio.sleep(next(gaps))
            if engine.status().waiting < 50:
                newcomers.append(tasks.create_task(listened(engine, short, audio_ms)))
    return {
        "long": figures([each.result() for each in listeners]),
        "newcomers": figures([each.result() for each in newcomers]),
    }


async def measure(options: argparse.Namespace) -> dict[str, object]:
    loaded = random_model(options.size, torch.device("cpu"), torch.float32)
    subject = Subject(loaded, cuda_graphs=False, weights="full")
    engine, _ = subject.engine(
        options.callers, queue=options.callers, references=VoiceStore(), forced_frames=options.part_frames
    )
    await engine.load()
    try:
        await at_once(engine, 8, 400)  # what is slow the first time
        together = await at_once(engine, options.callers, options.audio_ms)
        return {"at once": together, **await long_and_short(engine, options)}
    finally:
        await engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="tiny", choices=["tiny", "middle", "1b"])
    parser.add_argument("--callers", type=int, default=256, help="at once; also the engine's slots")
    parser.add_argument("--long", type=int, default=24, help="listeners to a text of four parts")
    parser.add_argument("--rate", type=float, default=30.0, help="callers a second beside them")
    parser.add_argument("--audio-ms", type=int, default=2000, help="of sound for each caller")
    parser.add_argument("--part-frames", type=int, default=50, help="of 80 ms, in a part of the long text")
    options = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)
    load_before = os.getloadavg()[0]
    result = asyncio.run(measure(options))
    print(json.dumps({**result, "load": [load_before, os.getloadavg()[0]], "torch": torch.__version__}))


if __name__ == "__main__":
    main()
