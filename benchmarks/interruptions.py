"""How fast the agent falls silent for a caller, what is kept of its words, and what it wrongly takes for one.

In process, on a clock of its own: the real playout, ears, detector and recogniser, the embedded voice, and a
line that takes time both ways. First callers interrupt at random moments, then come sounds that are no
interruption: coughs, doors, noise, music, "uh-huh", echo. The last line is JSON; times are milliseconds.

    .venv/bin/python benchmarks/interruptions.py [--interruptions 200] [--sounds 12]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from hearing import FRAME_BYTES, Hearing, Voices, line_noise
from word_times import word_ends_ms

from backend.calls.hearing.listener import OwnVoice
from backend.core.backchannel import answers
from backend.core.g711 import Codec
from backend.core.percentile import percentile
from backend.core.playout import Playout, SendMedia
from backend.core.said import tokens
from backend.core.sentences import pieces
from backend.core.turns import BargeIn, TurnEnded

_FRAME_MS = 20
_SCRIPTS = (
    "Thank you for calling Harbor Dental. We are open from eight to five on weekdays, and on Saturdays until "
    "noon. You will find us on Maple Street, next to the library.",
    "Your appointment is on Tuesday at ten with Doctor Lee. Please bring your insurance card, and come ten "
    "minutes early, because there is a form that has to be filled in.",
    "The delivery left our warehouse this morning. The driver has your telephone number and will call you "
    "half an hour before arriving, so that somebody can open the door.",
)
_PHRASES = (
    "Sorry, I would like to book an appointment.",
    "Wait, is this where I book a visit?",
    "Hi, can I stop you there?",
    "Excuse me, I want to see a doctor.",
    "Actually, I want something else.",
    "Hello? I have a question.",
    "No, that is not what I meant.",
    "Stop, please.",
    "Can I speak to a person?",
    "Hold on a second, please.",
)
_ASIDES = ("Uh-huh.", "Mm-hmm.", "Yeah.", "Okay.", "Right.", "I see.", "Sure.", "Got it.")
_PITCHES = (1.18, 0.85, 1.4, 1.0)


@dataclass
class Line:
    """The carrier's end: plays what it is sent, clears, returns marks; takes `network_ms` either way."""

    network_ms: float
    arriving: deque[tuple[float, object]] = field(default_factory=deque)
    queue: bytearray = field(default_factory=bytearray)
    marks: deque[tuple[int, str]] = field(default_factory=deque)
    taken: int = 0
    received: int = 0
    played: bytearray = field(default_factory=bytearray)  # everything, silence too, since the line was up
    words: bytearray = field(default_factory=bytearray)  # only the speech

    def play(self, now_ms: float, on_mark: Callable[[str], None]) -> bytes:
        """The next frame."""
        while self.arriving and self.arriving[0][0] <= now_ms:
            match self.arriving.popleft()[1]:
                case bytes() as audio:
                    self.queue += audio
                    self.received += len(audio)
                case str() as mark:
                    self.marks.append((self.received, mark))
                case None:
                    self.received -= len(self.queue)
                    self.queue.clear()
                    self.marks.clear()
        frame = bytes(self.queue[:160])
        del self.queue[:160]
        self.taken += len(frame)
        self.words += frame
        while self.marks and self.marks[0][0] <= self.taken:
            on_mark(self.marks.popleft()[1])
        frame += Codec.PCMU.silence * (160 - len(frame))
        self.played += frame
        return frame

    def send(self, now_ms: float, what: object) -> None:
        """On its way."""
        self.arriving.append((now_ms + self.network_ms, what))


@dataclass
class Story:
    """What became of one utterance of the agent's."""

    script: str
    heard: str = ""
    words: bytes = b""
    silent_after_ms: float | None = None
    turn: str | None = None  # words that were taken for the caller's
    holds: int = 0
    held_ms: float = 0.0
    over: bool = False  # the agent was heard to the end


