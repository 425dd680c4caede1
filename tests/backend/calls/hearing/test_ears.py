"""A call's speech-to-text: no utterance is lost while one route hears, and each failure is remembered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from backend.calls.boards.ears_board import EarsBoard
from backend.calls.hearing.ears import Ears
from backend.calls.ports import EarPlan, Transcriber
from backend.core.hearing import CarrierHearing, EarKey, EarName
from backend.errors import HearingError, SpeechFailure

SECOND = bytes(16_000)
LONG = SECOND * 2
Answer = str | SpeechFailure | None
FAILURES = ("unreachable", "unauthorized", "timeout", "closed", "protocol", "busy", "generation_failed")


class Route:
    """Gives its answers in turn, the last for ever; None: never."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.heard: list[bytes] = []
        self.asked = asyncio.Event()

    async def transcribe(self, pcm16_8k: bytes) -> str:
        self.heard.append(pcm16_8k)
        self.asked.set()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            await asyncio.Event().wait()
            raise AssertionError
        for reason in FAILURES:
            if answer == reason:
                raise HearingError(f"it is {reason}", reason=reason)
        return answer


class Streaming(Route):
    def __init__(self, *answers: Answer, connects: bool = True) -> None:
        super().__init__(*answers)
        self.connected, self.closed, self.fed = 0, 0, [b""]
        self.connects = connects

    async def connect(self) -> None:
        self.connected += 1
        if not self.connects:
            raise HearingError("nobody there", reason="unreachable")

    def hear(self, pcm16_8k: bytes, *, begins: bool) -> None:
        if begins:
            self.fed.append(b"")
        self.fed[-1] += pcm16_8k

    async def aclose(self) -> None:
        self.closed += 1


class Told(Streaming):
    def __init__(self, *answers: Answer) -> None:
        super().__init__(*answers)
        self.words: list[tuple[str, bool]] = []

    def told(self, text: str, *, final: bool, at: str = "") -> None:
        self.words.append((text, final))


class Counted:
    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.took: list[str] = []
        self.failovers = 0

    def hearing_request(self, route: str, outcome: str) -> None:
        self.requests.append((route, outcome))

    def hearing_took(self, route: str, seconds: float) -> None:
        self.took.append(route)

    def hearing_failed_over(self) -> None:
        self.failovers += 1


class Bench:
    """Routes under the names of real ones, in order, on one board."""

    def __init__(self, **routes: Route) -> None:
        self.now_ms = 0.0
        self.counted = Counted()
        self.board = EarsBoard(lambda: self.now_ms, self.counted)
        self.routes = routes

    def ears(self, *, early: Sequence[str] = (), **more: Any) -> Ears:
        async def start(_: CarrierHearing) -> None: ...

        def made(route: Route) -> Callable[[Any], Transcriber]:
            return lambda _: route

        plans = [
            EarPlan(key(name), made(route), early=name in early)  # type: ignore[arg-type]
            for name, route in self.routes.items()
        ]
        return Ears(plans, board=self.board, clock=lambda: self.now_ms, start_hearing=start, **more)


def key(name: EarName) -> EarKey:
    return EarKey(name, f"{name}.example")


async def test_the_first_route_hears() -> None:
    bench = Bench(openai=Route("hello"), local=Route("other"))
    assert await bench.ears().transcribe(SECOND) == "hello"
    assert bench.routes["local"].heard == []
    assert bench.counted.requests == [("openai", "ok")]
    assert (bench.counted.took, bench.counted.failovers) == (["openai"], 0)


@pytest.mark.parametrize("failure", [*FAILURES, None])
async def test_the_next_route_gets_the_same_audio(failure: Answer) -> None:
    bench = Bench(openai=Route(failure), elevenlabs=Route("closed"), local=Route("hello"))
    assert await bench.ears(timeout_ms=20).transcribe(LONG) == "hello"
    assert [route.heard for route in bench.routes.values()] == [[LONG]] * 3
    assert bench.counted.requests == [
        ("openai", failure or "timeout"),
        ("elevenlabs", "closed"),
        ("local", "ok"),
    ]
    assert bench.counted.failovers == 1


