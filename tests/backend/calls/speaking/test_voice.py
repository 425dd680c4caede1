"""One call's voice, with routes that do as scripted and an outlet that keeps account."""

from __future__ import annotations

import asyncio
import audioop
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from backend.calls.boards.route_board import RouteBoard
from backend.calls.ports import Recording, RoutePlan
from backend.calls.speaking.voice import Voice
from backend.core.failover import Patience
from backend.core.health import RouteKey
from backend.core.speech import CharMark, Piece, Sound, plain_piece
from backend.errors import SpeechError, SpeechFailure
from tests.backend.calls.fakes import ENDLESS, Script, ScriptedRoute, now_ms, plans_for, tone, until, voice_of

TEXT = "One two three four five six seven eight nine ten."
PIECE = plain_piece(TEXT)
GONE = SpeechError("the server is gone", route="sesame_ws", reason="closed")
QUICK = Patience(first_audio_ms=80, stall_ms=60, switch_ms=50)


def failing(reason: SpeechFailure) -> SpeechError:
    return SpeechError(f"it says {reason}", route="sesame_ws", reason=reason)


@dataclass
class Ledger:
    """An outlet that writes down what it is told. Nothing is sent before `sent_ms` says so."""

    lead: float = 0.0
    pieces: list[list[Any]] = field(default_factory=list)  # [text, route, reason, bytes of sound, ended]
    sendable: float = 0.0  # of the last put sound, how much can still be taken back
    said_elsewhere: list[str] = field(default_factory=list)

    def begin(self, text: str, route: str, reason: str | None) -> None:
        self.pieces.append([text, route, reason, 0, False])

    async def put(self, g711: bytes) -> None:
        self.pieces[-1][3] += len(g711)

    def amend(self, text: str) -> None:
        self.pieces[-1][0] = text

    def take_back(self, ms: float) -> float:
        taken = max(0.0, min(ms, self.sendable, self.pieces[-1][3] / 8))
        self.pieces[-1][3] -= round(taken * 8)
        return taken

    def end(self) -> None:
        self.pieces[-1][4] = True

    def lead_ms(self) -> float:
        return self.lead

    async def elsewhere(self, text: str, reason: str | None, speak: Callable[[], Awaitable[None]]) -> None:
        await speak()
        self.said_elsewhere.append(text)

    @property
    def said(self) -> list[tuple[str, str]]:
        """(route, text) of what was spoken."""
        assert all(piece[4] for piece in self.pieces), "every piece was ended"
        return [(piece[1], piece[0]) for piece in self.pieces if piece[0]]

    @property
    def words(self) -> str:
        return " ".join(text for _, text in self.said)


@dataclass
class Ears:
    """Hears what it is told to hear."""

    hears: str | Exception | None
    listened_ms: list[float] = field(default_factory=list)

    async def transcribe(self, pcm16_8k: bytes) -> str:
        self.listened_ms.append(len(pcm16_8k) / 16)
        if self.hears is None:
            await asyncio.Event().wait()
        if isinstance(self.hears, Exception):
            raise self.hears
        return self.hears or ""


class Second(ScriptedRoute):
    name = "elevenlabs"


@asynccontextmanager
async def speaking(*routes: ScriptedRoute, **more: Any) -> AsyncIterator[Voice]:
    voice = voice_of(*routes, **more)
    try:
        async with asyncio.timeout(10):
            yield voice
    finally:
        await voice.aclose()
    assert all(script.state != "running" for route in routes for script in route.scripts.values())


def says(ms: float, *then: Any) -> ScriptedRoute:
    return ScriptedRoute({TEXT: Script([tone(ms), *then])})


async def test_one_route_says_it_all() -> None:
    out = Ledger()
    async with speaking(says(2500), Second()) as voice:
        await voice.say(PIECE, out)
    assert out.said == [("sesame_ws", TEXT)]
    assert out.pieces[0][3] == 20_000


async def test_the_rest_is_said_by_the_next_route() -> None:
    out, second = Ledger(), Second()
    # 50 characters of 62 ms and a pause: 1700 ms is about half.
    async with speaking(says(1700, GONE), second) as voice:
        await voice.say(PIECE, out, before="Well.")
    assert [route for route, _ in out.said] == ["sesame_ws", "elevenlabs"]
    assert out.words == TEXT
    assert out.pieces[1][2] == "closed"
    assert 3 <= len(out.pieces[0][0].split()) <= 7
    assert second.befores == [f"Well. {out.pieces[0][0]}"], "the next voice knows what was said before"


