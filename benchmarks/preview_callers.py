"""Many callers at the same moment: `python benchmarks/preview_callers.py ws://127.0.0.1:8000/ws/generate`.

Each connects first; then all ask at once for the same text, read as fast as they can, and play from the first
chunk on. With several servers (an older version beside a newer one) these take turns, round by round, so that
their ratio is from one run. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import quantiles

from runpod_server.audio import SAMPLE_RATE_HZ, samples_in
from runpod_server.bench.playout import Playout
from runpod_server.client import Connection, connected

SENTENCE = "The old lighthouse keeper climbed the stairs every evening to light the lamp for the ships. "


@dataclass
class Heard:
    playout: Playout
    longest_silence_ms: float = 0.0  # between two chunks: clients give a server up after some seconds
    done_ms: float = 0.0


def now_ms() -> float:
    return 1000 * time.monotonic()


async def listened(connection: Connection, text: str) -> Heard:
    heard = Heard(Playout(now_ms()))
    async for piece in connection.pieces({"text": text}):
        at_ms, playout = now_ms(), heard.playout
        if playout.first_ms is not None:
            heard.longest_silence_ms = max(heard.longest_silence_ms, at_ms - playout.last_ms)
        playout.hear(1000 * samples_in(piece) / SAMPLE_RATE_HZ, at_ms)
    heard.done_ms = now_ms() - heard.playout.asked_ms
    return heard


async def at_once(url: str, callers: int, text: str) -> list[Heard]:
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connected(url)) for _ in range(callers)]
        return await asyncio.gather(*(listened(each, text) for each in connections))


def figures(all_heard: list[Heard]) -> dict[str, float]:
    first = [heard.playout.first_audio_ms or 0.0 for heard in all_heard]
    done = [heard.done_ms for heard in all_heard]
    return {
        "utterances": len(all_heard),
        "first_p50_ms": round(quantiles(first, n=20)[9]),
        "first_p95_ms": round(quantiles(first, n=20)[18]),
        "first_worst_ms": round(max(first)),
        "with_gaps": sum(heard.playout.underruns > 0 for heard in all_heard),
        "longest_gap_ms": round(max(heard.playout.longest_gap_ms for heard in all_heard)),
        "longest_silence_ms": round(max(heard.longest_silence_ms for heard in all_heard)),
        "done_p50_ms": round(quantiles(done, n=20)[9]),
        "done_worst_ms": round(max(done)),
    }


async def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    text = SENTENCE * options.sentences
    heard: dict[str, list[Heard]] = {url: [] for url in options.urls}
    for url in options.urls:
        await at_once(url, 2, text)  # what is slow the first time
    for _ in range(options.rounds):
        for url in options.urls:
            heard[url] += await at_once(url, options.callers, text)
    return {url: figures(each) for url, each in heard.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", nargs="+", help="of /ws/generate, one for each server")
    parser.add_argument("--callers", type=int, default=50)
    parser.add_argument("--sentences", type=int, default=4, help="of 5 to 6 s")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    result = asyncio.run(measure(options))
    print(json.dumps({**result, "load": [load_before, os.getloadavg()[0]]}))


if __name__ == "__main__":
    main()
