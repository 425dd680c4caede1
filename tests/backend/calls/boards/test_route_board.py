from __future__ import annotations

import logging
from collections import Counter

import pytest

from backend.calls.boards.route_board import RouteBoard
from backend.core.health import RouteKey
from backend.errors import SpeechError, SpeechFailure

POD = RouteKey("sesame_ws", "http://pod-1:8000")
OTHER = RouteKey("sesame_ws", "http://pod-2:8000")
ELEVEN = RouteKey("elevenlabs", "https://api.elevenlabs.io")


def error(reason: SpeechFailure, said: str = "said by the vendor") -> SpeechError:
    return SpeechError(said, route="any", reason=reason)


class Bench:
    def __init__(self) -> None:
        self.now_ms = 1000.0
        self.counted: Counter[tuple[object, ...]] = Counter()
        self.board = RouteBoard(lambda: self.now_ms, self)

    def speech_request(self, route: str, outcome: str) -> None:
        self.counted[route, outcome] += 1

    def speech_first_audio(self, route: str, seconds: float) -> None:
        self.counted[route, seconds] += 1

    def speech_failed_over(self, where: str, words_resumed: int) -> None:
        self.counted[where, words_resumed] += 1

    def speech_retried(self, where: str, words_resumed: int) -> None:
        self.counted["again", where, words_resumed] += 1


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_route_never_seen_is_allowed_and_unknown(bench: Bench) -> None:
    assert bench.board.allows(POD)
    (row,) = bench.board.health([POD])
    assert (row.name, row.server, row.state, row.breaker) == (
        "sesame_ws",
        POD.server,
        "unknown",
        "closed",
    )
    assert bench.board.health() == []


