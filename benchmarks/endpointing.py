"""When is the caller done? Spoken sentences through the real detector and recogniser, faster than real time.

    .venv/bin/python benchmarks/endpointing.py [--recognition-ms 90] [--only slow] [--noise-db -15]
        [--turn-model FILE]

Every caller has ears of their own. Sentences are put together from parts with pauses between, over μ-law.
A turn that ends before the last part is a cut-off; mended, when the caller goes on so soon that an answer
heard `--answer-ms` after the end of the turn is taken back. The last line is JSON; times are milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from endpointing_suite import CALLERS, Caller
from hearing import Hearing, Said, Voices, line_noise

from backend.calls.talking.undo import HEARD_MS
from backend.core.percentile import percentile
from backend.core.turns import TurnEnded


@dataclass
class Outcome:
    """What became of one sentence."""

    kind: str
    said: str
    cut_off: bool
    waited_ms: float | None
    heard: list[str] = field(default_factory=list)
    mended: bool = False


async def measure(options: argparse.Namespace) -> list[Outcome]:
    voices = Voices()
    outcomes = []
    async with Hearing(options.recognition_ms, options.turn_model) as hearing:
        for number, caller in enumerate(CALLERS):
            if options.only and options.only not in caller.kind:
                continue
            outcomes += await call(hearing, voices, caller, number, options)
    return outcomes


async def call(
    hearing: Hearing, voices: Voices, caller: Caller, number: int, options: argparse.Namespace
) -> list[Outcome]:
    """One caller's sentences, one after another, each answered in between."""
    chance = random.Random(number)
    ears = hearing.ears()
    await ears.hear(line_noise(600, number))
    outcomes = []
    for sentence in caller.sentences:
        ears.expects(sentence.expects)
        said = voices.say(sentence.parts, chance, caller)
        before = len(ears.ended)
        speech = said.pcm16 if options.noise_db is None else noisy(said, options.noise_db)
        await ears.hear(speech)
        ended_at_ms = ears.now_ms - said.tail_ms
        await ears.until_ended(before)
        new = ears.ended[before:]
        last = new[-1] if new else None
        early = [turn for turn, at in zip(new, ears.ended_at_ms[before:], strict=True) if at < ended_at_ms]
        outcome = Outcome(
            caller.kind, " / ".join(sentence.parts), bool(early),
            None if last is None else ears.ended_at_ms[-1] - ended_at_ms, [turn.text for turn in new],
            all_go_on(new, ears.ended_at_ms[before:], options.answer_ms),
        )  # fmt: skip
        outcomes.append(outcome)
        if options.verbose or outcome.cut_off:
            waited = "never" if outcome.waited_ms is None else f"{outcome.waited_ms:.0f}"
            print(
                f"{'CUT' if early else '   '} {caller.kind:10} {waited:>5} {outcome.said!r} → {outcome.heard}"
            )
        ears.agent_speaks = True  # an answer
        await ears.hear(line_noise(500, number))
        ears.agent_speaks = False
        await ears.hear(line_noise(300, number))
    ears.close()
    return outcomes


def all_go_on(turns: Sequence[TurnEnded], ended_at_ms: Sequence[float], answer_ms: float) -> bool:
    """Whether each turn is taken for the rest of the one before, as it is in a call."""
    return all(
        following.started_ms <= at_ms + answer_ms + HEARD_MS and not following.aside
        for at_ms, following in zip(ended_at_ms, turns[1:], strict=False)
        if following.text
    )


def noisy(said: Said, noise_db: float) -> bytes:
    """The same before a noise that loud against the speech."""
    speech = np.frombuffer(said.pcm16, "<i2").astype(np.float64)
    level = float(np.sqrt(np.mean(speech**2))) * 10 ** (noise_db / 20)
    noise = np.random.default_rng(zlib.crc32(said.text.encode())).normal(0, level, len(speech))
    return np.clip(np.rint(speech + noise), -32768, 32767).astype("<i2").tobytes()


def kinds(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, list[Outcome]]]:
    """By kind of sentence."""
    for kind in dict.fromkeys(outcome.kind for outcome in outcomes):
        yield kind, [outcome for outcome in outcomes if outcome.kind == kind]


def figures(outcomes: Sequence[Outcome]) -> dict[str, float | int]:
    """Sentences, those cut off, and the waits after the others."""
    waits = [o.waited_ms for o in outcomes if o.waited_ms is not None and not o.cut_off]
    cut = sum(outcome.cut_off for outcome in outcomes)
    return {
        "sentences": len(outcomes),
        "cut_off": cut,
        "cut_off_percent": round(100 * cut / len(outcomes), 1) if outcomes else 0,
        "mended": sum(outcome.cut_off and outcome.mended for outcome in outcomes),
        "wait_p50": round(percentile(waits, 50)) if waits else 0,
        "wait_p95": round(percentile(waits, 95)) if waits else 0,
        "never_ended": sum(o.waited_ms is None for o in outcomes),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recognition-ms", type=float, default=90.0, help="how long a recognition takes")
    parser.add_argument(
        "--answer-ms", type=float, default=20.0, help="end of turn to the answer's first sound"
    )
    parser.add_argument("--only", help="kinds of caller with this in their name")
    parser.add_argument("--noise-db", type=float, help="background noise against the speech, e.g. -10")
    parser.add_argument("--turn-model", type=Path, help="a Smart Turn 3 that has a say, an ONNX file")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    outcomes = asyncio.run(measure(options))
    complete = [o for o in outcomes if o.kind in ("complete", "yes_no")]
    result = {
        "benchmark": "endpointing",
        "recognition_ms": options.recognition_ms,
        "answer_ms": options.answer_ms,
        "noise_db": options.noise_db,
        "turn_model": options.turn_model.name if options.turn_model else None,
        "load": round(os.getloadavg()[0], 1),
        "all": figures(outcomes),
        "after_complete_sentences": figures(complete),
        **{kind: figures(some) for kind, some in kinds(outcomes)},
    }
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