async def test_the_last_route_may_take_longer() -> None:
    route = Route(None)
    asking = asyncio.create_task(Bench(local=route).ears(timeout_ms=1).transcribe(SECOND))
    await route.asked.wait()
    done, _ = await asyncio.wait([asking], timeout=0.1)
    assert not done
    asking.cancel()
    await asyncio.wait([asking])


async def test_the_last_route_that_is_well_may_take_longer_too() -> None:
    slow = Route("from here", None)
    bench = Bench(openai=Route("unauthorized"), local=slow)
    ears = bench.ears(timeout_ms=1)
    await ears.transcribe(SECOND)
    slow.asked.clear()
    asking = asyncio.create_task(ears.transcribe(SECOND))
    await slow.asked.wait()
    done, _ = await asyncio.wait([asking], timeout=0.1)
    assert not done
    asking.cancel()
    await asyncio.wait([asking])


async def test_when_none_hears_the_last_failure_is_told() -> None:
    bench = Bench(openai=Route("unauthorized"), local=Route("busy"))
    with pytest.raises(HearingError, match="it is busy"):
        await bench.ears().transcribe(SECOND)


async def test_a_route_that_failed_is_left_alone_until_it_is_tried_again() -> None:
    bench = Bench(openai=Route("unauthorized", "hello"), local=Route("from here"))
    ears = bench.ears()
    assert [await ears.transcribe(SECOND) for _ in range(3)] == ["from here"] * 3
    assert len(bench.routes["openai"].heard) == 1
    row = bench.board.health()[0]
    assert (row.state, row.breaker) == ("down", "open")
    assert "key is refused" in row.detail
    assert "tried again in 60 s" in row.detail
    bench.now_ms = 61_000
    assert await ears.transcribe(SECOND) == "hello"
    assert bench.board.health()[0].state == "up"


async def test_what_is_left_alone_is_asked_when_nothing_else_hears() -> None:
    bench = Bench(openai=Route("unauthorized", "hello"), local=Route("from here", "closed"))
    ears = bench.ears()
    assert [await ears.transcribe(SECOND) for _ in range(2)] == ["from here", "hello"]


async def test_speech_in_which_one_hears_nothing_is_heard_by_another() -> None:
    bench = Bench(openai=Route(""), local=Route("two words"))
    ears = bench.ears()
    assert [await ears.transcribe(LONG) for _ in range(6)] == ["two words"] * 6
    assert 3 <= len(bench.routes["openai"].heard) < 6, "and it is left alone then"
    assert "another route hears words" in bench.board.health()[0].detail


@pytest.mark.parametrize(
    ("audio", "other", "text"),
    [(SECOND, "two words", ""), (LONG, "", ""), (LONG, "You", ""), (LONG, "closed", "")],
)
async def test_a_noise_stays_a_noise(audio: bytes, other: Answer, text: str) -> None:
    bench = Bench(openai=Route(""), local=Route(other))
    ears = bench.ears()
    for _ in range(5):
        assert await ears.transcribe(audio) == text
    assert bench.board.health([key("openai")])[0].state == "up"


async def test_a_caller_who_goes_on_costs_no_route_its_name() -> None:
    route = Route(None)
    bench = Bench(openai=route, local=Route("hello"))
    asking = asyncio.create_task(bench.ears().transcribe(SECOND))
    await route.asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert bench.counted.requests == [("openai", "cancelled")]
    assert bench.board.health()[0].breaker == "closed"


async def test_key_terms_are_put_right() -> None:
    bench = Bench(local=Route("is this blue bird dental?"))
    assert await bench.ears(key_terms=["Bluebird Dental"]).transcribe(SECOND) == "is this Bluebird Dental?"