def test_one_server_down_leaves_the_others(bench: Bench) -> None:
    bench.board.failed(POD, error("unreachable"))
    bench.board.failed(POD, error("unreachable"))
    assert not bench.board.allows(POD)
    assert bench.board.allows(OTHER) and bench.board.allows(ELEVEN)


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("quota", "Out of quota: buy more"),
        ("unauthorized", "The key is refused: set the right one"),
        ("busy", "Full: every stream is taken"),
        ("rate_limited", "Too many requests for the vendor's plan"),
    ],
)
def test_what_an_operator_must_do_is_told_apart(
    bench: Bench, reason: SpeechFailure, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        bench.board.failed(ELEVEN, error(reason))
    (row,) = bench.board.health([ELEVEN])
    assert row.state == "down" and row.breaker == "open"
    assert row.detail.startswith(sentence) and "(said by the vendor). It is tried again in" in row.detail
    assert sentence in caplog.text and str(ELEVEN) in caplog.text


def test_an_unknown_voice_shuts_out_that_voice_alone(bench: Bench) -> None:
    bench.board.failed(ELEVEN, error("unknown_voice", "no voice mara"), voice="mara")
    assert not bench.board.allows(ELEVEN, "mara")
    assert bench.board.allows(ELEVEN, "adam") and bench.board.allows(ELEVEN)
    bench.board.succeeded(ELEVEN, first_audio_ms=80, voice="adam")
    route, voice = bench.board.health([ELEVEN])
    assert route.state == "up"
    assert voice.state == "down" and voice.detail.startswith("voice mara: The voice is unknown: correct it")
    assert [row.state for row in bench.board.health([POD])] == ["unknown"]
    bench.board.probed(ELEVEN, settles={"unknown_voice"}, voice="mara")
    assert bench.board.allows(ELEVEN, "mara") and len(bench.board.health([ELEVEN])) == 1


def test_changes_are_logged_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(50):
            bench.board.failed(POD, error("unreachable"))
        bench.now_ms += 3_600_000
        assert bench.board.health([POD])[0].detail.endswith("The next call tries it.")
        for _ in range(50):
            bench.board.began(POD)
            bench.board.succeeded(POD, first_audio_ms=100)
    told = [record.message for record in caplog.records]
    assert len(told) == 2, told
    assert "is left alone for now: Cannot be reached" in told[0]
    assert told[1] == f"speech by {POD} works again"


def test_on_trial_one_call_goes_ahead(bench: Bench) -> None:
    bench.board.failed(POD, error("unauthorized"))
    bench.now_ms += 60_000
    assert bench.board.allows(POD)
    bench.board.began(POD)
    assert not bench.board.allows(POD)
    bench.board.gave_up(POD)
    assert bench.board.allows(POD)


def test_probes_close_what_they_settle_and_show_streams(bench: Bench) -> None:
    bench.board.probe_failed(POD, error=error("unreachable"))
    assert not bench.board.allows(POD)
    bench.board.probed(
        POD, settles={"unreachable"}, round_trip_ms=3.14159, note="30 of 32 streams free", streams=(30, 32)
    )
    (row,) = bench.board.health([POD])
    assert (row.state, row.detail, row.latency_ms) == ("up", "30 of 32 streams free", 3.1)
    assert (row.streams_free, row.streams_capacity, row.first_audio_ms) == (30, 32, None)


def test_latency_follows_what_calls_meet(bench: Bench) -> None:
    for _ in range(100):
        bench.board.succeeded(POD, first_audio_ms=100)
    for _ in range(30):
        bench.board.succeeded(POD, first_audio_ms=200)
    first_audio_ms = bench.board.health([POD])[0].first_audio_ms
    assert first_audio_ms == pytest.approx(200, abs=1)


def test_outcomes_are_counted(bench: Bench) -> None:
    bench.board.succeeded(POD, first_audio_ms=250)
    bench.board.failed(POD, error("timeout"))
    bench.board.gave_up(POD)
    bench.board.failed_over("begin")
    bench.board.failed_over("middle", 7)
    bench.board.retried("middle", 5)
    assert bench.counted == {
        ("sesame_ws", "ok"): 1,
        ("sesame_ws", 0.25): 1,
        ("sesame_ws", "timeout"): 1,
        ("sesame_ws", "cancelled"): 1,
        ("begin", 0): 1,
        ("middle", 7): 1,
        ("again", "middle", 5): 1,
    }


def test_how_fast_a_voice_speaks_is_learnt(bench: Bench) -> None:
    assert bench.board.rate_ms_per_char(POD, "3") is None
    bench.board.learn(POD, "3", characters=3, ms=900)  # too short to tell
    bench.board.learn(POD, "3", characters=100, ms=0)
    assert bench.board.rate_ms_per_char(POD, "3") is None
    bench.board.learn(POD, "3", characters=100, ms=6000)
    assert bench.board.rate_ms_per_char(POD, "3") == 60
    for _ in range(50):
        bench.board.learn(POD, "3", characters=50, ms=4000)
    assert bench.board.rate_ms_per_char(POD, "3") == pytest.approx(80, abs=0.1)
    assert bench.board.rate_ms_per_char(POD, "4") is None


def test_memory_is_bounded(bench: Bench) -> None:
    for number in range(3000):
        key = RouteKey("sesame_ws", f"http://pod-{number}")
        bench.board.succeeded(key, first_audio_ms=1)
        bench.board.learn(POD, f"voice-{number}", characters=100, ms=6000)
        bench.board.failed(ELEVEN, error("unknown_voice"), voice=f"voice-{number}")
    assert len(bench.board.health()) <= 256 + 1024
    assert bench.board.rate_ms_per_char(POD, "voice-0") is None
    assert bench.board.rate_ms_per_char(POD, "voice-2999") == 60


def test_a_voice_that_fails_while_others_speak_is_left_alone_by_itself(bench: Bench) -> None:
    for _ in range(6):
        bench.board.succeeded(POD, first_audio_ms=80, voice="mara")
        bench.board.failed(POD, error("generation_failed"), voice="broken")
    assert bench.board.allows(POD, "mara")
    assert not bench.board.allows(POD, "broken")
    assert [(row.state, "voice broken" in row.detail) for row in bench.board.health([POD])] == [
        ("up", False),
        ("down", True),
    ]


def test_when_no_other_voice_speaks_the_route_is_at_fault(bench: Bench) -> None:
    bench.board.succeeded(POD, first_audio_ms=80, voice="mara")
    bench.now_ms += 31_000
    for _ in range(3):
        bench.board.failed(POD, error("generation_failed"), voice="other")
    assert not bench.board.allows(POD, "mara")


def test_an_address_without_a_model_stays_down_though_the_server_answers(bench: Bench) -> None:
    hosted = RouteKey("sesame_hosted", "https://models.example/gone")
    bench.board.failed(hosted, error("not_found"))
    bench.board.probed(hosted, settles={"unreachable"})
    assert bench.board.health([hosted])[0].state == "down"