@pytest.mark.parametrize("reason", ["unreachable", "unauthorized", "quota", "busy", "no_audio", "timeout"])
async def test_a_route_that_says_nothing_is_left_for_the_next(reason: SpeechFailure) -> None:
    out = Ledger()
    async with speaking(ScriptedRoute({TEXT: Script([failing(reason)])}), Second()) as voice:
        await voice.say(PIECE, out)
    assert out.said == [("elevenlabs", TEXT)]
    assert out.pieces[0][2] == reason


class Mending(ScriptedRoute):
    """Fails as long as it is told to, at its first words, and when it is connected to."""

    def __init__(self, *failures: SpeechError) -> None:
        super().__init__({})
        self.failures, self.connections = list(failures), 0

    async def connect(self) -> None:
        self.connections += 1
        if self.failures:
            raise self.failures.pop(0)

    async def speak(self, text: str, *, before: str = "") -> AsyncGenerator[Sound]:
        if self.failures:
            raise self.failures.pop(0)
        yield Sound(tone(2500), "pcm16", 24_000)


def asked_anew(*routes: ScriptedRoute, board: RouteBoard | None = None, **more: Any) -> Voice:
    plans = [RoutePlan(RouteKey(route.name, "here"), "v", lambda route=route: route) for route in routes]
    plans[0] = replace(plans[0], asked_anew=True)
    return Voice(plans, board=board or RouteBoard(now_ms), clock=now_ms, **more)


@pytest.mark.parametrize("reason", ["closed", "no_audio", "generation_failed", "unreachable"])
async def test_a_voice_that_went_wrong_once_is_asked_anew_before_another(reason: SpeechFailure) -> None:
    out, first, second = Ledger(), Mending(failing(reason)), Second()
    voice = asked_anew(first, second)
    await voice.say(PIECE, out)
    await voice.aclose()
    assert out.said == [("sesame_ws", TEXT)]
    assert second.asked == []


async def test_a_voice_that_spoke_well_when_asked_anew_says_what_follows_too() -> None:
    out, first, second = Ledger(), Mending(GONE), Second()
    voice = asked_anew(first, second)
    await voice.say(PIECE, out)
    await voice.say(plain_piece("And more."), out)
    await voice.aclose()
    assert out.said == [("sesame_ws", TEXT), ("sesame_ws", "And more.")]
    assert second.asked == []