async def utter(
    hearing: Hearing, script: str, sounds: Sequence[bytes], caller: np.ndarray, starts_ms: float,
    network_ms: float, echo_db: float | None = None, echo_ms: int = 0,
) -> Story:  # fmt: skip
    """The agent says `script` (`sounds`: its pieces); the line carries `caller` from `starts_ms` on."""
    story = Story(script)
    playout, line = Playout(Codec.PCMU), Line(network_ms)
    ears = hearing.ears(OwnVoice(playout.loudness.loudest_dbfs, lambda: script))
    inbound: deque[bytes] = deque([line_noise(20, 1)[:FRAME_BYTES]] * int(network_ms // _FRAME_MS))
    zero_ms = ears.now_ms
    for piece, sound in zip(pieces(script), sounds, strict=True):
        playout.begin(1, piece.text)
        playout.push(Codec.PCMU.encode(sound))
        playout.end()
    playout.finish()
    told = 0
    held_from_ms: float | None = None
    for frame_number in range(int((sum(map(len, sounds)) / 16 + starts_ms + 8_000) / _FRAME_MS)):
        now_ms = zero_ms + frame_number * _FRAME_MS
        for send in playout.due(now_ms):
            line.send(now_ms, send.g711 if isinstance(send, SendMedia) else send.name)
        frame = line.play(now_ms, lambda name: playout.mark_returned(name, ears.now_ms))
        if frame.count(Codec.PCMU.silence) < 150 and story.turn is None and now_ms - zero_ms > starts_ms:
            story.silent_after_ms = now_ms + _FRAME_MS - zero_ms - starts_ms
        inbound.append(
            _mixed(caller, now_ms - zero_ms - starts_ms, line.played, echo_db, echo_ms, frame_number)
        )
        ears.agent_speaks = playout.busy(now_ms)
        await ears.hear(inbound.popleft())
        for _, event in ears.events[told:]:
            told += 1
            if isinstance(event, BargeIn):
                story.holds += 1
                held_from_ms = ears.now_ms
                if playout.hold(ears.now_ms):
                    line.send(ears.now_ms, None)
            elif isinstance(event, TurnEnded) and held_from_ms is not None:
                story.held_ms = max(story.held_ms, ears.now_ms - held_from_ms)
                heard = playout.heard(1, ears.now_ms).text
                if not event.text or (event.aside and not answers(event.text, "any", heard, script)):
                    playout.release(ears.now_ms)
                    held_from_ms = None
                    continue
                story.turn, story.heard = event.text, heard
        if story.turn is not None:
            break
        story.over = playout.heard(1, now_ms).complete and not playout.busy(now_ms)
        if story.over and now_ms - zero_ms > starts_ms + len(caller) / 8 + 1_500:
            break
    story.words = bytes(line.words)
    ears.close()
    return story


def _mixed(
    caller: np.ndarray, at_ms: float, played: bytearray, echo_db: float | None, echo_ms: int, number: int
) -> bytes:
    frame = np.frombuffer(line_noise(20, number % 50)[:FRAME_BYTES], "<i2").astype(np.float64)
    at = int(at_ms * 8)
    if 0 <= at < len(caller):
        sound = caller[at : at + 160]
        frame[: len(sound)] += sound
    if echo_db is not None:
        ends = len(played) - echo_ms * 8
        if ends >= 160:
            back = np.frombuffer(Codec.PCMU.decode(bytes(played[ends - 160 : ends])), "<i2")
            frame += back * 10 ** (echo_db / 20)
    return np.clip(np.rint(frame), -32768, 32767).astype("<i2").tobytes()


# --- sounds that are no caller -------------------------------------------------------------------------


def cough(seed: int) -> np.ndarray:
    """Two bursts, the second longer."""
    return np.concatenate(
        [_burst(seed, 120, 1_500, 4_000), np.zeros(640), _burst(seed + 1, 220, 1_100, 3_500)]
    )


def door(seed: int) -> np.ndarray:
    """A slam."""
    return _burst(seed, 300, 180, 14_000)


def _burst(seed: int, ms: int, hz: float, peak: float) -> np.ndarray:
    size = ms * 8
    noise = np.random.default_rng(seed).normal(0, 1, size)
    spectrum = np.fft.rfft(noise)
    at_hz = np.fft.rfftfreq(size, 1 / 8_000)
    shaped = np.fft.irfft(spectrum * np.exp(-(((at_hz - hz) / hz) ** 2)), size)
    envelope = np.minimum(np.arange(size) / 80, 1) * np.exp(-3 * np.arange(size) / size)
    return shaped * envelope * peak / np.abs(shaped * envelope).max()


def noise(seed: int, dbfs: float) -> np.ndarray:
    """A street, five seconds of it."""
    white = np.random.default_rng(seed).normal(0, 1, 40_000)
    spectrum = np.fft.rfft(white)
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(1, np.arange(len(spectrum)) / 100)), 40_000)
    return pink / np.sqrt(np.mean(pink**2)) * 32768 * 10 ** (dbfs / 20)


def music(seed: int) -> np.ndarray:
    """Chords, plucked, four seconds."""
    chance = random.Random(seed)
    at = np.arange(32_000) / 8_000
    sound = np.zeros(32_000)
    for beat in range(8):
        since = at - beat * 0.5
        ring = np.where(since >= 0, np.exp(-3 * np.clip(since, 0, None)), 0)
        for step in (0, 4, 7):
            hz = 220 * 2 ** ((chance.choice((0, 2, 5, 7, 9)) + step) / 12)
            sound += ring * (np.sin(2 * np.pi * hz * at) + 0.5 * np.sin(4 * np.pi * hz * at))
    return sound / np.sqrt(np.mean(sound**2)) * 32768 * 10 ** (-28 / 20)


# --- measuring -----------------------------------------------------------------------------------------


