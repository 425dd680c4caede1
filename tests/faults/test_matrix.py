"""Every fault of every speech route, on real sockets: what the caller hears, recognised from the line.

In each cell a route fails in its own way while it says a sentence, and another finishes it. The sound
is real, the line plays on a clock that leaps, the cells run side by side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pytest

from backend.calls.boards.route_board import RouteBoard
from backend.calls.ports import RoutePlan, SpeechRoute
from backend.calls.speaking.speaker import Speaker, Utterance
from backend.calls.speaking.voice import Voice
from backend.core.failover import Patience
from backend.core.g711 import Codec
from backend.core.health import RouteKey
from backend.core.said import likeness, tokens
from backend.core.speech import RouteName
from backend.errors import SpeechError
from backend.stt.local import LocalTranscriber
from backend.tts.elevenlabs_rest import ElevenLabsRestService
from backend.tts.elevenlabs_ws import ElevenLabsWebSocketService
from backend.tts.sesame_rest import SesameRestService
from backend.tts.sesame_ws import SesameWebSocketService
from tests.faults.line import HeardLine
from tests.faults.servers import Fault, FaultyServer, Service, chunk_count, faulty, healthy, speech

TEXT = "Please bring your insurance card so that we can find your record quickly."
FIRST_AUDIO_MS = 3000.0
PATIENCE = Patience(first_audio_ms=FIRST_AUDIO_MS)
SIDE_BY_SIDE = 10

MAKERS: dict[Service, Callable[[str], SpeechRoute]] = {
    "sesame_ws": lambda url: SesameWebSocketService(url, api_key="key"),
    "sesame_rest": lambda url: SesameRestService(url, api_key="key"),
    "elevenlabs": lambda url: ElevenLabsWebSocketService(url, api_key="key", voice_id="mara"),
    "elevenlabs_rest": lambda url: ElevenLabsRestService(url, api_key="key", voice_id="mara"),
}
STANDBY: dict[Service, Service] = {
    "sesame_ws": "sesame_rest",
    "sesame_rest": "elevenlabs",
    "elevenlabs": "sesame_ws",
    "elevenlabs_rest": "sesame_ws",
}


def faults_of(service: Service) -> list[Fault]:
    ks = range(chunk_count(service, TEXT) + 1)
    some = sorted({0, 1, 2, len(ks) // 2, len(ks) - 1})
    return [
        Fault("refuse"),
        Fault("silence"),
        Fault("tls"),
        *(Fault("http", status=status) for status in (401, 429, 500)),
        *(Fault("close", k) for k in ks),
        *(Fault("stall", k) for k in some),
        *(Fault("half_closed", k) for k in some[1:4]),
        Fault("slow"),
        Fault("no_audio"),
        *(Fault("early", k) for k in (1, 2, len(ks) // 4)),  # more might be honest haste: an ear is asked
        *(Fault("error", k) for k in some[:3]),
        *(Fault("malformed", k) for k in some[:3]),
        Fault("noise"),
    ]


@dataclass(frozen=True)
class Outcome:
    """What a caller heard of one cell."""

    service: Service
    fault: Fault
    text: str
    gap_ms: float
    first_audio_ms: float
    spoken: list[tuple[str, str]]
    heard_text: str

    def __str__(self) -> str:
        return f"{self.service} {self.fault}: {self.text!r}, gap {self.gap_ms:.0f} ms, {self.spoken}"


def now_ms() -> float:
    return asyncio.get_running_loop().time() * 1000


def plan(server: FaultyServer) -> RoutePlan:
    name: RouteName = server.service  # type: ignore[assignment]
    return RoutePlan(RouteKey(name, server.url), "mara", lambda: MAKERS[server.service](server.url))


@pytest.fixture(scope="module")
def ears() -> Iterator[LocalTranscriber]:
    transcriber = LocalTranscriber()
    yield transcriber
    transcriber.close()


async def say(voice: Voice, line: HeardLine) -> Utterance:
    speaker = Speaker(line.send, voice, codec=Codec.PCMU, clock=now_ms)
    line.on_mark = speaker.mark_returned
    sender = asyncio.create_task(speaker.run())
    try:
        return await speaker.say(TEXT)
    finally:
        sender.cancel()
        await asyncio.wait([sender])
        line.close()


async def connected(voice: Voice) -> None:
    with suppress(SpeechError):
        await voice.connect()


async def measured_rate(service: Service) -> float:
    """How fast the servers' voice speaks, as a process knows from earlier calls."""
    board = RouteBoard(now_ms)
    async with healthy(service) as server:
        voice = Voice([plan(server)], board=board, clock=now_ms)
        await say(voice, HeardLine())
        await voice.aclose()
        rate = board.rate_ms_per_char(plan(server).key, "mara")
    assert rate is not None
    return rate