class Counts:
    """What a route board tells of attempts that broke off."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, int]] = []

    def speech_request(self, route: str, outcome: str) -> None:
        """Of no concern."""

    def speech_first_audio(self, route: str, seconds: float) -> None:
        """Of no concern."""

    def speech_failed_over(self, where: str, words_resumed: int) -> None:
        self.told.append(("failed over", where, words_resumed))

    def speech_retried(self, where: str, words_resumed: int) -> None:
        self.told.append(("retried", where, words_resumed))


async def _carrier_says(text: str) -> None:
    """At once."""


@pytest.mark.parametrize(
    ("failures", "routes", "more", "told"),
    [
        ([GONE], 2, {}, [("retried", "begin", 10)]),
        ([GONE, GONE], 2, {}, [("retried", "begin", 10), ("failed over", "begin", 10)]),
        ([failing("timeout")], 2, {}, [("failed over", "begin", 10)]),
        (
            [GONE, GONE],
            1,
            {"last_resort": _carrier_says},
            [("retried", "begin", 10), ("failed over", "begin", 10)],
        ),
        ([failing("bad_request")], 2, {}, []),
    ],
)
async def test_a_route_that_is_asked_again_is_no_failover(
    failures: list[SpeechError], routes: int, more: dict[str, Any], told: list[tuple[str, str, int]]
) -> None:
    counts = Counts()
    voice = asked_anew(
        *[Mending(*failures), Second()][:routes], board=RouteBoard(now_ms, observer=counts), **more
    )
    await voice.say(PIECE, Ledger())
    await voice.aclose()
    assert counts.told == told


async def test_where_no_route_is_left_none_was_failed_over_to() -> None:
    counts = Counts()
    voice = asked_anew(Mending(GONE, GONE), board=RouteBoard(now_ms, observer=counts))
    with pytest.raises(SpeechError):
        await voice.say(PIECE, Ledger())
    await voice.aclose()
    assert counts.told == [("retried", "begin", 10)]


@pytest.mark.parametrize("reason", ["timeout", "slow", "unauthorized"])
async def test_one_that_keeps_callers_waiting_is_not_asked_anew(
    reason: SpeechFailure,
) -> None:
    out = Ledger()
    voice = asked_anew(Mending(failing(reason)), Second())
    await voice.say(PIECE, out)
    await voice.aclose()
    assert out.said == [("elevenlabs", TEXT)]


class Playing(Ledger):
    """Sound that was made before plays on."""

    def __init__(self, lead_ms: float) -> None:
        super().__init__()
        self._until_ms = now_ms() + lead_ms

    def lead_ms(self) -> float:
        return max(0.0, self._until_ms - now_ms())


async def test_a_server_that_is_started_anew_while_sound_lasts_says_the_rest() -> None:
    out, route = Playing(7_000), Mending(*[failing("unreachable")] * 12)
    async with speaking(route) as voice:
        await voice.say(PIECE, out)
    assert out.said == [("sesame_ws", TEXT)]
    assert route.connections == 12, "eleven in vain, of which the call had the first; the last answered"


@pytest.mark.parametrize(
    ("lead_ms", "reason"), [(0, "unreachable"), (2_000, "unreachable"), (7_000, "quota")]
)
async def test_one_that_is_not_well_again_by_then_leaves_no_voice(
    lead_ms: float, reason: SpeechFailure
) -> None:
    out, route = Playing(lead_ms), Mending(*[failing(reason)] * 60)
    async with speaking(route) as voice:
        began_ms = now_ms()
        with pytest.raises(SpeechError, match="no voice is left"):
            await voice.say(PIECE, out)
        assert now_ms() - began_ms <= lead_ms


async def test_an_end_without_any_sound_is_a_failure() -> None:
    out = Ledger()
    async with speaking(ScriptedRoute({TEXT: Script([])}), Second()) as voice:
        await voice.say(PIECE, out)
    assert out.said == [("elevenlabs", TEXT)]
    assert out.pieces[0][2] == "no_audio"


async def test_an_end_in_the_middle_of_a_sentence_is_a_failure() -> None:
    """Of 50 characters of 62 ms, far less than anybody takes for ten words."""
    out, first, second = Ledger(), says(400), Second()
    board = RouteBoard(now_ms)
    async with speaking(first, second, board=board) as voice:
        await voice.say(PIECE, out)
    assert [route for route, _ in out.said] == ["sesame_ws", "elevenlabs"]
    assert (out.words, out.pieces[1][2]) == (TEXT, "generation_failed")
    assert second.asked[0] in [PIECE.rest(words).spoken for words in (1, 2)], "from the point reached"
    assert board.rate_ms_per_char(plans_for(first)[0].key, "mara") is None, "nothing is learnt of it"


async def test_a_voice_that_ended_too_early_once_says_the_rest_when_asked_anew() -> None:
    out, first, second = Ledger(), says(400), Second()
    voice = asked_anew(first, second)
    await voice.say(PIECE, out)
    await voice.aclose()
    assert {route for route, _ in out.said} == {"sesame_ws"} and out.words == TEXT
    assert len(first.asked) == 2 and second.asked == []


@asynccontextmanager
async def known_to_take(
    ms_per_character: float, *routes: ScriptedRoute, speed: float = 1.0, **more: Any
) -> AsyncIterator[Voice]:
    """A voice that has told how fast it speaks at its own speed."""
    plans = [replace(plan, speed=speed) for plan in plans_for(*routes)]
    board = RouteBoard(now_ms)
    board.learn(plans[0].key, "mara", characters=100, ms=100 * ms_per_character)
    voice = Voice(plans, board=board, clock=now_ms, patience=ENDLESS, **more)
    try:
        yield voice
    finally:
        await voice.aclose()


@pytest.mark.parametrize(
    ("hears", "said"),
    [
        ("one two three four five", ["One two three four five", "six seven eight nine ten."]),
        ("one two three four five six seven eight nine ten", [TEXT]),
        ("", [TEXT]),
        ("what a lovely day", [TEXT]),
    ],
)
async def test_of_an_end_that_may_be_too_early_the_ear_decides(hears: str, said: list[str]) -> None:
    out = Ledger()
    async with known_to_take(60, says(1650), Second(), ears=Ears(hears)) as voice:
        await voice.say(PIECE, out)
    assert [text for _, text in out.said] == said


async def test_without_an_ear_an_end_that_may_be_too_early_is_believed() -> None:
    out = Ledger()
    async with known_to_take(60, says(1650), Second()) as voice:
        await voice.say(PIECE, out)
    assert out.said == [("sesame_ws", TEXT)]


async def test_by_its_alignment_a_vendor_tells_that_it_ended_too_early() -> None:
    marks = [CharMark(at, at * 60.0) for at in range(20)]  # "One two three four f"
    sound = Sound(audioop.lin2ulaw(tone(1000)[: 16_000 * 2], 2)[:9600], "ulaw", 8000, marks)
    out = Ledger()
    async with known_to_take(60, ScriptedRoute({TEXT: Script([sound])}), Second()) as voice:
        await voice.say(PIECE, out)
    assert out.said == [("sesame_ws", "One two three four"), ("elevenlabs", PIECE.rest(4).text)]


@pytest.mark.parametrize(("speed", "listened"), [(1.0, 1), (1.2, 0)])
async def test_a_voice_that_is_asked_to_hurry_is_not_taken_for_one_that_ended_too_early(
    speed: float, listened: int
) -> None:
    ears = Ears(TEXT)
    async with known_to_take(60, says(1650), Second(), speed=speed, ears=ears) as voice:
        await voice.say(PIECE, Ledger())
    assert len(ears.listened_ms) == listened


async def test_how_fast_a_voice_speaks_is_learnt_as_of_its_own_speed() -> None:
    board, (plan,) = RouteBoard(now_ms), plans_for(says(2450))
    voice = Voice([replace(plan, speed=1.2)], board=board, clock=now_ms, patience=ENDLESS)
    await voice.say(PIECE, Ledger())
    await voice.aclose()
    assert board.rate_ms_per_char(plan.key, "mara") == pytest.approx(60, abs=1)


async def test_silence_before_the_first_sound_is_a_failure_after_the_deadline() -> None:
    out, route = Ledger(), ScriptedRoute({TEXT: Script([asyncio.Event()])})
    async with speaking(route, Second(), patience=QUICK) as voice:
        began_ms = now_ms()
        await voice.say(PIECE, out)
        assert 75 <= now_ms() - began_ms < 1000
        await until(lambda: route.scripts[TEXT].state == "cancelled", "the silent one is cancelled")
    assert out.said == [("elevenlabs", TEXT)]


async def test_a_stall_is_a_failure_once_the_lead_is_used_up() -> None:
    out = Ledger(lead=300)
    async with speaking(says(1700, asyncio.Event()), Second(), patience=QUICK) as voice:
        began_ms = now_ms()
        await voice.say(PIECE, out)
        assert 245 <= now_ms() - began_ms < 1500, "300 ms of lead less 50 for the other route"
    assert out.words == TEXT
    assert out.pieces[1][2] == "timeout"


async def test_sound_slower_than_real_time_is_left() -> None:
    class Slow(ScriptedRoute):
        async def speak(self, text: str, *, before: str = "") -> AsyncIterator[Sound]:  # type: ignore[override]
            for _ in range(50):
                yield Sound(tone(40), "pcm16", 24_000)
                await asyncio.sleep(0.08)

    out = Ledger()
    async with speaking(Slow(), Second()) as voice:
        began_ms = now_ms()
        await voice.say(PIECE, out)
        assert now_ms() - began_ms < 3000, "it would have taken four seconds"
    assert out.words == TEXT
    assert out.pieces[1][2] == "slow"


async def test_alignment_tells_the_word() -> None:
    marks = [CharMark(at, at * 50.0) for at in range(len(TEXT))]
    sound = Sound(audioop.lin2ulaw(tone(1000)[:16_000], 2), "ulaw", 8000, marks)
    out = Ledger(sendable=10_000)
    async with speaking(ScriptedRoute({TEXT: Script([sound, GONE])}), Second()) as voice:
        await voice.say(PIECE, out)
    # 20 characters begun in 1000 ms: "One two three four f".
    assert out.said[0] == ("sesame_ws", "One two three four")
    assert out.words == TEXT
    assert out.pieces[0][3] / 8 == pytest.approx(19 * 50, abs=1), "the piece of a word is taken back"


async def test_the_ear_tells_the_word() -> None:
    out, ears = Ledger(lead=2000), Ears("one two three for five six")
    async with speaking(says(1700, GONE), Second(), ears=ears) as voice:
        await voice.say(PIECE, out)
    assert out.said[0] == ("sesame_ws", "One two three four five six")
    assert ears.listened_ms == [pytest.approx(1700, abs=30)]


@pytest.mark.parametrize("hears", [None, "", "completely other words were understood here", ValueError])
async def test_an_ear_that_does_not_help_costs_little(hears: Any) -> None:
    from backend.errors import HearingError

    out = Ledger()
    ears = Ears(HearingError("busy") if hears is ValueError else hears)
    async with speaking(says(1700, GONE), Second(), ears=ears) as voice:
        began_ms = now_ms()
        await voice.say(PIECE, out)
        assert now_ms() - began_ms < 1000
    assert out.words == TEXT


async def test_half_a_word_that_was_not_sent_is_taken_back() -> None:
    speech = tone(1000) + bytes(48 * 80) + tone(150)
    out = Ledger(sendable=5000)
    async with speaking(ScriptedRoute({TEXT: Script([speech, GONE])}), Second()) as voice:
        await voice.say(PIECE, out)
    assert 1000 <= out.pieces[0][3] / 8 <= 1080


async def test_noise_is_not_spoken_on() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 8000, 24_000).clip(-32768, 32767).astype("<i2").tobytes()
    chunks = [noise[at : at + 9600] for at in range(0, len(noise), 9600)]
    out = Ledger(sendable=5000)
    async with speaking(ScriptedRoute({TEXT: Script(chunks)}), Second()) as voice:
        await voice.say(PIECE, out)
    assert out.said[-1][0] == "elevenlabs"
    assert out.pieces[-1][2] == "noise"


@pytest.mark.parametrize(("clean_ms", "said"), [(0, []), (1000, ["One two three four"])])
async def test_no_word_was_said_by_noise_whatever_the_vendor_aligned_it_with(
    clean_ms: int, said: list[str]
) -> None:
    noise = np.random.default_rng(3).normal(0, 8000, 12_000).clip(-32768, 32767).astype("<i2").tobytes()
    spoken = np.frombuffer(tone(1000), "<i2")[: clean_ms * 24 : 3].astype("<i2").tobytes() + noise
    marks = [CharMark(at, at * 50.0) for at in range(len(TEXT))]
    chunks = [
        Sound(audioop.lin2ulaw(spoken[at : at + 1600], 2), "ulaw", 8000, marks if at == 0 else ())
        for at in range(0, len(spoken), 1600)
    ]
    out = Ledger(sendable=10_000)
    async with speaking(ScriptedRoute({TEXT: Script(chunks)}), Second()) as voice:
        await voice.say(PIECE, out)
    assert [text for route, text in out.said if route == "sesame_ws"] == said
    assert out.words == TEXT
    assert out.pieces[0][3] / 8 <= clean_ms + 60, "the noise not sent yet is taken back"


async def test_everything_was_said_when_the_route_failed() -> None:
    out, second = Ledger(), Second()
    async with speaking(says(6000, GONE), second) as voice:
        await voice.say(PIECE, out)
    assert out.said == [("sesame_ws", TEXT)]
    assert second.asked == []


async def test_a_failure_of_the_second_is_finished_by_the_third() -> None:
    class Third(ScriptedRoute):
        name = "elevenlabs_rest"

    class Breaking(Second):
        async def speak(self, text: str, *, before: str = "") -> AsyncIterator[Sound]:  # type: ignore[override]
            self.asked.append(text)
            yield Sound(tone(700), "pcm16", 24_000)
            raise GONE

    out = Ledger()
    async with speaking(says(1000, GONE), Breaking(), Third()) as voice:
        await voice.say(PIECE, out)
    assert [route for route, _ in out.said] == ["sesame_ws", "elevenlabs", "elevenlabs_rest"]
    assert out.words == TEXT


async def test_no_route_is_left() -> None:
    out = Ledger()
    async with speaking(says(1000, GONE), ScriptedRoute({}), patience=QUICK) as voice:
        voice_routes = voice._plans
        assert len(voice_routes) == 2
    async with speaking(says(1000, GONE)) as voice:
        with pytest.raises(SpeechError, match="no voice is left: the server is gone") as caught:
            await voice.say(PIECE, out)
    assert caught.value.reason == "closed"
    assert out.pieces[0][4], "what was said is accounted for"
    assert TEXT.startswith(out.pieces[0][0])


async def test_without_any_route_it_says_so() -> None:
    async with speaking() as voice:
        with pytest.raises(SpeechError, match="no speech route is configured"):
            await voice.say(PIECE, Ledger())
        with pytest.raises(SpeechError, match="no speech route is configured"):
            await voice.connect()


async def test_the_carrier_is_the_last_resort() -> None:
    said: list[str] = []

    async def carrier(text: str) -> None:
        said.append(text)

    out = Ledger()
    async with speaking(says(1700, GONE), last_resort=carrier) as voice:
        await voice.say(PIECE, out)
    assert f"{out.words} {out.said_elsewhere[0]}" == TEXT
    assert said == out.said_elsewhere


async def test_a_route_that_failed_is_not_asked_first_again() -> None:
    out, first, second = Ledger(), says(200, GONE), Second()
    async with speaking(first, second) as voice:
        await voice.say(PIECE, out)
        await voice.say(plain_piece("And more."), out)
    assert first.asked == [TEXT]
    assert second.asked[-1] == "And more."


async def test_a_route_that_failed_is_asked_when_no_other_works() -> None:
    first = ScriptedRoute({TEXT: Script([failing("closed")])})
    second = Second({TEXT: Script([failing("closed")])})
    async with speaking(first, second) as voice:
        with pytest.raises(SpeechError):
            await voice.say(PIECE, Ledger())
        out = Ledger()
        await voice.say(plain_piece("And more."), out)
    assert out.said == [("sesame_ws", "And more.")]


async def test_bad_input_is_tried_elsewhere_and_held_against_nobody() -> None:
    board = RouteBoard(now_ms)
    first = ScriptedRoute({TEXT: Script([failing("bad_request")])})
    out = Ledger()
    async with speaking(first, Second(), board=board) as voice:
        await voice.say(PIECE, out)
        await voice.say(plain_piece("And more."), out)
    assert out.said == [("elevenlabs", TEXT), ("sesame_ws", "And more.")]
    assert all(health.state != "down" for health in board.health())


async def test_what_no_voice_can_say_is_left_out_and_the_call_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    board = RouteBoard(now_ms)
    first = ScriptedRoute({TEXT: Script([failing("bad_request")])})
    second = Second({TEXT: Script([failing("closed")])})
    twin = ScriptedRoute({TEXT: Script([failing("bad_request")])})
    out = Ledger()
    async with speaking(first, twin, second, board=board) as voice:
        await voice.say(plain_piece("Hello."), out)
        await voice.say(PIECE, out)
        await voice.say(plain_piece("And more."), out)
    assert out.said == [("sesame_ws", "Hello."), ("sesame_ws", "And more.")]
    assert twin.asked == [], "another server of the same kind would refuse it, too"
    assert "left out" in caplog.text


async def test_a_voice_whose_every_request_is_refused_is_no_voice() -> None:
    first = ScriptedRoute({TEXT: Script([failing("bad_request")])})
    async with speaking(first) as voice:
        with pytest.raises(SpeechError, match="no voice is left"):
            await voice.say(PIECE, Ledger())


async def test_a_bug_in_a_route_does_not_cost_the_sentence(caplog: pytest.LogCaptureFixture) -> None:
    out = Ledger()
    async with speaking(says(1700, ZeroDivisionError("a bug")), Second()) as voice:
        await voice.say(PIECE, out)
    assert out.words == TEXT
    assert "ZeroDivisionError" in caplog.text


async def test_nothing_to_say_asks_nobody() -> None:
    route = ScriptedRoute()
    async with speaking(route) as voice:
        await voice.say(Piece(()), Ledger())
    assert route.asked == []


async def test_what_is_prepared_needs_no_route() -> None:
    @dataclass
    class Prepared:
        noted: list[str] = field(default_factory=list)

        def lookup(self, piece: Piece) -> bytes | None:
            return b"\xff" * 800 if piece.text == TEXT else None

        def note(self, piece: Piece) -> None:
            self.noted.append(piece.text)

        def prepare_soon(self, texts: Any) -> None: ...

        def apology(self) -> Recording | None:
            return None

        async def aclose(self) -> None: ...

    out, route, prepared = Ledger(), ScriptedRoute(), Prepared()
    async with speaking(route, prepared=prepared) as voice:
        await voice.say(PIECE, out)
        assert route.asked == []
        await voice.say(plain_piece("Not prepared."), out)
    assert out.said == [("prepared", TEXT), ("sesame_ws", "Not prepared.")]
    assert prepared.noted == ["Not prepared."]


async def test_a_voice_that_babbles_on_is_stopped_and_nothing_is_said_twice() -> None:
    second, babble = Second(), [tone(1000)] * 60
    out, first = Ledger(sendable=9_000), ScriptedRoute({TEXT: Script(babble)})
    async with speaking(first, second) as voice:
        await voice.say(PIECE, out)
        await until(lambda: first.scripts[TEXT].state == "cancelled")
    assert out.said == [("sesame_ws", TEXT)]
    assert second.asked == []
    assert out.pieces[0][3] < 8 * 30_000


async def test_a_long_outage_is_told_once_not_by_every_call(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    board = RouteBoard(now_ms)
    for _ in range(20):
        routes = ScriptedRoute(), Second()
        for route in routes:
            route.failure = failing("closed")
        async with speaking(*routes, board=board) as voice:
            for _ in range(3):
                with pytest.raises(SpeechError):
                    await voice.say(PIECE, Ledger())
    assert len(caplog.records) < 15


async def test_a_standby_that_is_left_alone_is_not_connected() -> None:
    board, second = RouteBoard(now_ms), Second()
    board.failed(RouteKey("elevenlabs", "server 2"), failing("quota"))
    async with speaking(says(2500), second, board=board) as voice:
        await voice.connect()
        await asyncio.sleep(0.01)
    assert second.connects == []


# --- hedging -------------------------------------------------------------------------------------------

HEDGED = Patience(first_audio_ms=5000, hedge_ms=40, stall_ms=5000)


async def test_a_late_first_sound_has_the_second_route_begin_too() -> None:
    out, first, second = Ledger(), ScriptedRoute({TEXT: Script([asyncio.Event()])}), Second()
    async with speaking(first, second, patience=HEDGED) as voice:
        began_ms = now_ms()
        await voice.say(PIECE, out)
        assert 35 <= now_ms() - began_ms < 2000
        await until(lambda: first.scripts[TEXT].state == "cancelled")
    assert out.said == [("elevenlabs", TEXT)]


async def test_the_first_route_may_still_win() -> None:
    go = asyncio.Event()
    out, first = Ledger(), ScriptedRoute({TEXT: Script([go, tone(2500)])})
    second = Second({TEXT: Script([asyncio.Event()])})
    async with speaking(first, second, patience=HEDGED) as voice:
        speech = asyncio.create_task(voice.say(PIECE, out))
        await until(lambda: second.asked, "the second is asked")
        go.set()
        await speech
        await until(lambda: second.scripts[TEXT].state == "cancelled")
    assert out.said == [("sesame_ws", TEXT)]


async def test_a_quick_first_route_is_not_hedged() -> None:
    second = Second()
    async with speaking(says(2500), second, patience=HEDGED) as voice:
        await voice.say(PIECE, Ledger())
    assert second.asked == []


async def test_the_hedge_fails_and_the_first_goes_on() -> None:
    go = asyncio.Event()
    out, first = Ledger(), ScriptedRoute({TEXT: Script([go, tone(2500)])})
    second = Second({TEXT: Script([failing("quota")])})
    async with speaking(first, second, patience=HEDGED) as voice:
        speech = asyncio.create_task(voice.say(PIECE, out))
        await until(lambda: second.scripts and second.scripts[TEXT].state == "failed")
        go.set()
        await speech
    assert out.said == [("sesame_ws", TEXT)]


async def test_a_route_that_was_only_slower_finishes_what_the_faster_one_breaks_off() -> None:
    late = asyncio.Event()
    out, first = Ledger(), ScriptedRoute({TEXT: Script([late])})
    second = Second({TEXT: Script([tone(600), GONE])})
    async with speaking(first, second, patience=HEDGED) as voice:
        await voice.say(PIECE, out)
    assert [route for route, _ in out.said][-1] == "sesame_ws"
    assert out.words == TEXT


# --- connecting and letting go -------------------------------------------------------------------------


async def test_the_standby_is_connected_beforehand() -> None:
    first, second, third = ScriptedRoute(), Second(), Second()
    async with speaking(first, second, third) as voice:
        await voice.connect()
        await until(lambda: second.connects, "the second is warm")
    assert (first.connects, second.connects, third.connects) == ([None], [None], [])


async def test_a_first_route_that_cannot_be_reached_makes_room_for_the_next() -> None:
    first, second = ScriptedRoute(), Second()
    first.failure = failing("unreachable")
    out = Ledger()
    async with speaking(first, second) as voice:
        await voice.connect()
        assert second.connects == [None]
        await voice.say(PIECE, out)
    assert out.said == [("elevenlabs", TEXT)]
    assert first.asked == []


async def test_cancelled_in_the_middle_the_request_is_cancelled_and_held_against_nobody() -> None:
    board = RouteBoard(now_ms)
    route = says(300, asyncio.Event())
    async with speaking(route, board=board) as voice:
        out = Ledger()
        speech = asyncio.create_task(voice.say(PIECE, out))
        await until(lambda: out.pieces and out.pieces[0][3])
        speech.cancel()
        await asyncio.wait([speech])
        await until(lambda: route.scripts[TEXT].state == "cancelled")
        await voice.say(plain_piece("And more."), replace(out))
    assert all(health.state != "down" for health in board.health())


async def test_a_route_that_does_not_let_go_holds_nobody_up() -> None:
    class Clinging(ScriptedRoute):
        async def speak(self, text: str, *, before: str = "") -> AsyncIterator[Sound]:  # type: ignore[override]
            self.asked.append(text)
            try:
                await asyncio.Event().wait()
                yield Sound(b"", "pcm16", 24_000)
            finally:
                await asyncio.sleep(1.0)  # says goodbye at length

    out = Ledger()
    async with speaking(Clinging(), Second(), patience=QUICK) as voice:
        began_ms = now_ms()
        await voice.say(PIECE, out)
        assert now_ms() - began_ms < 500
    assert out.said == [("elevenlabs", TEXT)]


async def test_how_fast_a_voice_speaks_is_learnt() -> None:
    board = RouteBoard(now_ms)
    async with speaking(says(5000), board=board) as voice:
        await voice.say(PIECE, Ledger())
        rate = board.rate_ms_per_char(voice._plans[0].key, "mara")
    assert rate is not None
    assert 90 < rate < 120, "5000 ms for 49 characters"


async def test_a_route_on_trial_is_connected_to_by_one_call_at_a_time() -> None:
    class Slow(ScriptedRoute):
        may_connect = asyncio.Event()
        connecting = 0

        async def connect(self) -> None:
            Slow.connecting += 1
            await self.may_connect.wait()

    time_ms = 0.0
    board = RouteBoard(lambda: time_ms)
    voices = [voice_of(Slow(), Second(), board=board) for _ in range(5)]
    board.failed(RouteKey("sesame_ws", "server 1"), failing("unauthorized"))
    time_ms += 3_600_000
    calls = [asyncio.create_task(voice.connect()) for voice in voices]
    async with asyncio.timeout(10):
        await asyncio.wait(calls[1:])
        assert Slow.connecting == 1
        assert [voice.first_route for voice in voices] == ["elevenlabs"] * 5
        Slow.may_connect.set()
        await calls[0]
    # Connected, it may speak for any of them: that is what the trial is for.
    assert [voice.first_route for voice in voices] == ["sesame_ws"] * 5
    for voice in voices:
        await voice.aclose()


@pytest.mark.parametrize("rate_hz", [0, -8_000, 1 << 40])
async def test_sound_of_an_impossible_rate_is_a_failure_of_its_route(rate_hz: int) -> None:
    out = Ledger()
    broken = ScriptedRoute({TEXT: Script([Sound(bytes(960), "pcm16", rate_hz)])})
    async with speaking(broken, Second()) as voice:
        await voice.say(PIECE, out)
    assert out.said == [("elevenlabs", TEXT)]
    assert out.pieces[0][2] == "protocol"


async def test_minutes_of_sound_at_once_do_not_hold_up_the_event_loop() -> None:
    """Counted, not timed: between any two parts of it, others have their turn."""
    turns, at_put = 0, list[int]()

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    class Watched(Ledger):
        async def put(self, g711: bytes) -> None:
            if g711:
                at_put.append(turns)
            assert len(g711) <= 8_000
            await super().put(g711)

    words = " ".join(["evening"] * 500)
    out = Watched()
    other = asyncio.create_task(others())
    async with speaking(ScriptedRoute({words: Script([tone(30_000)])})) as voice:
        await voice.say(plain_piece(words), out)
    other.cancel()
    assert out.pieces[0][3] == 240_000
    assert len(at_put) >= 60 and len(set(at_put)) == len(at_put)