async def interruptions(
    hearing: Hearing, voices: Voices, agents: Sequence[tuple[str, list[bytes]]], count: int, network_ms: float
) -> list[tuple[Story, int]]:
    """Stories of callers who interrupt, with the words that were played."""
    chance, stories = random.Random(1), []
    ends: dict[str, list[float]] = {}
    for script, sounds in agents:
        ends[script], before_ms = [], 0.0
        for piece, sound in zip(pieces(script), sounds, strict=True):
            ends[script] += [before_ms + at_ms for at_ms in word_ends_ms(voices, piece.spoken, sound)]
            before_ms += len(sound) / 16
    for number in range(count):
        script, sounds = agents[number % len(agents)]
        length_ms = sum(map(len, sounds)) / 16
        caller = voices.sound(_PHRASES[number % len(_PHRASES)], _PITCHES[number % len(_PITCHES)])
        at_ms = chance.uniform(300, length_ms - 1_500)
        story = await utter(hearing, script, sounds, caller.astype(np.float64), at_ms, network_ms)
        played = sum(end_ms <= len(story.words) / 8 for end_ms in ends[script])
        stories.append((story, played))
        kept = len(tokens(story.heard))
        silent = "never" if story.turn is None else f"{story.silent_after_ms or 0:.0f}"
        print(
            f"{number:3} at {at_ms:5.0f}: silent {silent:>5}, kept {kept}, played {played}, {story.turn!r}",
            flush=True,
        )
    return stories


async def false_alarms(
    hearing: Hearing, voices: Voices, agents: Sequence[tuple[str, list[bytes]]], count: int, network_ms: float
) -> dict[str, dict[str, float | int]]:
    """By kind of sound: how often it was taken for words, how often we only hesitated, and for how long."""
    chance = random.Random(2)
    nothing = np.zeros(0)

    def aside(number: int) -> np.ndarray:
        text = _ASIDES[number % len(_ASIDES)]
        return voices.sound(text, _PITCHES[number % len(_PITCHES)]).astype(np.float64)

    kinds: dict[str, Callable[[int], np.ndarray]] = {
        "cough": cough,
        "door": door,
        "noise_15_db": lambda n: noise(n, -35),
        "noise_5_db": lambda n: noise(n, -25),
        "music": music,
        "backchannel": aside,
        "echo_20_db": lambda n: nothing,
        "echo_30_db": lambda n: nothing,
        "echo_12_db": lambda n: nothing,
    }
    figures: dict[str, dict[str, float | int]] = {}
    for kind, make in kinds.items():
        stories = []
        for number in range(count):
            script, sounds = agents[number % len(agents)]
            echo_db = -float(kind.split("_")[1]) if kind.startswith("echo") else None
            story = await utter(
                hearing, script, sounds, make(number), chance.uniform(800, 5_000), network_ms,
                echo_db, (50, 120, 250, 400)[number % 4],
            )  # fmt: skip
            stories.append(story)
            if story.turn is not None:
                print(f"{kind} {number} was taken for {story.turn!r}", flush=True)
        held = [story.held_ms for story in stories if story.holds]
        figures[kind] = {
            "sounds": count,
            "taken_for_words": sum(story.turn is not None for story in stories),
            "hesitated": len(held),
            "hesitated_ms_p50": round(percentile(held, 50)) if held else 0,
            "said_to_the_end": sum(story.over for story in stories),
        }
        print(kind, figures[kind], flush=True)
    return figures


async def measure(options: argparse.Namespace) -> dict[str, object]:
    voices = Voices()
    agents = [
        (script, [voices.sound(piece.spoken).tobytes() + line_noise(200, 5, 0.0) for piece in pieces(script)])
        for script in _SCRIPTS
    ]
    async with Hearing(options.recognition_ms) as hearing:
        stories = await interruptions(hearing, voices, agents, options.interruptions, options.network_ms)
        alarms = await false_alarms(hearing, voices, agents, options.sounds, options.network_ms)
    silent = [story.silent_after_ms or 0.0 for story, _ in stories if story.turn is not None]
    off = [abs(len(tokens(story.heard)) - played) for story, played in stories if story.holds == 1]
    return {
        "benchmark": "interruptions",
        "network_ms": options.network_ms,
        "recognition_ms": options.recognition_ms,
        "load": round(os.getloadavg()[0], 1),
        "interruptions": len(stories),
        "missed": sum(story.turn is None for story, _ in stories),
        "silent_ms": {f"p{p}": round(percentile(silent, p)) for p in (50, 95, 100)} if silent else None,
        "words_off": {str(n): off.count(n) for n in sorted(set(off))},
        "false_alarms": alarms,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interruptions", type=int, default=200)
    parser.add_argument("--sounds", type=int, default=12, help="of every kind that is no interruption")
    parser.add_argument("--network-ms", type=float, default=20.0, help="to the line, and back")
    parser.add_argument("--recognition-ms", type=float, default=90.0)
    print(json.dumps(asyncio.run(measure(parser.parse_args()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