async def cell(service: Service, fault: Fault, rate: float, ears: LocalTranscriber) -> Outcome:
    async with (
        faulty(service, fault, pace=3) as broken,
        healthy(STANDBY[service], pace=6) as standby,
        asyncio.timeout(40),
    ):
        board = RouteBoard(now_ms)
        board.learn(plan(broken).key, "mara", characters=100, ms=100 * rate)
        voice = Voice(
            [plan(broken), plan(standby)],
            board=board,
            clock=now_ms,
            patience=PATIENCE,
            ears=ears,
        )
        try:
            # While the telephone rings: a server out of reach is found out before anybody speaks.
            connecting = asyncio.create_task(connected(voice))
            await asyncio.wait([connecting], timeout=1.0)
            line = HeardLine()
            said = await say(voice, line)
        finally:
            connecting.cancel()
            await asyncio.wait([connecting])
            await voice.aclose()
        return Outcome(
            service,
            fault,
            await recognised(line, ears),
            sum(line.gaps_ms),
            line.first_audio_ms or 0.0,
            [(each.route, each.text) for each in said.spoken],
            said.heard_text,
        )


def word_errors(heard: str) -> int:
    """Words lost, added or not understood, of the whole text."""
    script, ear = tokens(TEXT), tokens(heard)
    row = [float(at) for at in range(len(script) + 1)]
    for word in ear:
        following = [row[0] + 1]
        for at, token in enumerate(script, start=1):
            miss = 0.0 if likeness(word, token) > 0.6 else 1.0
            following.append(min(row[at - 1] + miss, row[at] + 1, following[-1] + 1))
        row = following
    return round(row[-1])


async def recognised(line: HeardLine, ears: LocalTranscriber) -> str:
    """The words on the line. Gaps are counted apart: a recogniser stumbles over one where people do not."""
    text = await ears.transcribe(line.heard)
    if word_errors(text) <= 1:
        return text
    spoken = line.spoken
    return min([text, *[await ears.transcribe(sound) for sound in (spoken, to_the_last_sound(spoken))]],
               key=word_errors)  # fmt: skip


def to_the_last_sound(pcm16_8k: bytes) -> bytes:
    """Without the quiet at the end, in which the recogniser now and then hears "Thank you"."""
    audible = np.flatnonzero(np.abs(np.frombuffer(pcm16_8k, "<i2").astype(np.int32)) > 300)
    return pcm16_8k[: 2 * (int(audible[-1]) + 800)] if len(audible) else b""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("service", list(MAKERS))
async def test_every_word_is_heard_once(service: Service, ears: LocalTranscriber) -> None:
    places = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(fault: Fault) -> Outcome:
        async with places:
            return await cell(service, fault, rate, ears)

    words = TEXT.split()
    for at in range(len(words)):
        speech(" ".join(words[at:]))  # made beforehand: the servers' voice would hold up the event loop
    faults = faults_of(service)
    rate = await measured_rate(service)
    outcomes = await asyncio.gather(*map(one, faults))
    for outcome in outcomes:
        print(outcome)
    for outcome in outcomes:
        assert word_errors(outcome.text) <= 1, f"a word at the join at most: {outcome}"
        assert outcome.heard_text == TEXT, f"the record is of the whole text: {outcome}"
        assert " ".join(text for _, text in outcome.spoken if text) == TEXT, f"who spoke what: {outcome}"
        is_over = outcome.fault.after_chunks > 0.75 * chunk_count(service, TEXT)  # the rest was silence
        assert is_over or outcome.spoken[-1][0] == STANDBY[service], outcome
    silent = {"silence", "stall", "half_closed"}
    gaps = sorted(each.gap_ms for each in outcomes if each.fault.kind not in silent)
    waits = sorted(each.gap_ms for each in outcomes if each.fault.kind in silent)
    print(f"{service}: gaps {gaps}, waits {waits}")
    # To wait for a deadline where something happened would take longer than either. The clock is exact: it
    # stands still for what takes time on this machine alone, as finding the word at which a voice broke off.
    assert gaps[-1] < FIRST_AUDIO_MS / 6
    assert waits[-1] < FIRST_AUDIO_MS / 5