async def test_a_turn_is_streamed_to_the_route_that_will_be_asked() -> None:
    first, second = Streaming("unauthorized"), Streaming("hello")
    bench = Bench(elevenlabs=first, openai=second)
    ears = bench.ears()
    await ears.connect()
    assert (first.connected, second.connected) == (1, 0)
    ears.hear(b"ab", begins=True)
    ears.hear(b"cd", begins=False)
    assert (first.fed, second.fed) == ([b"", b"abcd"], [b""])
    assert await ears.transcribe(SECOND) == "hello"
    ears.hear(b"ef", begins=True)
    assert (first.fed, second.fed) == ([b"", b"abcd"], [b"", b"ef"])
    await ears.aclose()
    assert (first.closed, second.closed) == (1, 1)


async def test_what_must_listen_along_does_and_is_told_by_the_carrier() -> None:
    first, carrier = Streaming("hello"), Told("hello")
    ears = Bench(elevenlabs=first, telnyx=carrier, local=Route("x")).ears(early=["telnyx"])
    await ears.connect()
    ears.hear(b"ab", begins=True)
    ears.told("hel", final=False)
    ears.told("hello", final=True)
    assert (carrier.connected, carrier.fed) == (1, [b"", b"ab"])
    assert carrier.words == [("hel", False), ("hello", True)]


async def test_a_route_that_cannot_be_made_ready_is_left_alone_in_the_end() -> None:
    bench = Bench(elevenlabs=Streaming("hello", connects=False), local=Route("from here"))
    for _ in range(3):
        await bench.ears().connect()
    assert bench.board.health()[0].state == "down"
    assert await bench.ears().transcribe(SECOND) == "from here"


async def test_changes_of_state_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "backend.calls.boards.ears_board")
    bench = Bench(openai=Route("unauthorized", "hello"), local=Route("from here"))
    ears = bench.ears()
    for now_ms in (0.0, 1.0, 61_000.0, 61_001.0):
        bench.now_ms = now_ms
        await ears.transcribe(SECOND)
    told = [record.getMessage() for record in caplog.records if record.name.endswith("ears_board")]
    assert len(told) == 2
    assert "openai at openai.example is left alone for now: The key is refused" in told[0]
    assert told[1] == "speech-to-text by openai at openai.example works again"


class Buggy(Streaming):
    def __init__(self) -> None:
        super().__init__("never")

    async def connect(self) -> None:
        raise ValueError("an adapter's bug")

    async def transcribe(self, pcm16_8k: bytes) -> str:
        raise KeyError("an adapter's bug")


async def test_an_adapters_bug_costs_the_route_and_not_the_call(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(elevenlabs=Buggy(), local=Route("hello"))
    ears = bench.ears()
    await ears.connect()
    assert [await ears.transcribe(SECOND) for _ in range(3)] == ["hello"] * 3
    assert bench.counted.requests[:2] == [("elevenlabs", "protocol"), ("elevenlabs", "protocol")]
    assert "internal error" in caplog.text


@pytest.mark.parametrize(
    ("given", "heard"),
    [
        ("a\x00b \ud83d c\n\x1b[2J", "a b c [2J"),
        ("\ud800", ""),
        ("Straße naïve 🙂 你好", "Straße naïve 🙂 你好"),
    ],
)
async def test_what_no_database_takes_is_left_out(given: str, heard: str) -> None:
    assert await Bench(local=Route(given)).ears().transcribe(SECOND) == heard


async def test_a_recogniser_that_repeats_itself_without_end_is_cut_short() -> None:
    ears = Bench(local=Route("you and " * 200_000)).ears(key_terms=[f"Name{n} Other{n}" for n in range(100)])
    began_s = time.thread_time()
    text = await ears.transcribe(SECOND)
    assert 3_900 < len(text) <= 4_000 and text.endswith("and")
    assert time.thread_time() - began_s < 2.0, "the whole process stands still meanwhile"
